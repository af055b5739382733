/**
 * The matrix of what the server runs on: the oldest and the newest PostgreSQL that we support, times the two sources of
 * row changes. `npm test` runs a test on the cells that its file names; `npm run test:matrix` (TEST_MATRIX=full) runs it
 * on all of them.
 */
const POSTGRES_VERSIONS = ['newest', 'oldest'] as const;
export type PostgresVersion = (typeof POSTGRES_VERSIONS)[number];

const CHANGE_SOURCES = ['logical', 'trigger'] as const;
export type ChangeSource = (typeof CHANGE_SOURCES)[number];

/** A PostgreSQL and a source of row changes. */
export interface Cell {
  readonly postgres: PostgresVersion;
  readonly source: ChangeSource;
}

const isFull = process.env.TEST_MATRIX === 'full';

/** The versions to test on where the source does not matter, for `describe.each`. */
export function postgresVersions(...short: readonly PostgresVersion[]): readonly PostgresVersion[] {
  return isFull ? POSTGRES_VERSIONS : short;
}

/** The sources to test with on the newest PostgreSQL. */
export function changeSources(...short: readonly ChangeSource[]): readonly ChangeSource[] {
  return isFull ? CHANGE_SOURCES : short;
}

/** The cells to test on where both matter. */
export function cells(...short: readonly Cell[]): readonly Cell[] {
  if (!isFull) return short;
  return POSTGRES_VERSIONS.flatMap((postgres) => CHANGE_SOURCES.map((source) => ({ postgres, source })));
}

export function isPostgresVersion(text: string): text is PostgresVersion {
  return POSTGRES_VERSIONS.some((version) => version === text);
}
