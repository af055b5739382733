import type { Verb } from './verb.js';

/** Handles `ping`: answers with `pong`, or with the reply when it has a `ref`. */
export const ping: Verb = ({ session, message }) => {
  if (message.ref === undefined) session.send('pong', 'pong', {});
  return {};
};
