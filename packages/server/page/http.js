/** Without an answer for this long, a request fails with NO_REPLY. */
const TIMEOUT_MS = 15_000;

/**
 * Posts JSON and resolves with the answer; rejects with a fault.
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
 * Gets a resource and resolves with the answer; rejects with a fault.
 *
 * @param {string} path
 * @param {string} token
 * @returns {Promise<any>}
 */
export function get(path, token) {
  return call(path, token, {});
}

/**
 * Deletes a resource and resolves with the answer; rejects with a fault.
 *
 * @param {string} path
 * @param {string} token
 * @returns {Promise<any>}
 */
export function remove(path, token) {
  return call(path, token, { method: 'DELETE' });
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
