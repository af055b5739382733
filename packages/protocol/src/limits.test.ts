import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CHANNEL_NAME_PATTERN, LIMITS, SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX } from './limits.js';

const isName = (text: string) => new RegExp(CHANNEL_NAME_PATTERN).test(text);
const allowed = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.:'.split('');

describe('channel names', () => {
  it('are 1 to 100 of the allowed characters, not starting with a dot', () => {
    const name = fc.string({ unit: fc.constantFrom(...allowed), maxLength: 130, size: 'max' });
    fc.assert(
      fc.property(name, (text) => {
        const fits = text.length >= 1 && text.length <= LIMITS.channelNameLength && !text.startsWith('.');
        expect(isName(text)).toBe(fits);
      }),
    );
  });

  it('contain no other character at any position', () => {
    const parts = fc.string({ unit: fc.constantFrom(...allowed), maxLength: 10 });
    const stranger = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 1 })
      .filter((c) => !allowed.includes(c));
    fc.assert(
      fc.property(parts, stranger, parts, (before, c, after) => {
        expect(isName(`a${before}${c}${after}`)).toBe(false);
      }),
    );
  });

  it.each(['a\n', '\na', 'a/b', '..', '.hidden', 'a b', 'ä', '', 'a\0'])('exclude %j', (text) => {
    expect(isName(text)).toBe(false);
  });

  it.each(['a', '-', ':', '_', '0', 'a.', 'a..b', 'room:42.eu-west_1', 'x'.repeat(100)])(
    'include %s',
    (text) => {
      expect(isName(text)).toBe(true);
    },
  );
});

it('sub-protocols are tokens of RFC 7230, as the handshake requires', () => {
  for (const text of [SUBPROTOCOL, `${TOKEN_SUBPROTOCOL_PREFIX}eyJhbGciOiJIUzI1NiJ9.e30.c2ln-_`]) {
    expect(text).toMatch(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/);
  }
});
