import { describe, expect, it } from 'vitest';
import { continuation, type SlotFacts, type StreamState } from './stream-state-store.js';

const STORED: StreamState = {
  epoch: 'old',
  generation: 3,
  systemId: 's',
  timeline: 1,
  acknowledged: 100n,
  publication: 7,
  memo: { '1': '0/5/0' },
};
const SLOT: SlotFacts = { systemId: 's', timeline: 1, confirmed: 100n, publication: 7, isNew: false };
const go = (stored: StreamState | undefined, slot: Partial<SlotFacts>) =>
  continuation(stored, { ...SLOT, ...slot }, () => 'new');

describe('a stream', () => {
  it('starts a new epoch without a gap when there is no stored state', () => {
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

  it.each(['100', '40'])('continues its epoch when the slot has confirmed %s of 100', (confirmed) => {
    expect(go(STORED, { confirmed: BigInt(confirmed) })).toEqual({ state: STORED });
  });

  it.each<[string, Partial<SlotFacts>, number]>([
    ['the replication slot was advanced by another client', { confirmed: 101n }, 3],
    ['the replication slot was lost', { isNew: true, confirmed: 50n }, 4],
    ['the database was restored or failed over', { timeline: 2 }, 3],
    ['the database cluster was replaced', { systemId: 'other' }, 3],
    ['the publication was recreated', { publication: 8 }, 3],
  ])('starts a new epoch with a gap when %s', (gap, slot, generation) => {
    const { state, gap: reported } = go(STORED, slot);
    expect([reported, state.epoch, state.generation]).toEqual([gap, 'new', generation]);
    expect(state.acknowledged).toBe(slot.confirmed ?? 100n);
  });
});
