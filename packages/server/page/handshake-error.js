/** Without an answer for this long, the server counts as unreachable. */
const TIMEOUT_MS = 8_000;
/** The close codes that correspond to HTTP statuses. */
const CLOSE_CODES = { 401: 4401, 403: 4503 };

/**
 * Finds out why a handshake was refused, which a browser does not tell, by requesting the channel over HTTP. A 404 is
 * no reason: a connection may create the channel.
 *
 * @param {string} channel
 * @param {string} token
 * @returns {Promise<{ reachable: false } | { reachable: true, closeCode: number, fault: import('./error-texts.js').Fault | null }>}
 */
export async function fetchHandshakeError(channel, token) {
  let response;
  try {
    response = await fetch(`/realtime/channels/${encodeURIComponent(channel)}`, {
      headers: { authorization: `Bearer ${token}` },
      cache: 'no-store',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    return { reachable: false };
  }
  if (response.ok || response.status === 404) return { reachable: true, closeCode: 1006, fault: null };
  const body = await response.json().catch(() => null);
  const fault = typeof body?.code === 'string' ? body : null;
  return { reachable: true, closeCode: CLOSE_CODES[response.status] ?? 1006, fault };
}
