/** One step in the life of our schema. A step that has been released is never changed: another follows it. */
export interface MigrationStep {
  readonly number: number;
  readonly name: string;
  /** The statements; every name in them is qualified by `schema`. */
  readonly sql: (schema: string) => string;
}

/** The steps in their order, numbered from 1. */
export const MIGRATION_STEPS: readonly MigrationStep[] = [
  {
    number: 1,
    name: 'channels',
    sql: (schema) => `
      CREATE TABLE ${schema}.channels (
        name text COLLATE "C" PRIMARY KEY CHECK (char_length(name) BETWEEN 1 AND 100),
        config json NOT NULL CHECK (json_typeof(config) = 'object'), -- jsonb refuses \\u0000 and lone surrogates
        created_at timestamptz NOT NULL DEFAULT now(),
        deleted_at timestamptz
      );
      COMMENT ON TABLE ${schema}.channels IS 'Channels made by HTTP, and the marks of deleted ones';
      REVOKE ALL ON ${schema}.channels FROM PUBLIC;`,
  },
];
