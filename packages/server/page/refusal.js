/** How long the question may take before the server counts as out of reach. */
const TIMEOUT_MS = 8_000;
/** The close codes that stand for HTTP statuses: a refused token, a refused person. */
const CLOSE_CODES = { 401: 4401, 403: 4503 };

/**
 * Why a handshake was refused, found out by asking for the same channel over HTTP. A 404 says nothing: a
 * channel may be one that only a connection creates.
 *
 * @param {string} channel
 * @param {string} token
 * @returns {Promise<{ reachable: false } | { reachable: true, closeCode: number, fault: import('./words.js').Fault | null }>}
 */
export async function askWhyRefused(channel, token) {
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
