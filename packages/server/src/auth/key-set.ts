import { createLocalJWKSet, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';

/** How long the host of a key set may take to send all of it, in ms. */
const TIMEOUT_MS = 5_000;
/** A larger answer is not read to its end. */
const MAX_BYTES = 1024 * 1024;
/** Each verification compares the token with every key. */
const MAX_KEYS = 1_000;

/** Why a key set could not be used, in a few words for the log: without the URL, whose query may have a secret. */
class KeySetError extends Error {
  override readonly name = 'KeySetError';
}

/**
 * Fetches a key set (RFC 7517) and returns the lookup of its keys. Follows no redirect. Throws KeySetError, after five
 * seconds at the latest.
 */
export async function fetchKeySet(url: string, cancelled: AbortSignal): Promise<JWTVerifyGetKey> {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  try {
    const response = await fetch(url, {
      redirect: 'manual',
      headers: { accept: 'application/json, application/jwk-set+json' },
      signal: AbortSignal.any([timeout, cancelled]),
    });
    return parseKeySet(await readBody(response));
  } catch (error) {
    if (error instanceof KeySetError) throw error;
    if (timeout.aborted)
      throw new KeySetError(`its host did not send it within ${TIMEOUT_MS / 1_000} s`, { cause: error });
    throw new KeySetError(`the connection to its host failed: ${networkFault(error)}`, { cause: error });
  }
}

async function readBody({ status, body }: Response): Promise<string> {
  if (status !== 200) {
    await body?.cancel();
    const redirects = status >= 300 && status < 400 ? '; redirects are not followed' : '';
    throw new KeySetError(`its host answered with HTTP status ${status}${redirects}`);
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  // Leaving the loop cancels the rest of the answer.
  for await (const chunk of body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES) throw new KeySetError(`it is larger than ${MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function parseKeySet(text: string): JWTVerifyGetKey {
  let keySet: JSONWebKeySet;
  let keys: JWTVerifyGetKey;
  try {
    keySet = JSON.parse(text) as JSONWebKeySet;
    keys = createLocalJWKSet(keySet);
  } catch (cause) {
    throw new KeySetError('it is not a JSON Web Key Set', { cause });
  }
  const { length } = keySet.keys;
  if (length > MAX_KEYS) throw new KeySetError(`it has ${length} keys, more than ${MAX_KEYS}`);
  return keys;
}

/** Returns the code of a failed `fetch`, such as ECONNREFUSED, or what there is instead. */
function networkFault(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  if (!(cause instanceof Error)) return 'unknown error';
  return 'code' in cause ? String(cause.code) : cause.message;
}
