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
export function post(path, token, body) {
  return call(path, token, { method: 'POST', body: JSON.stringify(body) });
}

/**
 * Asks as the holder of a token and resolves with the answer; rejects with a fault.
 *
 * @param {string} path
 * @param {string} token
 * @returns {Promise<any>}
 */
export function get(path, token) {
  return call(path, token, {});
}

/**
 * @param {string} path
 * @param {string} token
 * @param {{ method?: string, body?: string }} request a body is JSON
 */
async function call(path, token, request) {
  let response;
  try {
    response = await fetch(path, {
      ...request,
      headers: {
        authorization: `Bearer ${token}`,
        ...(request.body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw { code: 'NO_REPLY' };
  }
  const answer = await response.json().catch(() => ({ code: 'NO_REPLY' }));
  if (!response.ok) throw answer;
  return answer;
}
