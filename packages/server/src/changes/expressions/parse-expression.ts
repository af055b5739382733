import { loadModule, parseSync, scanSync } from 'libpg-query';
import { refusal } from './condition-refusal.js';

/** A node of PostgreSQL's parse tree: an object with one key, its kind. */
export type Node = Readonly<Record<string, unknown>>;

const MAX_BYTES = 4096;
const MAX_NESTING = 100;
/** Tokens that no condition needs, with their names for messages. */
const REFUSED_TOKENS: ReadonlyMap<string, string> = new Map([
  ['SQL_COMMENT', 'comments'],
  ['C_COMMENT', 'comments'],
  ['PARAM', 'parameters'],
]);

/** Loads the parser. The caller awaits it before the first call of a parse function. */
export function loadParser(): Promise<void> {
  return loadModule();
}

/**
 * Parses one expression with PostgreSQL's own grammar. Refuses a text that is too long or nested too deep before the
 * parser sees it, and any text that is not exactly one expression.
 */
export function parseExpression(text: string): Node {
  guard(text);
  try {
    for (const { tokenName, text: token } of scanSync(text).tokens) refuseToken(tokenName, token);
  } catch (error) {
    throw asRefusal(error);
  }
  return onlyExpression(text);
}

/** Parses an expression that our own printer or PostgreSQL printed, without the limits of `parseExpression`. */
export function parsePrinted(text: string): Node {
  return onlyExpression(text);
}

function guard(text: string): void {
  if (text.length > MAX_BYTES || Buffer.byteLength(text) > MAX_BYTES)
    throw refusal(`The condition is longer than ${MAX_BYTES} bytes`);
  if (text.trim() === '') throw refusal('The condition is empty');
  if (text.includes('\0') || /\p{Surrogate}/u.test(text))
    throw refusal('The condition has characters that PostgreSQL does not accept');
  let depth = 0;
  for (const char of text) {
    if (char === '(' || char === '[') depth += 1;
    else if (char === ')' || char === ']') depth -= 1;
    if (depth > MAX_NESTING)
      throw refusal(`The condition is nested too deep: at most ${MAX_NESTING} levels of parentheses`);
  }
}

function refuseToken(name: string, text: string): void {
  const what = REFUSED_TOKENS.get(name);
  if (what !== undefined) throw refusal(`A condition cannot contain ${what}`);
  if (text === ';') throw refusal('A condition must be one expression, without a semicolon');
  if (/^[uU]&["']/.test(text) || /^[eE]'.*\\[uU]/s.test(text))
    throw refusal('A condition cannot contain Unicode escapes');
  if (name === 'SCONST' && text.startsWith('$')) throw refusal('A condition cannot contain dollar quotes');
}

function onlyExpression(text: string): Node {
  let statements: readonly Node[];
  try {
    statements = (parseSync(`SELECT ${text}\n`) as { stmts?: Node[] }).stmts ?? [];
  } catch (error) {
    throw asRefusal(error);
  }
  const [statement] = statements;
  const select = part(part(statement, 'stmt'), 'SelectStmt');
  const { targetList, limitOption, op, ...others } = select ?? {};
  const targets = Array.isArray(targetList) ? targetList : [];
  const target = part(targets[0], 'ResTarget');
  const isPlain = limitOption === 'LIMIT_OPTION_DEFAULT' && op === 'SETOP_NONE';
  if (statements.length !== 1 || targets.length !== 1 || !isPlain || Object.keys(others).length > 0) {
    throw refusal('A condition must be one boolean expression and nothing else');
  }
  const { val, ...more } = target ?? {};
  const isNamed = Object.keys(more).some((key) => key !== 'location');
  if (typeof val !== 'object' || val === null || isNamed)
    throw refusal('A condition must be one boolean expression and nothing else');
  return val as Node;
}

function part(node: unknown, key: string): Node | undefined {
  if (typeof node !== 'object' || node === null) return undefined;
  const found = (node as Node)[key];
  return typeof found === 'object' && found !== null ? (found as Node) : undefined;
}

/** Converts a parser error to a refusal, with PostgreSQL's own message for a syntax error. */
function asRefusal(error: unknown): Error {
  if (error instanceof Error && error.name === 'ProtocolError') return error;
  const words = error instanceof Error && error.name === 'SqlError' ? error.message : 'it cannot be parsed';
  return refusal(`The condition is not valid: ${words}`);
}
