import { resolve } from 'node:path';
import { signerOf, tokenRules, verificationKey } from '../auth/token-key.js';
import type { Explanation } from '../changes/explaining/explainer.js';
import type { Settings } from '../config/settings-table.js';
import { JsonText, stringify } from '../lib/json-text.js';
import { StartupError } from '../lib/startup-error.js';
import type { Command } from './command.js';
import { parseArguments } from './parse-arguments.js';

const QUESTION_OPTIONS = [
  'user',
  'claims',
  'subscription',
  'table',
  'schema',
  'condition',
  'key',
  'row',
  'at',
] as const;
const ACCESS_OPTIONS = ['url', 'token', 'format'] as const;
const ADMIN_TOKEN_MS = 60_000;
const TIMEOUT_MS = 10_000;

type Options = Readonly<Record<string, string | undefined>>;
type Answer = Explanation & { readonly listening?: number };

/** `explain`: asks the running server why a user receives a row, or does not. */
export const explain: Command = {
  name: 'explain',
  summary: 'Explain why a user receives a row, or does not',
  usage: '--user <id> [--subscription <id> | --table <name>] [--key | --row | --at] ...',
  help: () => `Sends the question to the running server (POST /realtime/explain).

The user, one of:
  --user <id>             The user's id: claims {"sub": <id>}
  --claims <JSON>         All claims of the user's token

The subscription, one of (optional with --at):
  --subscription <id>     A subscription of a channel or of a connection
  --table <name>          A table, with --schema <name> (default: public) and --condition <SQL>

The row, one of:
  --key <JSON>            An existing row, by the values of its key, such as {"id": 7}
  --row <JSON>            Any row, by the values of its columns
  --at <cursor>           A change, by the cursor of its message, while it is in the resume window

Other options:
  --format text|json      Text (default), or the server's JSON answer
  --url <address>         The server's address (default: http://localhost and the configured port)
  --token <token>         A server admin's token (default: one signed with the configured or generated secret)

Also takes the flags of start. Exits 0 when the user receives the row, 1 when not, 2 for invalid arguments or
when the server does not answer.`,
  run: async (args) => {
    const { options, loaded } = parseArguments(args, [...QUESTION_OPTIONS, ...ACCESS_OPTIONS]);
    const { settings } = loaded;
    if (options.format !== undefined && options.format !== 'text' && options.format !== 'json')
      throw invalid('--format must be text or json.');
    const question = questionOf(options);
    const answer = await ask(
      options.url ?? `http://localhost:${settings.port}`,
      await tokenFor(options, settings),
      question,
    );
    process.stdout.write(
      `${options.format === 'json' ? JSON.stringify(answer) : lines(answer).join('\n')}\n`,
    );
    return answer.visible ? 0 : 1;
  },
};

function questionOf(options: Options): Record<string, unknown> {
  const { user, claims, subscription, table, schema, condition, key, row, at } = options;
  if ((user === undefined) === (claims === undefined)) throw invalid('Give one of --user and --claims.');
  if (subscription === undefined && table === undefined && at === undefined)
    throw invalid('Give --subscription or --table.');
  if ([key, row, at].filter((given) => given !== undefined).length !== 1)
    throw invalid('Give one of --key, --row and --at.');
  const question = {
    user: claims === undefined ? { sub: user } : values('claims', claims),
    subscription_id: subscription,
    table,
    schema,
    condition,
    key: key === undefined ? undefined : values('key', key),
    row: row === undefined ? undefined : values('row', row),
    at,
  };
  return Object.fromEntries(Object.entries(question).filter(([, value]) => value !== undefined));
}

/** Returns JSON of the command line as it was written. */
function values(option: string, text: string): JsonText {
  try {
    JSON.parse(text);
    return new JsonText(text);
  } catch {
    throw invalid(`--${option} must be JSON, such as {"id": 7}.`);
  }
}

async function tokenFor({ token }: Options, settings: Settings): Promise<string> {
  if (token !== undefined) return token;
  const sign = signerOf(
    await verificationKey(settings, resolve(settings.dataDir), process.env.NODE_ENV),
    tokenRules(settings),
  );
  const [role] = settings.adminRoles;
  if (sign === undefined || role === undefined)
    throw invalid("Give --token: without the signing key, this command cannot sign a server admin's token.");
  return sign('goforward-realtime explain', role, ADMIN_TOKEN_MS);
}

async function ask(url: string, token: string, question: object): Promise<Answer> {
  let response: Response;
  try {
    response = await fetch(new URL('/realtime/explain', url), {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: stringify(question),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new StartupError(
      `The server at ${url} does not answer. Start it, or give its address with --url.`,
      { exitCode: 2 },
    );
  }
  const body = (await response.json().catch(() => ({}))) as {
    error?: string;
    details?: string;
    reason?: string;
  };
  if (response.ok) return body as Answer;
  if (body.reason === 'signature')
    throw invalid(
      'The server refused the token: it was signed with another key. Give the settings of the server (REALTIME_JWT_SECRET or REALTIME_DATA_DIR), or --token.',
    );
  throw invalid(
    `The server answered ${response.status}: ${body.details ?? body.error ?? 'no reason given'}.`,
  );
}

/** The answer as text. */
function lines(answer: Answer): string[] {
  const { user_id: user, role, change, condition, columns_left_out: leftOut, listening } = answer;
  const what = change === undefined ? 'the row' : `the ${change.event}`;
  const as = change?.gets === 'gained' || change?.gets === 'lost' ? ` (visibility: ${change.gets})` : '';
  return [
    `${user} (as ${role}) ${answer.visible ? 'receives' : 'does not receive'} ${what}${as}.`,
    ...answer.reasons.map((reason) => `  ${reason}`),
    ...(change === undefined ? [] : ['  Evaluated with the current privileges, policies and memberships.']),
    ...answer.policies.flatMap(({ name, permissive, result, expression, error }) => [
      `${permissive ? 'policy' : 'restrictive policy'} ${name}: ${result}   ${expression.replaceAll(/\s+/g, ' ')}`,
      ...errorLines(error),
    ]),
    ...(condition === undefined
      ? []
      : [`condition: ${condition.holds}   ${condition.text}`, ...errorLines(condition.error)]),
    ...(leftOut.length === 0 ? [] : [`columns left out: ${leftOut.join(', ')}`]),
    `evaluated: ${answer.tier}, ${answer.tier_reason}`,
    ...(listening === undefined ? [] : [`connections: ${listening}`]),
  ];
}

function errorLines(error: { readonly sqlstate: string; readonly message: string } | undefined): string[] {
  return error === undefined ? [] : [`  ${error.sqlstate}: ${error.message.replaceAll(/\s+/g, ' ')}`];
}

function invalid(message: string): StartupError {
  return new StartupError(message, { exitCode: 2 });
}
