import { memberTexts } from '../lib/json-members.js';
import { EMPTY_OBJECT } from '../lib/json-text.js';
import type { PresenceFields } from './channel-presence.js';

/** Returns the fields of a state as a client has written it: its values stay as they were written. */
export function presencePatch(state = EMPTY_OBJECT): PresenceFields {
  const fields = [...memberTexts(state.text)].map(
    ([key, value]) => [key, value.text === 'null' ? null : value.copy()] as const,
  );
  return Object.fromEntries(fields);
}
