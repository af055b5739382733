import { StartupError } from '../lib/startup-error.js';

const MAX_QUOTED = 80;
const CONTROL = /[\p{Cc}\p{Zl}\p{Zp}]/gu;

/** A mistake in the settings, as one line. */
export function settingError(message: string): StartupError {
  return new StartupError(message.replace(CONTROL, ' '), { exitCode: 2 });
}

/** What a user wrote, in quotes, cut where it is long. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text);
}

/**
 * Whether Kubernetes, rather than somebody, set a variable: for a Service named `realtime` it puts
 * REALTIME_PORT=tcp://10.0.0.1:8080, REALTIME_SERVICE_HOST and more into every pod of the namespace.
 */
export function isServiceLink(env: string, text: string): boolean {
  return (
    /_SERVICE_(?:HOST|PORT)(?:_[A-Z0-9_]+)?$/.test(env) ||
    /_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?$/.test(env) ||
    /^(?:tcp|udp|sctp):\/\//.test(text)
  );
}

/** What to do about a variable that Kubernetes set. */
export const SERVICE_LINK_ADVICE =
  'Kubernetes sets it in every pod beside a Service of that name: set enableServiceLinks: false in the pod, or rename the Service.';
