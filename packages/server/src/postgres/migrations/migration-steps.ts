/** One migration of the server's schema. A released step is never changed: a new step follows it. */
export interface MigrationStep {
  readonly number: number;
  readonly name: string;
  /** Returns the statements. Every name in them is qualified by `schema`. */
  readonly sql: (schema: string) => string;
}

/** The first key of the outbox's advisory locks: "rtob" in ASCII. */
export const OUTBOX_LOCKS = 0x72746f62;

/** All steps in order, numbered from 1 without gaps. */
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
      ALTER TABLE ${schema}.streams ADD COLUMN memo jsonb NOT NULL DEFAULT '{}', ADD COLUMN publication oid, ADD COLUMN holder text;
      COMMENT ON COLUMN ${schema}.streams.holder IS 'Which server reads the slot: the position is nobody else''s to write';
      COMMENT ON COLUMN ${schema}.streams.memo IS 'The newest change of each table that cannot be read again';`,
  },
  {
    number: 4,
    name: 'messages from SQL',
    sql: (schema) => `
      CREATE TABLE ${schema}.message_secret (secret bytea NOT NULL);
      COMMENT ON TABLE ${schema}.message_secret IS 'What messages that are sent by SQL are signed with; nobody but the owner may read it';
      REVOKE ALL ON ${schema}.message_secret FROM PUBLIC;
      INSERT INTO ${schema}.message_secret
        SELECT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));
      ${sendFunction(schema, `pg_logical_emit_message(true, 'goforward.message', `)}
      COMMENT ON FUNCTION ${schema}.send IS 'Sends a message to the members of a channel when the transaction commits';
      REVOKE ALL ON FUNCTION ${schema}.send FROM PUBLIC;
      CREATE FUNCTION ${schema}.broadcast_changes(channel text, event text, operation text, table_name text, table_schema text, new_record record, old_record record)
      RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
      BEGIN
        PERFORM ${schema}.send(channel, event, jsonb_build_object('operation', operation, 'schema', table_schema,
          'table', table_name, 'record', to_jsonb(new_record), 'old_record', to_jsonb(old_record)));
      END $function$;
      COMMENT ON FUNCTION ${schema}.broadcast_changes IS 'For triggers: sends what happened to a row to the members of a channel';
      REVOKE ALL ON FUNCTION ${schema}.broadcast_changes FROM PUBLIC;`,
  },
  {
    number: 5,
    name: 'trigger source',
    sql: (schema) => `
      CREATE TABLE ${schema}.change_source (name text NOT NULL CHECK (name IN ('logical', 'trigger')));
      COMMENT ON TABLE ${schema}.change_source IS 'Where the server reads changes: what is sent by SQL goes there';
      CREATE TABLE ${schema}.outbox (
        seq bigint GENERATED ALWAYS AS IDENTITY,
        xid xid8 NOT NULL,
        table_oid oid NOT NULL,
        kind "char" NOT NULL,
        old_row text,
        new_row text
      ) WITH (autovacuum_vacuum_scale_factor = 0.1);
      CREATE INDEX outbox_xid ON ${schema}.outbox (xid);
      COMMENT ON TABLE ${schema}.outbox IS 'What triggers tell of changes, until the resume window has passed over it';
      CREATE TABLE ${schema}.outbox_batches (
        end_position bigint PRIMARY KEY,
        start_position bigint NOT NULL,
        seen_before pg_snapshot NOT NULL,
        seen pg_snapshot NOT NULL,
        shapes json NOT NULL,
        read_at timestamptz NOT NULL DEFAULT clock_timestamp()
      );
      COMMENT ON TABLE ${schema}.outbox_batches IS 'What was read together: the transactions that one snapshot sees and the one before does not';
      CREATE TABLE ${schema}.outbox_shapes (table_oid oid PRIMARY KEY, shape json NOT NULL);
      COMMENT ON TABLE ${schema}.outbox_shapes IS 'The columns that tables had when they were last read';
      REVOKE ALL ON ${schema}.change_source, ${schema}.outbox, ${schema}.outbox_batches, ${schema}.outbox_shapes FROM PUBLIC;
      CREATE FUNCTION ${schema}.notify_table_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
      SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET DateStyle = 'ISO, MDY' SET IntervalStyle = 'iso_8601'
      SET extra_float_digits = '1' SET bytea_output = 'hex' SET lc_monetary = 'C' AS $function$
      BEGIN
        INSERT INTO ${schema}.outbox (xid, table_oid, kind, old_row, new_row) VALUES (pg_current_xact_id(), TG_RELID, left(TG_OP, 1)::"char",
          CASE WHEN TG_OP IN ('UPDATE', 'DELETE') THEN OLD::text END, CASE WHEN TG_OP IN ('INSERT', 'UPDATE') THEN NEW::text END);
        ${wake(schema)}
        RETURN NULL;
      END $function$;
      COMMENT ON FUNCTION ${schema}.notify_table_changes IS 'The trigger function of tables whose changes are read without logical decoding';
      REVOKE ALL ON FUNCTION ${schema}.notify_table_changes FROM PUBLIC;
      CREATE FUNCTION ${schema}.emit_message(content text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
      BEGIN
        IF EXISTS (SELECT FROM ${schema}.change_source WHERE name = 'trigger') THEN
          INSERT INTO ${schema}.outbox (xid, table_oid, kind, new_row) VALUES (pg_current_xact_id(), 0, 'M', content);
          ${wake(schema)}
        ELSE
          PERFORM pg_logical_emit_message(true, 'goforward.message', content);
        END IF;
      END $function$;
      COMMENT ON FUNCTION ${schema}.emit_message IS 'Puts a signed message where the server reads changes';
      REVOKE ALL ON FUNCTION ${schema}.emit_message FROM PUBLIC;
      ${sendFunction(schema, `${schema}.emit_message(`)}`,
  },
  {
    number: 6,
    name: 'depth of messages from SQL',
    sql: (schema) => sendFunction(schema, `${schema}.emit_message(`, REFUSE_DEEP_PAYLOAD),
  },
];

/** PL/pgSQL that refuses a payload of more than 64 levels: an array or object within 64 others. */
const REFUSE_DEEP_PAYLOAD = `IF jsonb_path_exists(payload, 'strict $.**{64} ? (@.type() == "array" || @.type() == "object")') THEN
          RAISE EXCEPTION 'payload: JSON is nested at most 64 levels deep' USING ERRCODE = '22023';
        END IF;
        `;

/**
 * Returns PL/pgSQL that notifies the reader of the outbox only while it sleeps, which it shows by holding
 * this lock. An active reader polls by itself, and a NOTIFY in every transaction would cost writers much
 * throughput.
 */
function wake(schema: string): string {
  return `IF NOT pg_try_advisory_xact_lock_shared(${OUTBOX_LOCKS}, hashtext('${schema}.asleep')) THEN
          PERFORM pg_notify('table_changes', '');
        END IF;`;
}

/**
 * Returns the definition of `send`. `emit` is the beginning of the call that stores the signed content, its
 * last argument. `check` are statements that refuse a payload.
 */
function sendFunction(schema: string, emit: string, check = ''): string {
  return `CREATE OR REPLACE FUNCTION ${schema}.send(channel text, event text, payload jsonb DEFAULT '{}', type text DEFAULT 'message')
      RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
      DECLARE
        content text := json_build_object('channel', channel, 'event', event, 'type', type, 'payload', payload)::text;
        xid text := (pg_current_xact_id()::text::numeric % 4294967296)::text;
        key bytea;
      BEGIN
        IF channel IS NULL OR channel !~ '^[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,99}$' THEN
          RAISE EXCEPTION 'channel: % is no name of a channel', coalesce(quote_literal(channel), 'NULL') USING ERRCODE = '22023';
        END IF;
        IF event IS NULL OR char_length(event) NOT BETWEEN 1 AND 200 THEN
          RAISE EXCEPTION 'event: an event has a name of 1 to 200 characters' USING ERRCODE = '22023';
        END IF;
        IF type IS NULL OR type NOT IN ('message', 'broadcast') THEN
          RAISE EXCEPTION 'type: messages are of type message or broadcast' USING ERRCODE = '22023';
        END IF;
        ${check}IF octet_length(content) > 1048576 THEN
          RAISE EXCEPTION 'payload: a message has at most 1 MB' USING ERRCODE = '22023';
        END IF;
        SELECT secret INTO STRICT key FROM ${schema}.message_secret;
        PERFORM ${emit}
          encode(sha256(key || sha256(key || convert_to(xid || ':' || content, 'UTF8'))), 'hex') || content);
      END $function$;`;
}
