import { type ClientMessage, ProtocolError } from '@goforward/realtime-protocol';
import { firstProblem } from '../lib/problem.js';

/** Throws VALIDATION_FAILED for an event that the verb does not have. */
export function requireEvent({ type, event }: ClientMessage, known: string): void {
  if (event === known) return;
  throw new ProtocolError('VALIDATION_FAILED', {
    details: `event: the event of ${type} is ${known}`,
    fields: { field: 'event' },
  });
}

/** What is wrong with a payload that is not as its schema says. */
export function misshapen(validator: Parameters<typeof firstProblem>[0], payload: unknown): ProtocolError {
  const { field, details } = firstProblem(validator, payload, 'payload');
  return new ProtocolError('VALIDATION_FAILED', { details, fields: { field } });
}
