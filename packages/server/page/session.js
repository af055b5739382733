const STORED = 'goforward-realtime.demo-session';
const CHANNEL_NAME = /^[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,99}$/;
/** The characters allowed in a WebSocket subprotocol, which carries the token. */
const TOKEN_TEXT = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;
const EXPIRY_MARGIN_MS = 60_000;

/** @typedef {{ user_id: string, token: string, channel: string, example_table?: string }} Session */

/**
 * Returns the claims of a token without verifying it; null when it cannot be decoded.
 *
 * @param {string} token
 * @returns {Record<string, unknown> | null}
 */
function tokenClaims(token) {
  try {
    const part = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims === 'object' ? claims : null;
  } catch {
    return null;
  }
}

/**
 * Removes quotes, whitespace and `Bearer` from a pasted token.
 *
 * @param {string} text
 */
export function cleanToken(text) {
  return text
    .trim()
    .replace(/^bearer\s+/i, '')
    .replaceAll(/\s+/g, '')
    .replaceAll(/^["']|["']$/g, '');
}

/** @param {string} token */
export function isTokenText(token) {
  return TOKEN_TEXT.test(token);
}

/** @param {string} name */
export function isChannelName(name) {
  return CHANNEL_NAME.test(name);
}

/** Returns the channel in the page's address (`#channel=name`), or null. */
export function channelOfAddress() {
  return new URLSearchParams(location.hash.slice(1)).get('channel');
}

/**
 * Puts the channel into the page's address, so that it can be shared. The token stays out of it.
 *
 * @param {string} channel
 */
export function rememberChannel(channel) {
  const parameters = new URLSearchParams({ channel });
  history.replaceState(null, '', `#${parameters.toString().replaceAll('%3A', ':')}`);
}

/** @param {string} token */
function isStillValid(token) {
  const expiry = tokenClaims(token)?.exp;
  return typeof expiry !== 'number' || expiry * 1000 > Date.now() + EXPIRY_MARGIN_MS;
}

/**
 * The demo user that a server without settings gives to this page, kept in the tab's session storage. A configured
 * server gives none.
 */
export class DemoSession {
  /** @type {Session | null} */
  #current = null;
  #mayRenew = true;

  /** @returns {Promise<Session | null>} */
  async start() {
    this.#current = this.#stored() ?? (await this.#fetch());
    return this.#current;
  }

  /**
   * Returns a new demo token in place of a refused one; null when there is none, when the refused token is not the
   * demo user's, or when a new one was refused just before.
   *
   * @param {string} refused
   * @returns {Promise<string | null>}
   */
  async renew(refused) {
    if (!this.#mayRenew || refused !== this.#current?.token) return null;
    this.#mayRenew = false;
    this.#current = await this.#fetch();
    return this.#current?.token ?? null;
  }

  /** After an accepted connection, a refused token may be renewed again. */
  accepted() {
    this.#mayRenew = true;
  }

  /** @returns {Session | null} */
  #stored() {
    try {
      const session = JSON.parse(sessionStorage.getItem(STORED) ?? 'null');
      return typeof session?.token === 'string' && isStillValid(session.token) ? session : null;
    } catch {
      return null;
    }
  }

  /** @param {Session} session */
  #store(session) {
    try {
      sessionStorage.setItem(STORED, JSON.stringify(session));
    } catch {
      // Without session storage, each load gets a new demo user.
    }
  }

  /** @returns {Promise<Session | null>} */
  async #fetch() {
    try {
      const response = await fetch('/demo-session', { cache: 'no-store' });
      if (response.status !== 200) return null;
      const session = await response.json();
      this.#store(session);
      return session;
    } catch {
      return null;
    }
  }
}
