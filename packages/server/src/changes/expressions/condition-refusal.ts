import { ProtocolError } from '@goforward/realtime-protocol';

/** Creates the error for a condition that is refused. `details` says why, to its author. */
export function refusal(details: string): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', { details, fields: { field: 'condition' } });
}
