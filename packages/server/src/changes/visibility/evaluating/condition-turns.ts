import type { ConditionRequest } from '../authorizer.js';

/** The payer of a request, by which it takes its turn. */
function payerOf({ payers: [first = ''] }: ConditionRequest): string {
  return first;
}

/**
 * Splits requests into calls of at most `size`. Payers take turns, so that no call is full of the conditions of one while
 * another waits.
 */
export function callsByTurns(requests: readonly ConditionRequest[], size: number): ConditionRequest[][] {
  const waiting = new Map<string, ConditionRequest[]>();
  for (const request of requests) {
    const own = waiting.get(payerOf(request));
    if (own === undefined) waiting.set(payerOf(request), [request]);
    else own.push(request);
  }
  const ordered: ConditionRequest[] = [];
  for (let turn = 0; ordered.length < requests.length; turn++)
    for (const own of waiting.values()) ordered.push(...own.slice(turn, turn + 1));
  const calls: ConditionRequest[][] = [];
  for (let n = 0; n < ordered.length; n += size) calls.push(ordered.slice(n, n + size));
  return calls;
}

/**
 * Returns the median time of a call's conditions, in ms. Each payer counts once, by its own median, so that one with many
 * slow conditions does not make the call look slow. `yardstickMs`, the time of a condition that costs nothing, counts like
 * a payer's: a call of one payer has nothing else to compare with.
 */
export function medianOfCall(
  call: readonly ConditionRequest[],
  times: readonly number[],
  yardstickMs: number,
): number {
  const byPayer = new Map<string, number[]>();
  for (const [n, request] of call.entries()) {
    const own = byPayer.get(payerOf(request)) ?? [];
    own.push(times[n] ?? 0);
    byPayer.set(payerOf(request), own);
  }
  return lowerMedian([yardstickMs, ...[...byPayer.values()].map(lowerMedian)]);
}

function lowerMedian(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[(values.length - 1) >> 1] ?? 0;
}
