/** How long an answer may take before the server counts as out of reach. */
const TIMEOUT_MS = 15_000;

/**
 * Posts JSON as the holder of a token and resolves with the answer; rejects with a fault.
 *
 * @param {string} path
 * @param {string} token
 * @param {unknown} body
 * @returns {Promise<any>}
 */
export async function post(path, token, body) {
  let response;
  try {
    response = await fetch(path, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw { code: 'NO_REPLY' };
  }
  const answer = await response.json().catch(() => ({ code: 'NO_REPLY' }));
  if (!response.ok) throw answer;
  return answer;
}
