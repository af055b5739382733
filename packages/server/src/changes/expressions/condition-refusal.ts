import { ProtocolError } from '@goforward/realtime-protocol';

/** Why a condition cannot be used, in words for whoever wrote it. */
export function refusal(details: string): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', { details, fields: { field: 'condition' } });
}
