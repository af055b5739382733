import { resolve } from 'node:path';
import { signerOf, tokenRules, verificationKey } from '../auth/token-key.js';
import type { Explanation } from '../changes/explaining/explainer.js';
import type { Settings } from '../config/settings-table.js';
import { StartupError } from '../lib/startup-error.js';
import type { Command } from './command.js';
import { settingsOfArguments } from './settings-of-arguments.js';

const OPTIONS = [
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
const ACCESS = ['url', 'token', 'format'] as const;
const ADMIN_TOKEN_MS = 60_000;
const TIMEOUT_MS = 10_000;

type Own = Readonly<Record<string, string | undefined>>;
type Answer = Explanation & { readonly listening?: number };

/** `explain`: why a user gets a row, or does not, as the running server answers it. */
export const explain: Command = {
  name: 'explain',
  summary: 'Tell why a user gets a row, or does not',
  help: () => `Usage: goforward-realtime explain --user <id> [--subscription <id> | --table <name>] [--key | --row | --at] ...

Asks the running server (POST /realtime/explain).

  --user <id>             Whom it is about: the claims {"sub": <id>}
  --claims <JSON>         All claims of the user's token, instead
  --subscription <id>     The subscription, of a channel or a connection's own
  --table <name>          Or the table, with --schema <name> (default: public) and --condition <SQL>
  --key <JSON>            A row that is there: values by column, such as {"id": 7}
  --row <JSON>            Or any row
  --at <cursor>           Or a change, by the cursor of its message, while it is in the resume window
  --format text|json      For people (default), or the answer of the server as it is
  --url <address>         The server (default: http://localhost and the port of the settings)
  --token <token>         A server admin's token (default: one signed with the configured or generated secret)

Also takes the flags of start. Exits 0 when the user gets it, 1 when not, 2 for a wrong question.`,
  run: async (args) => {
    const { own, loaded } = settingsOfArguments(args, [...OPTIONS, ...ACCESS]);
    const { settings } = loaded;
    if (own.format !== undefined && own.format !== 'text' && own.format !== 'json')
      throw wrong('--format must be text or json.');
    const question = questionOf(own);
    const answer = await ask(
      own.url ?? `http://localhost:${settings.port}`,
      await tokenFor(own, settings),
      question,
    );
    process.stdout.write(`${own.format === 'json' ? JSON.stringify(answer) : lines(answer).join('\n')}\n`);
    return answer.visible ? 0 : 1;
  },
};

function questionOf(own: Own): Record<string, unknown> {
  const { user, claims, subscription, table, schema, condition, key, row, at } = own;
  if ((user === undefined) === (claims === undefined)) throw wrong('One of --user and --claims is needed.');
  if (subscription === undefined && table === undefined && at === undefined)
    throw wrong('--subscription or --table is needed.');
  if ([key, row, at].filter((given) => given !== undefined).length !== 1)
    throw wrong('One of --key, --row and --at is needed.');
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

function values(option: string, text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw wrong(`--${option} must be JSON, such as {"id": 7}.`);
  }
}

async function tokenFor({ token }: Own, settings: Settings): Promise<string> {
  if (token !== undefined) return token;
  const sign = signerOf(await verificationKey(settings, resolve(settings.dataDir)), tokenRules(settings));
  const [role] = settings.adminRoles;
  if (sign === undefined || role === undefined)
    throw wrong("--token is needed: a server admin's token cannot be signed here.");
  return sign('goforward-realtime explain', role, ADMIN_TOKEN_MS);
}

async function ask(url: string, token: string, question: object): Promise<Answer> {
  let response: Response;
  try {
    response = await fetch(new URL('/realtime/explain', url), {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(question),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new StartupError(
      `There is no answer from ${url}. Is the server running? --url names another address.`,
      {
        exitCode: 2,
      },
    );
  }
  const body = (await response.json().catch(() => ({}))) as { error?: string; details?: string };
  if (response.ok) return body as Answer;
  throw wrong(`The server answered ${response.status}: ${body.details ?? body.error ?? 'no reason'}.`);
}

/** The answer for people. */
function lines(answer: Answer): string[] {
  const { user_id: user, role, change, condition, columns_left_out: leftOut, listening } = answer;
  const what = change === undefined ? 'the row' : `the ${change.event}`;
  const as = change?.gets === 'gained' || change?.gets === 'lost' ? `, as one that is ${change.gets}` : '';
  return [
    `${user} (as ${role}) ${answer.visible ? 'gets' : 'does not get'} ${what}${as}.`,
    ...answer.reasons.map((reason) => `  ${reason}`),
    ...(change === undefined ? [] : ['  So it is by rights, policies and memberships as they are now.']),
    ...answer.policies.flatMap(({ name, permissive, result, expression, error }) => [
      `${permissive ? 'policy' : 'restrictive policy'} ${name}: ${result}   ${expression.replaceAll(/\s+/g, ' ')}`,
      ...errorLines(error),
    ]),
    ...(condition === undefined
      ? []
      : [`condition: ${condition.holds}   ${condition.text}`, ...errorLines(condition.error)]),
    ...(leftOut.length === 0 ? [] : [`columns left out: ${leftOut.join(', ')}`]),
    `judged: ${answer.tier}, ${answer.tier_reason}`,
    ...(listening === undefined ? [] : [`listening: ${listening} connection${listening === 1 ? '' : 's'}`]),
  ];
}

function errorLines(error: { readonly sqlstate: string; readonly message: string } | undefined): string[] {
  return error === undefined ? [] : [`  ${error.sqlstate}: ${error.message.replaceAll(/\s+/g, ' ')}`];
}

function wrong(message: string): StartupError {
  return new StartupError(message, { exitCode: 2 });
}
