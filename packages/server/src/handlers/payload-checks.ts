import { ProtocolError } from '@goforward/realtime-protocol';
import type { ReceivedMessage } from '../connections/decode.js';
import { firstProblem } from '../lib/schema-problem.js';

/** Throws VALIDATION_FAILED unless the event of the message is `known`. */
export function requireEvent({ type, event }: ReceivedMessage, known: string): void {
  if (event === known) return;
  throw new ProtocolError('VALIDATION_FAILED', {
    details: `event: must be ${known} for ${type}`,
    fields: { field: 'event' },
  });
}

/** Returns VALIDATION_FAILED for a payload that `validator` has rejected. */
export function invalidPayload(
  validator: Parameters<typeof firstProblem>[0],
  payload: unknown,
): ProtocolError {
  const { field, details } = firstProblem(validator, payload, 'payload');
  return new ProtocolError('VALIDATION_FAILED', { details, fields: { field } });
}
