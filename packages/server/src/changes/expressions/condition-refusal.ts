import { ProtocolError } from '@goforward/realtime-protocol';

/** Creates the error for a condition that is refused. `details` says why, to its author. */
export function refusal(details: string): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', { details, fields: { field: 'condition' } });
}

/** Why a condition with words for the present is refused. */
export const PRESENT_REFUSED =
  'A condition cannot contain values that depend on the time or the session, such as CURRENT_DATE; use literal dates and times';
