/** Returns whether a JSON value has more than `maxDepth` levels of objects and arrays. Does not recurse. */
export function isNestedDeeper(value: unknown, maxDepth: number): boolean {
  let level: readonly unknown[] = [value];
  for (let depth = 0; ; depth++) {
    const containers = level.filter((item) => typeof item === 'object' && item !== null);
    if (containers.length === 0) return false;
    if (depth === maxDepth) return true;
    level = containers.flatMap((container) => Object.values(container));
  }
}
