import type { Verb } from './verb.js';

/** `ping`: answered by `pong`, or by the reply when it has a `ref`. */
export const ping: Verb = ({ session, message }) => {
  if (message.ref === undefined) session.send('pong', 'pong', {});
  return {};
};
