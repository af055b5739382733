import { describe, expect, it } from 'vitest';
import type { Subscription } from '../subscriptions/subscription.js';
import type { ChangeMatch } from './filter-matches.js';
import { visibleChangeOf } from './visible-change.js';

const wants = [{ id: 'sub' }] as unknown as readonly Subscription[];

function candidate(
  kind: 'insert' | 'update' | 'delete',
  { old = true, now = true, isOldUnknown = false } = {},
): ChangeMatch {
  return {
    change: {
      streamed: { kind },
      position: 0,
      old: undefined,
      new: undefined,
      oldRow: 0,
      newRow: 1,
    } as never,
    oldSubscriptions: old ? wants : [],
    newSubscriptions: now ? wants : [],
    isOldUnknown,
  };
}

/** What comes of it where the old and the new version are visible so; undefined: that cannot be told. */
function told(of: ChangeMatch, old: boolean | undefined, now: boolean | undefined) {
  const outcome = visibleChangeOf(of, (row) => (row === 0 ? old : now));
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
  ])('of which the old version is visible: %s, the new one: %s', (old, now, expected) => {
    expect(told(candidate('update'), old, now)).toEqual(expected);
  });

  it('comes into view, or goes out of it, by the condition alone', () => {
    expect(told(candidate('update', { old: false }), true, true)).toEqual(['gained', false, true]);
    expect(told(candidate('update', { now: false }), true, true)).toEqual(['lost', true, false]);
  });

  it('of which the old version is not known does not say that the row came into view', () => {
    expect(told(candidate('update', { old: false, isOldUnknown: true }), false, true)).toEqual([
      'plain',
      false,
      true,
    ]);
  });
});

it('an insert is judged on the new version, a delete on the old one', () => {
  expect(told(candidate('insert', { old: false }), false, true)).toEqual(['plain', false, true]);
  expect(told(candidate('insert', { old: false }), true, false)).toBeUndefined();
  expect(told(candidate('delete', { now: false }), true, false)).toEqual(['plain', true, false]);
  expect(told(candidate('delete', { now: false }), false, true)).toBeUndefined();
});
