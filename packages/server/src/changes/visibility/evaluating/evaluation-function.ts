import { literal, quoted } from '../../../postgres/sql/identifier.js';
import type { TableFacts } from '../../model/table-facts.js';
import { fingerprintSql } from './catalog-fingerprint.js';

/** How much of an error's message is read, in characters: it may hold values of the row. */
const MAX_ERROR_LENGTH = 200;

/** What a function judges for: a table in one state of the catalog, as one role. */
export interface EvaluationScope {
  readonly facts: TableFacts;
  readonly fingerprint: string;
  readonly role: string;
}

/** A temporary function's text; `key` is equal for equal ones. */
export interface EvaluationFunction {
  readonly key: string;
  /** What it answers with, as a list of columns. */
  readonly columns: string;
  /** The statement that makes it. */
  definition(name: string): string;
}

/**
 * Judges the contexts of one role on rows of one table. The function takes texts alone: one that named the table's
 * type would keep the table from being dropped.
 *
 * It takes the rows as an array of composite literals, and for each context its settings and the rows to judge
 * (their numbers from 1; none: all). It answers for each context, by its number from 1, which rows are visible, and
 * on which the predicate failed. Nothing is answered when the fingerprint is another one. Where the time ran out, the
 * last answer has the number of the context that it ran out on, negated.
 */
export function policiesFunction(scope: EvaluationScope, predicate: string): EvaluationFunction {
  // The round 0 has no rows and runs as our own login: there the names in the policies are looked up, to which the
  // role may have no right, as it needs none in a SELECT.
  const work = `
  FOR "gf$i" IN 0 .. cardinality("gf$users") LOOP
    "gf$some" := '{}';
    "gf$numbers" := NULL;
    IF "gf$i" > 0 THEN
      ${setRoleSql(scope.role, '"gf$i" = 1')}
      PERFORM pg_catalog.set_config('app.current_user_id', "gf$users"["gf$i"], true),
              pg_catalog.set_config('request.jwt.claims', "gf$claims"["gf$i"], true);
      "gf$numbers" := "gf$subsets"["gf$i"]::int[];
      IF "gf$numbers" IS NULL THEN "gf$some" := "gf$all";
      ELSE
        FOR "gf$n" IN 1 .. cardinality("gf$numbers") LOOP
          "gf$some"["gf$n"] := "gf$all"["gf$numbers"["gf$n"]];
        END LOOP;
      END IF;
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
  const parameters = '"gf$rows" text, "gf$users" text[], "gf$claims" text[], "gf$subsets" text[]';
  return functionOf('policies', scope, [predicate], parameters, work);
}

/** Judges conditions, which are the same for everybody, on rows of one table. Answers for each, by its number from 1. */
export function conditionsFunction(
  scope: EvaluationScope,
  conditions: readonly string[],
): EvaluationFunction {
  const each = conditions.map(
    (condition, n) => `
  "gf$i" := ${n + 1};
  ${evaluationSql(condition, scope.facts)}
  item := "gf$i";
  visible := "gf$seen";
  failed := "gf$bad";
  error_state := "gf$state";
  error_text := "gf$text";
  RETURN NEXT;`,
  );
  const work = `
  ${setRoleSql(scope.role, 'true')}
  "gf$some" := "gf$all";
  ${each.join('\n')}`;
  return functionOf('conditions', scope, conditions, '"gf$rows" text', work);
}

/**
 * Evaluates expressions that are the same for all rows, for each context. Answers by the context's number from 1 the
 * JSON array of their values and of the snapshot that they were read with, or NULL where one of them raised an error.
 * Where the time ran out, the last answer has the number of the context that it ran out on, negated.
 */
export function parametersFunction(
  { facts, fingerprint, role }: EvaluationScope,
  values: readonly string[],
): EvaluationFunction {
  // As in the contexts function, names are looked up as our own login, in a round that evaluates nothing.
  const body = `
#variable_conflict use_column
DECLARE
  "gf$i" int;
  "gf$value" json;
BEGIN
  IF ${fingerprintSql(String(facts.oid))} IS DISTINCT FROM ${literal(fingerprint)} THEN RETURN; END IF;
  FOR "gf$i" IN 0 .. cardinality("gf$users") LOOP
    IF "gf$i" > 0 THEN
      ${setRoleSql(role, '"gf$i" = 1')}
      PERFORM pg_catalog.set_config('app.current_user_id', "gf$users"["gf$i"], true),
              pg_catalog.set_config('request.jwt.claims', "gf$claims"["gf$i"], true);
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
    key: JSON.stringify(['parameters', facts.oid, fingerprint, role, ...values]),
    columns: 'item, parameters',
    definition: (name) => `CREATE FUNCTION pg_temp.${quoted(name)}("gf$users" text[], "gf$claims" text[])
      RETURNS TABLE (item int, parameters json) LANGUAGE plpgsql AS ${dollarQuoted(body)}`,
  };
}

function functionOf(
  kind: string,
  { facts, fingerprint, role }: EvaluationScope,
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
BEGIN
  IF ${fingerprintSql(String(facts.oid))} IS DISTINCT FROM ${literal(fingerprint)} THEN RETURN; END IF;
  ${withGeneratedColumns(facts, type)}
  ${work}
END`;
  return {
    key: JSON.stringify([kind, facts.oid, fingerprint, role, ...predicates]),
    columns: 'item, visible, failed, error_state, error_text',
    definition: (name) => `CREATE FUNCTION pg_temp.${quoted(name)}(${parameters})
      RETURNS TABLE (item int, visible int[], failed int[], error_state text, error_text text) LANGUAGE plpgsql AS ${dollarQuoted(body)}`,
  };
}

function setRoleSql(role: string, when: string): string {
  return `IF ${when} THEN
        PERFORM pg_catalog.set_config('role', ${literal(role)}, true);
        IF CURRENT_USER <> ${literal(role)} THEN RAISE EXCEPTION 'the role was not taken'; END IF;
      END IF;`;
}

/** Asks the predicate of "gf$some", for number "gf$i": all rows at once, and, where that fails, one by one. */
function evaluationSql(predicate: string, { columns, name }: TableFacts): string {
  const alias = quoted(name);
  // Numbered rows have one column more: a predicate that takes the row as a whole must not see it.
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
          SELECT (${predicate}) INTO "gf$holds" FROM pg_catalog.unnest("gf$one") AS ${alias};
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

/** The log does not carry generated columns: they are made of the row by their own expressions. */
function withGeneratedColumns({ name, columns }: TableFacts, type: string): string {
  if (columns.every(({ generated }) => generated === null)) return '';
  const values = columns.map((column) =>
    column.generated === null ? quoted(column.name) : `(${column.generated})`,
  );
  return `"gf$all" := (SELECT pg_catalog.array_agg(ROW(${values.join(', ')})::${type})
    FROM pg_catalog.unnest("gf$all") AS ${quoted(name)});`;
}

/** The text between dollar quotes that it does not contain. */
function dollarQuoted(text: string): string {
  let tag = '$gf$';
  for (let n = 0; text.includes(tag); n++) tag = `$gf${n}$`;
  return tag + text + tag;
}
