import { fingerprintSql } from '../../../postgres/sql/catalog-fingerprint.js';
import { literal, quoted } from '../../../postgres/sql/identifier.js';
import type { TableFacts } from '../../model/table-facts.js';
import { areVisibleSql } from './visible-transactions.js';

/** How much of an error's message is returned, in characters: it can hold values of the row. */
const MAX_ERROR_LENGTH = 200;

/** What a function is made for: a table in one state of the catalog, and a role. */
export interface EvaluationScope {
  readonly facts: TableFacts;
  readonly fingerprint: string;
  readonly role: string;
  /** The settings of contexts, in the order in which their values are given. */
  readonly settingNames: readonly string[];
}

/** A temporary function; equal functions have equal keys. */
export interface EvaluationFunction {
  readonly key: string;
  /** The columns of its result, comma-separated. */
  readonly columns: string;
  /** The statement that creates it. */
  definition(name: string): string;
}

/**
 * Evaluates the policies of a table on rows for viewers of one role. The parameters are texts alone: a
 * parameter of the table's type would prevent the table from being dropped.
 *
 * Parameters: the transactions of the rows, the rows as an array of composite literals, for each viewer the rows to
 * evaluate (their numbers from 1; NULL: all), and for each setting its values of all viewers. Returns for each viewer, by its number from 1, which rows are
 * visible, on which the predicate raised an error, and the first of these errors. Returns nothing if the
 * fingerprint has changed, and one row of NULLs while the transactions are not visible yet. After a timeout the last
 * item is the negated number of the viewer that was being evaluated.
 */
export function policiesFunction(scope: EvaluationScope, predicate: string): EvaluationFunction {
  // Round 0 has no rows and runs as our own login, to look up the names in the policies: the role may lack
  // USAGE on their schemas, which a SELECT does not need.
  const work = `
  ${RETURN_UNLESS_VISIBLE}
  FOR "gf$i" IN 0 .. cardinality("gf$s0") LOOP
    "gf$some" := '{}';
    "gf$numbers" := NULL;
    IF "gf$i" > 0 THEN
      ${setRoleSql(scope.role, '"gf$i" = 1')}
      ${setting(scope.settingNames)}
      ${SELECT_SUBSET}
    END IF;
    ${evaluationSql(predicate, scope.facts)}
    CONTINUE WHEN "gf$i" = 0;
    item := "gf$i";
    visible := "gf$seen";
    failed := "gf$bad";
    error_state := "gf$state";
    error_text := "gf$text";
    RETURN NEXT;
  END LOOP;`;
  const parameters = `"gf$xids" numeric[], "gf$rows" text, "gf$subsets" text[], ${settingParameters(scope.settingNames)}`;
  return functionOf('policies', scope, [predicate], parameters, work);
}

/**
 * Evaluates conditions, which do not depend on the viewer, on rows of a table. Parameters: the rows, and for each condition
 * those to evaluate, as above. Returns as above, by the condition's number from 1, and how long each took.
 */
export function conditionsFunction(
  scope: EvaluationScope,
  conditions: readonly string[],
): EvaluationFunction {
  const each = conditions.map(
    (condition, n) => `
  "gf$i" := ${n + 1};
  "gf$some" := '{}';
  ${SELECT_SUBSET}
  "gf$begun" := pg_catalog.clock_timestamp();
  ${evaluationSql(inOrder(condition), scope.facts)}
  took_ms := 1000 * extract(epoch FROM pg_catalog.clock_timestamp() - "gf$begun");
  item := "gf$i";
  visible := "gf$seen";
  failed := "gf$bad";
  error_state := "gf$state";
  error_text := "gf$text";
  RETURN NEXT;`,
  );
  const work = `
  ${setRoleSql(scope.role, 'true')}
  ${each.join('\n')}`;
  return functionOf('conditions', scope, conditions, '"gf$rows" text, "gf$subsets" text[]', work);
}

/**
 * Evaluates expressions that are the same for all rows, for each viewer. Returns by the viewer's number from
 * 1 a JSON array of their values and of the snapshot that they were read in, or NULL if one raised an error:
 * the policies are then evaluated on rows, which gives the error. After a timeout, and while transactions are not
 * visible yet, as above. Parameters: the transactions, and for each setting its values of all viewers.
 */
export function parametersFunction(
  { facts, fingerprint, role, settingNames }: EvaluationScope,
  values: readonly string[],
): EvaluationFunction {
  // Round 0 looks up names as our own login, as in the policies function, and evaluates nothing.
  const body = `
#variable_conflict use_column
DECLARE
  "gf$i" int;
  "gf$value" json;
BEGIN
  IF ${fingerprintSql(String(facts.oid))} IS DISTINCT FROM ${literal(fingerprint)} THEN RETURN; END IF;
  ${RETURN_UNLESS_VISIBLE}
  FOR "gf$i" IN 0 .. cardinality("gf$s0") LOOP
    IF "gf$i" > 0 THEN
      ${setRoleSql(role, '"gf$i" = 1')}
      ${setting(settingNames)}
    END IF;
    BEGIN
      SELECT pg_catalog.json_build_array(${[...values, 'pg_catalog.pg_current_snapshot()::text'].join(', ')}) INTO "gf$value" WHERE "gf$i" > 0;
    EXCEPTION WHEN query_canceled THEN
      item := -"gf$i";
      RETURN NEXT;
      RETURN;
    WHEN OTHERS THEN
      "gf$value" := NULL;
    END;
    CONTINUE WHEN "gf$i" = 0;
    item := "gf$i";
    parameters := "gf$value";
    RETURN NEXT;
  END LOOP;
END`;
  return {
    key: JSON.stringify(['parameters', facts.oid, fingerprint, role, settingNames, ...values]),
    columns: 'item, parameters',
    definition: (
      name,
    ) => `CREATE FUNCTION pg_temp.${quoted(name)}("gf$xids" numeric[], ${settingParameters(settingNames)})
      RETURNS TABLE (item int, parameters json) LANGUAGE plpgsql AS ${dollarQuoted(body)}`,
  };
}

/** What is read from tables must have the effects of the transactions that were read from the WAL. */
const RETURN_UNLESS_VISIBLE = `IF NOT ${areVisibleSql('"gf$xids"')} THEN RETURN NEXT; RETURN; END IF;`;

/** Has item "gf$i" evaluated on its rows alone. "gf$some" is empty before. */
const SELECT_SUBSET = `"gf$numbers" := "gf$subsets"["gf$i"]::int[];
      IF "gf$numbers" IS NULL THEN "gf$some" := "gf$all";
      ELSE
        FOR "gf$n" IN 1 .. cardinality("gf$numbers") LOOP
          "gf$some"["gf$n"] := "gf$all"["gf$numbers"["gf$n"]];
        END LOOP;
      END IF;`;

function functionOf(
  kind: string,
  { facts, fingerprint, role, settingNames }: EvaluationScope,
  predicates: readonly string[],
  parameters: string,
  work: string,
): EvaluationFunction {
  const type = `${quoted(facts.schema)}.${quoted(facts.name)}`;
  const body = `
#variable_conflict use_column
DECLARE
  "gf$all" ${type}[] := "gf$rows"::${type}[];
  "gf$some" ${type}[];
  "gf$one" ${type}[];
  "gf$numbers" int[];
  "gf$seen" int[];
  "gf$bad" int[];
  "gf$holds" boolean;
  "gf$state" text;
  "gf$text" text;
  "gf$i" int;
  "gf$begun" timestamptz;
BEGIN
  IF ${fingerprintSql(String(facts.oid))} IS DISTINCT FROM ${literal(fingerprint)} THEN RETURN; END IF;
  ${withGeneratedColumns(facts, type)}
  ${work}
END`;
  return {
    key: JSON.stringify([kind, facts.oid, fingerprint, role, settingNames, ...predicates]),
    columns: 'item, visible, failed, error_state, error_text, took_ms',
    definition: (name) => `CREATE FUNCTION pg_temp.${quoted(name)}(${parameters})
      RETURNS TABLE (item int, visible int[], failed int[], error_state text, error_text text, took_ms float8) LANGUAGE plpgsql AS ${dollarQuoted(body)}`,
  };
}

/** One array for each setting: its value in each context. */
function settingParameters(names: readonly string[]): string {
  return names.map((_, n) => `"gf$s${n}" text[]`).join(', ');
}

/** Sets them for the context "gf$i". */
function setting(names: readonly string[]): string {
  const calls = names.map((name, n) => `pg_catalog.set_config(${literal(name)}, "gf$s${n}"["gf$i"], true)`);
  return `PERFORM ${calls.join(', ')};`;
}

function setRoleSql(role: string, when: string): string {
  return `IF ${when} THEN
        PERFORM pg_catalog.set_config('role', ${literal(role)}, true);
        IF CURRENT_USER <> ${literal(role)} THEN RAISE EXCEPTION 'SET ROLE had no effect'; END IF;
      END IF;`;
}

/**
 * Evaluates the predicate on "gf$some", for item "gf$i": on all rows at once and, after an error, one by one.
 */
function evaluationSql(predicate: string, { columns, name }: TableFacts): string {
  const alias = quoted(name);
  // WITH ORDINALITY adds a column, which a predicate over the whole row must not see.
  const isNumbered = !predicate.includes('.*') && columns.every((column) => column.name !== 'ordinality');
  const select = isNumbered
    ? `SELECT pg_catalog.array_agg("ordinality"::int) INTO "gf$seen"
        FROM pg_catalog.unnest("gf$some") WITH ORDINALITY AS ${alias} WHERE (${predicate});`
    : `SELECT pg_catalog.array_agg("gf$q"."gf$n") INTO "gf$seen" FROM (
        SELECT pg_catalog.row_number() OVER () AS "gf$n", (${predicate}) AS "gf$ok"
        FROM pg_catalog.unnest("gf$some") AS ${alias}
      ) AS "gf$q" WHERE "gf$q"."gf$ok";`;
  return `BEGIN
      "gf$bad" := NULL;
      ${select}
      IF "gf$numbers" IS NOT NULL THEN
        FOR "gf$n" IN 1 .. coalesce(cardinality("gf$seen"), 0) LOOP
          "gf$seen"["gf$n"] := "gf$numbers"["gf$seen"["gf$n"]];
        END LOOP;
      END IF;
    EXCEPTION WHEN query_canceled THEN
      item := -"gf$i";
      RETURN NEXT;
      RETURN;
    WHEN OTHERS THEN
      "gf$seen" := '{}';
      FOR "gf$n" IN 1 .. cardinality("gf$some") LOOP
        BEGIN
          "gf$one" := "gf$some"["gf$n":"gf$n"];
          SELECT true INTO "gf$holds" FROM pg_catalog.unnest("gf$one") AS ${alias} WHERE (${predicate});
          IF "gf$holds" THEN "gf$seen" := "gf$seen" || coalesce("gf$numbers"["gf$n"], "gf$n"); END IF;
        EXCEPTION WHEN query_canceled THEN
          item := -"gf$i";
          RETURN NEXT;
          RETURN;
        WHEN OTHERS THEN
          IF "gf$bad" IS NULL THEN
            GET STACKED DIAGNOSTICS "gf$state" = RETURNED_SQLSTATE, "gf$text" = MESSAGE_TEXT;
            "gf$text" := pg_catalog.left("gf$text", ${MAX_ERROR_LENGTH});
          END IF;
          "gf$bad" := "gf$bad" || coalesce("gf$numbers"["gf$n"], "gf$n");
        END;
      END LOOP;
    END;`;
}

/**
 * PostgreSQL sorts the parts of a top-level AND by their costs, unless something is around it. It would do so where all
 * rows are evaluated at once, but not for one row: an error on one row would decide whether another raises one too.
 */
function inOrder(condition: string): string {
  return `(${condition}) IS TRUE`;
}

/** Computes generated columns, which the WAL does not carry, by their own expressions. */
function withGeneratedColumns({ name, columns }: TableFacts, type: string): string {
  if (columns.every(({ generated }) => generated === null)) return '';
  const values = columns.map((column) =>
    column.generated === null ? quoted(column.name) : `(${column.generated})`,
  );
  return `"gf$all" := (SELECT pg_catalog.array_agg(ROW(${values.join(', ')})::${type})
    FROM pg_catalog.unnest("gf$all") AS ${quoted(name)});`;
}

/** Quotes the text with dollar quotes that it does not contain. */
function dollarQuoted(text: string): string {
  let tag = '$gf$';
  for (let n = 0; text.includes(tag); n++) tag = `$gf${n}$`;
  return tag + text + tag;
}
