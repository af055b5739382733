import { describe, expect, it } from 'vitest';
import { CohortSize } from './cohort-size.js';
import { Lane } from './lane.js';

describe('a member', () => {
  it('that was never slow goes live as soon as it has caught up', () => {
    const lane = new Lane();
    lane.decided(50, 10);
    expect([lane.isQuick(10), lane.kind]).toEqual([true, 'shared']);
  });

  it('that was not decided in time, or had a slow page, goes live after a second of quick pages', () => {
    const lane = new Lane();
    lane.undecided('behind', 0);
    lane.decided(10, 900);
    expect([lane.isQuick(999), lane.isQuick(1_000)]).toEqual([false, true]);
    lane.decided(51, 950);
    expect([lane.isQuick(1_949), lane.isQuick(1_950)]).toEqual([false, true]);
    expect(lane.kind).toBe('shared');
  });

  it('that is slow itself gets pages of its own from then on', () => {
    const lane = new Lane();
    lane.undecided('slow', 0);
    lane.undecided('behind', 1);
    lane.decided(1, 2);
    expect(lane.kind).toBe('own');
  });
});

describe('the members of a shared page', () => {
  it('are half as many after each page that was decided for none of them, down to one, and twice as many after another', () => {
    const size = new CohortSize();
    expect(size.limit).toBe(Number.POSITIVE_INFINITY);
    const limits = [100, 50, 3, 1].map((members) => {
      size.tried(members, false);
      return size.limit;
    });
    expect(limits).toEqual([50, 25, 1, 1]);
    size.tried(1, true);
    size.tried(2, true);
    expect(size.limit).toBe(4);
  });
});
