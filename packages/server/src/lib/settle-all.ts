/** Waits until all have ended, so that none goes on after a failure; then throws the first error. */
export async function settleAll<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  const [only] = promises;
  if (only !== undefined && promises.length === 1) return [await only];
  const results = await Promise.allSettled(promises);
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}
