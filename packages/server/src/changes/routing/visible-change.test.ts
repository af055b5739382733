import { describe, expect, it } from 'vitest';
import type { Subscription } from '../subscriptions/subscription.js';
import type { ChangeMatch } from './filter-matches.js';
import { visibleChangeOf } from './visible-change.js';

const subscriptions = [{ id: 'sub' }] as unknown as readonly Subscription[];

function matchOf(
  kind: 'insert' | 'update' | 'delete',
  { old = true, now = true, isOldUnknown = false } = {},
): ChangeMatch {
  return {
    change: {
      streamed: { kind },
      batchIndex: 0,
      old: undefined,
      new: undefined,
      oldRow: 0,
      newRow: 1,
    } as never,
    oldSubscriptions: old ? subscriptions : [],
    newSubscriptions: now ? subscriptions : [],
    isOldUnknown,
  };
}

/** Returns the visible part of a change by the visibility of its versions; undefined: unknown. */
function outcomeFor(match: ChangeMatch, old: boolean | undefined, now: boolean | undefined) {
  const outcome = visibleChangeOf(match, (row) => (row === 0 ? old : now));
  return outcome && [outcome.visibility ?? 'plain', outcome.showsOld, outcome.showsNew];
}

describe('an update', () => {
  it.each([
    [true, true, ['plain', true, true]],
    [false, true, ['gained', false, true]],
    [true, false, ['lost', true, false]],
    [false, false, undefined],
    [undefined, true, ['plain', false, true]],
    [undefined, false, undefined],
  ])('with the old version visible: %s, the new one: %s, gives %j', (old, now, expected) => {
    expect(outcomeFor(matchOf('update'), old, now)).toEqual(expected);
  });

  it('is sent as gained or lost by the condition alone', () => {
    expect(outcomeFor(matchOf('update', { old: false }), true, true)).toEqual(['gained', false, true]);
    expect(outcomeFor(matchOf('update', { now: false }), true, true)).toEqual(['lost', true, false]);
  });

  it('with an unknown old version is not sent as gained', () => {
    expect(outcomeFor(matchOf('update', { old: false, isOldUnknown: true }), false, true)).toEqual([
      'plain',
      false,
      true,
    ]);
  });
});

it('an insert is visible by its new version, a delete by its old one', () => {
  expect(outcomeFor(matchOf('insert', { old: false }), false, true)).toEqual(['plain', false, true]);
  expect(outcomeFor(matchOf('insert', { old: false }), true, false)).toBeUndefined();
  expect(outcomeFor(matchOf('delete', { now: false }), true, false)).toEqual(['plain', true, false]);
  expect(outcomeFor(matchOf('delete', { now: false }), false, true)).toBeUndefined();
});
