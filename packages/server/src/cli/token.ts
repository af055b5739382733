import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { hasGeneratedSecret } from '../auth/generated-secret.js';
import { signerOf, tokenRules, verificationKey } from '../auth/token-key.js';
import { formatDuration, parseDuration } from '../lib/duration.js';
import { StartupError } from '../lib/startup-error.js';
import type { Command } from './command.js';
import { parseArguments } from './parse-arguments.js';

const DEFAULT_ROLE = 'user';
const DEFAULT_EXPIRES_MS = 24 * 3_600_000;

/** `token`: signs a token with the configured or generated secret and prints nothing else to stdout. */
export const token: Command = {
  name: 'token',
  summary: 'Sign a token for a user and print it',
  usage: '[--user <id>] [--role <role>] [--expires <duration>]',
  help: () => `Prints a token signed with REALTIME_JWT_SECRET, or with the generated secret of the data folder.

  --user <id>            User id: the claim sub (default: a new UUID)
  --role <role>          The claim role (default: ${DEFAULT_ROLE}); admin is a server admin's
  --expires <duration>   Lifetime, such as 1h, or never (default: ${formatDuration(DEFAULT_EXPIRES_MS)})

Also takes the flags of start, such as --data-dir.`,
  run: async (args) => {
    const { options, loaded } = parseArguments(args, ['user', 'role', 'expires']);
    const { settings } = loaded;
    const { user = randomUUID(), role = DEFAULT_ROLE, expires } = options;
    if (user === '' || role === '')
      throw new StartupError('--user and --role must not be empty.', { exitCode: 2 });
    const expiresIn = readExpires(expires);
    const dataDir = resolve(settings.dataDir);
    const hadSecret = await hasGeneratedSecret(dataDir);
    const key = await verificationKey(settings, dataDir, process.env.NODE_ENV);
    const sign = signerOf(key, tokenRules(settings));
    if (sign === undefined) {
      throw new StartupError(
        'This server verifies tokens with a public key (REALTIME_JWT_PUBLIC_KEY or REALTIME_JWKS_URL). Sign tokens with the matching private key.',
      );
    }
    if (key.kind === 'secret' && key.isGenerated === true && !hadSecret)
      process.stderr.write(
        `Generated a new secret in ${dataDir}. A server with another data folder refuses this token.\n`,
      );
    process.stdout.write(`${await sign(user, role, expiresIn)}\n`);
    return 0;
  },
};

function readExpires(text: string | undefined): number | null {
  if (text === undefined) return DEFAULT_EXPIRES_MS;
  if (text === 'never') return null;
  const ms = parseDuration(text);
  if (ms === undefined)
    throw new StartupError('--expires must be a duration such as 30s, 1h or 7d, or never.', { exitCode: 2 });
  return ms;
}
