/**
 * The test matrix: the oldest and the newest supported PostgreSQL, times the two change sources. `npm test`
 * runs a test on the cells that its file names; `npm run test:matrix` (TEST_MATRIX=full) runs it on all of
 * them.
 */
const POSTGRES_VERSIONS = ['newest', 'oldest'] as const;
export type PostgresVersion = (typeof POSTGRES_VERSIONS)[number];

const CHANGE_SOURCES = ['logical', 'trigger'] as const;
export type ChangeSource = (typeof CHANGE_SOURCES)[number];

/** A PostgreSQL version and a change source. */
export interface Cell {
  readonly postgres: PostgresVersion;
  readonly source: ChangeSource;
}

const isFull = process.env.TEST_MATRIX === 'full';

/** Returns the versions for tests that do not depend on the change source, for `describe.each`. */
export function postgresVersions(...short: readonly PostgresVersion[]): readonly PostgresVersion[] {
  return isFull ? POSTGRES_VERSIONS : short;
}

/** Returns the change sources for tests on the newest PostgreSQL. */
export function changeSources(...short: readonly ChangeSource[]): readonly ChangeSource[] {
  return isFull ? CHANGE_SOURCES : short;
}

/** Returns the cells for tests that depend on both. */
export function cells(...short: readonly Cell[]): readonly Cell[] {
  if (!isFull) return short;
  return POSTGRES_VERSIONS.flatMap((postgres) => CHANGE_SOURCES.map((source) => ({ postgres, source })));
}

export function isPostgresVersion(text: string): text is PostgresVersion {
  return POSTGRES_VERSIONS.some((version) => version === text);
}
