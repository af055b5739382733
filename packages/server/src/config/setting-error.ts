import { StartupError } from '../lib/startup-error.js';

const CONTROL = /[\p{Cc}\p{Zl}\p{Zp}]/gu;

/** Returns a StartupError of one line for a mistake in the settings; exit code 2. */
export function settingError(message: string): StartupError {
  return new StartupError(message.replace(CONTROL, ' '), { exitCode: 2 });
}

/**
 * Returns whether Kubernetes set a variable: for a Service named `realtime` it adds
 * REALTIME_PORT=tcp://10.0.0.1:8080, REALTIME_SERVICE_HOST and more to every pod of the namespace.
 */
export function isServiceLink(env: string, text: string): boolean {
  return (
    /_SERVICE_(?:HOST|PORT)(?:_[A-Z0-9_]+)?$/.test(env) ||
    /_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?$/.test(env) ||
    /^(?:tcp|udp|sctp):\/\//.test(text)
  );
}

/** The fix for a variable that Kubernetes set. */
export const SERVICE_LINK_ADVICE =
  'Kubernetes sets it in every pod of a namespace with a Service of that name. Set enableServiceLinks: false in the pod, or rename the Service.';
