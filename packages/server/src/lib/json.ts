const QUOTE = 34;
const BACKSLASH = 92;
const OPEN_BRACKET = 91;
const CLOSE_BRACKET = 93;
const OPEN_BRACE = 123;
const CLOSE_BRACE = 125;

/** Reports invalid or too deeply nested JSON. The message may be sent to clients. */
export class JsonError extends Error {
  override readonly name = 'JsonError';
}

/**
 * Parses JSON of at most `maxDepth` levels. Counts the levels in the bytes before parsing, because code that
 * traverses or serializes the value later recurses. Throws JsonError.
 */
export function parseJson(bytes: Buffer, maxDepth: number): unknown {
  if (bytes.length > maxDepth * 2 && isDeeperThan(bytes, maxDepth)) {
    throw new JsonError(`nested deeper than ${maxDepth} levels`);
  }
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new JsonError('not valid JSON');
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
