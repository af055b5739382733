import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { closeMatch, editDistance, nearest } from './nearest-word.js';

describe('the nearest word', () => {
  it('is found despite a missing, a wrong, an extra or a swapped letter', () => {
    const words = ['max_channels', 'max_outbox', 'port'];
    for (const typo of ['max_chanels', 'max_chammels', 'max_channnels', 'max_chnanels']) {
      expect(nearest(typo, words)?.word).toBe('max_channels');
    }
  });

  it('is preferably a word that continues the name', () => {
    expect(nearest('max_users', ['max_outbox', 'max_users_per_channel'])).toEqual({
      word: 'max_users_per_channel',
      distance: 2,
    });
  });

  it('is undefined only without candidates', () => {
    expect(nearest('x', [])).toBeUndefined();
    expect(nearest('x', ['something else'])?.word).toBe('something else');
  });
});

describe('a close match', () => {
  it.each([
    ['strat', 'start'],
    ['docter', 'doctor'],
    ['tok', 'token'],
  ])('of "%s" is "%s"', (word, meant) => {
    expect(closeMatch(word, ['start', 'token', 'doctor'])).toBe(meant);
  });

  it.each(['p', 'xy', 'frobnicate'])('of "%s" is none', (word) => {
    expect(closeMatch(word, ['start', 'token', 'doctor'])).toBeUndefined();
  });
});

describe('the edit distance', () => {
  it.each([
    ['', '', 0],
    ['', 'abc', 3],
    ['kitten', 'sitting', 3],
    ['ab', 'ba', 1],
    ['jwks', 'jwsk', 1],
  ])('of "%s" and "%s" is %d', (a, b, distance) => {
    expect(editDistance(a, b)).toBe(distance);
  });

  it('is symmetric, zero only for equal words, and never more than the longer word', () => {
    const word = fc.string({ maxLength: 12, unit: fc.constantFrom('a', 'b', 'c') });
    fc.assert(
      fc.property(word, word, (a, b) => {
        const distance = editDistance(a, b);
        expect(distance).toBe(editDistance(b, a));
        expect(distance === 0).toBe(a === b);
        expect(distance).toBeLessThanOrEqual(Math.max(a.length, b.length));
      }),
    );
  });
});
