import { memberTexts } from '../lib/json-members.js';
import { EMPTY_OBJECT, JsonText } from '../lib/json-text.js';
import type { PresenceFields } from './channel-presence.js';

/** Returns the fields of a state as a client has written it: its values stay as they were written. */
export function presencePatch(state = EMPTY_OBJECT): PresenceFields {
  const fields = [...memberTexts(state.text)].map(
    ([key, { text }]) => [key, text === 'null' ? null : new JsonText(copyOf(text))] as const,
  );
  return Object.fromEntries(fields);
}

/** Copies a text, because V8 keeps the whole message for as long as a part of it is in use. */
function copyOf(text: string): string {
  return Buffer.from(text).toString();
}
