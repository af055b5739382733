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
  {
    number: 2,
    name: 'row changes',
    sql: (schema) => `
      CREATE TABLE ${schema}.tables (
        oid oid PRIMARY KEY,
        schema_name text NOT NULL,
        table_name text NOT NULL,
        found json NOT NULL CHECK (json_typeof(found) = 'object'),
        opted_in_at timestamptz NOT NULL DEFAULT now()
      );
      COMMENT ON TABLE ${schema}.tables IS 'Tables whose row changes are streamed; found: what to put back when one is taken out';
      CREATE TABLE ${schema}.subscriptions (
        id text COLLATE "C" PRIMARY KEY,
        channel_name text COLLATE "C" NOT NULL,
        filter json NOT NULL CHECK (json_typeof(filter) = 'object'),
        filter_key text COLLATE "C" NOT NULL,
        user_id text NOT NULL,
        db_role text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        message_count bigint NOT NULL DEFAULT 0,
        last_activity timestamptz,
        UNIQUE (channel_name, filter_key)
      );
      COMMENT ON TABLE ${schema}.subscriptions IS 'Which row changes go to which channel';
      CREATE TABLE ${schema}.streams (
        slot text COLLATE "C" PRIMARY KEY,
        epoch text NOT NULL,
        generation integer NOT NULL,
        system_id text NOT NULL,
        timeline integer NOT NULL,
        acknowledged pg_lsn NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now()
      ) WITH (fillfactor = 50);
      COMMENT ON TABLE ${schema}.streams IS 'How far the reader of each replication slot has come, and of which history';
      REVOKE ALL ON ${schema}.tables, ${schema}.subscriptions, ${schema}.streams FROM PUBLIC;`,
  },
  {
    number: 3,
    name: 'resume window',
    sql: (schema) => `
      ALTER TABLE ${schema}.streams ADD COLUMN memo jsonb NOT NULL DEFAULT '{}', ADD COLUMN publication oid;
      COMMENT ON COLUMN ${schema}.streams.memo IS 'The newest change of each table that cannot be read again';`,
  },
];
