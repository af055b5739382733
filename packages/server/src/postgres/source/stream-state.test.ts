import { describe, expect, it } from 'vitest';
import { continuation, type SlotFacts, type StreamState } from './stream-state.js';

const KEPT: StreamState = {
  epoch: 'old',
  generation: 3,
  systemId: 's',
  timeline: 1,
  acknowledged: 100n,
  publication: 7,
  memo: { '1': '0/5/0' },
};
const SLOT: SlotFacts = { systemId: 's', timeline: 1, confirmed: 100n, publication: 7, isNew: false };
const go = (kept: StreamState | undefined, slot: Partial<SlotFacts>) =>
  continuation(kept, { ...SLOT, ...slot }, () => 'new');

describe('a stream', () => {
  it('begins with an epoch of its own and without a gap', () => {
    expect(go(undefined, { isNew: true })).toEqual({
      state: {
        epoch: 'new',
        generation: 1,
        systemId: 's',
        timeline: 1,
        acknowledged: 100n,
        publication: 7,
        memo: {},
      },
    });
  });

  it.each(['100', '40'])('goes on where it was when the slot has confirmed %s of 100', (confirmed) => {
    expect(go(KEPT, { confirmed: BigInt(confirmed) })).toEqual({ state: KEPT });
  });

  it.each<[string, Partial<SlotFacts>, number]>([
    ['the replication slot was moved on by somebody else', { confirmed: 101n }, 3],
    ['the replication slot was lost', { isNew: true, confirmed: 50n }, 4],
    ['the database was restored or failed over', { timeline: 2 }, 3],
    ['the database is another one', { systemId: 'other' }, 3],
    ['the publication was made anew', { publication: 8 }, 3],
  ])('is a new one where %s', (gap, slot, generation) => {
    const { state, gap: told } = go(KEPT, slot);
    expect([told, state.epoch, state.generation]).toEqual([gap, 'new', generation]);
    expect(state.acknowledged).toBe(slot.confirmed ?? 100n);
  });
});
