import { expect, test } from 'vitest';
import { isStorableText } from './storable-text.js';

test.each(['', 'ann', 'Łukasz', 'ann 😀', '\u0001', '\ufffe', '__proto__'])(
  'PostgreSQL can store %j',
  (text) => {
    expect(isStorableText(text)).toBe(true);
  },
);

test.each(['\0', 'a\0b', '\ud83d', 'half \ud83d', '\ude00\ud83d', '\udc00x'])(
  'PostgreSQL cannot store %j',
  (text) => {
    expect(isStorableText(text)).toBe(false);
  },
);
