const QUOTE = 34;
const BACKSLASH = 92;
const OPEN_BRACKET = 91;
const CLOSE_BRACKET = 93;
const OPEN_BRACE = 123;
const CLOSE_BRACE = 125;

/** Why a text is not JSON that we take: not JSON at all, or nested deeper than `maxDepth`. */
export class JsonError extends Error {
  override readonly name = 'JsonError';
}

/**
 * Parses JSON of at most `maxDepth` levels. The depth is counted in the bytes before parsing, because
 * whatever walks or prints the value later recurses. Throws JsonError with a sentence for the client.
 */
export function parseJson(bytes: Buffer, maxDepth: number): unknown {
  if (bytes.length > maxDepth * 2 && isDeeperThan(bytes, maxDepth)) {
    throw new JsonError(`nested deeper than ${maxDepth} levels`);
  }
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new JsonError('not a JSON text');
  }
}

function isDeeperThan(bytes: Buffer, maxDepth: number): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (inString) {
      if (byte === BACKSLASH) i++;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      if (++depth > maxDepth) return true;
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth--;
  }
  return false;
}
