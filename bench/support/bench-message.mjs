/** The size of a message as members receive it, including JSON and envelope. */
export const MESSAGE_BYTES = 200;
const EVENT = 'bench';
/** The text before the sequence number, which has a fixed width: it can be found without parsing. */
export const MARK = Buffer.from('"payload":{"n":"');
export const DIGITS = 10;

const PAD = 'x'.repeat(
  MESSAGE_BYTES -
    JSON.stringify({
      id: `msg_${'0'.repeat(13)}_${'0'.repeat(9)}`,
      type: 'message',
      event: EVENT,
      payload: { n: '0'.repeat(DIGITS), pad: '' },
      user_id: '0'.repeat(36),
      timestamp: new Date(0).toISOString(),
    }).length,
);

/**
 * Returns the message that a publisher sends; members receive it with the envelope, MESSAGE_BYTES in all.
 * @param {number} sequence
 */
export function published(sequence) {
  const payload = { n: String(sequence).padStart(DIGITS, '0'), pad: PAD };
  return JSON.stringify({ type: 'message', event: EVENT, payload });
}

/**
 * Returns whether a delivered message is complete and equals the published one. Server versions may add
 * fields.
 * @param {string} json
 * @param {number} sequence
 * @param {string} userId of the publisher
 */
export function isDelivered(json, sequence, userId) {
  const { id, type, event, payload, user_id: sender, timestamp } = JSON.parse(json);
  return (
    /^msg_\d{13}_[0-9a-z]{9}$/.test(id) &&
    type === 'message' &&
    event === EVENT &&
    Number(payload.n) === sequence &&
    payload.pad === PAD &&
    sender === userId &&
    Math.abs(Date.now() - Date.parse(timestamp)) < 60_000
  );
}
