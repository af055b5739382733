import { cleanToken, isChannelName, isTokenText } from './session.js';

/**
 * @typedef {object} ConnectFormOptions
 * @property {HTMLFormElement} form
 * @property {HTMLInputElement} channel
 * @property {HTMLInputElement} token
 * @property {HTMLElement} hint the text below the fields
 * @property {HTMLButtonElement} reveal
 * @property {HTMLButtonElement} connect
 * @property {HTMLButtonElement} disconnect
 * @property {(channel: string, token: string) => void} onConnect
 * @property {() => void} onRetry
 * @property {() => void} onDisconnect
 * @property {(code: string) => void} onInvalid
 */

/** The fields for channel and token with their buttons. It validates both before it connects. */
export class ConnectForm {
  #options;
  /** @type {import('./connection.js').Phase} */
  #phase = 'disconnected';
  #waiting = false;
  /** The values of the current connection. */
  #used = { channel: '', token: '' };

  /** @param {ConnectFormOptions} options */
  constructor(options) {
    this.#options = options;
    const { form, channel, token, reveal, disconnect, onDisconnect } = options;
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    for (const field of [channel, token]) {
      field.addEventListener('input', () => {
        field.removeAttribute('aria-invalid');
        this.#showButtons();
      });
    }
    reveal.addEventListener('click', () => this.#reveal(token.type === 'password'));
    disconnect.addEventListener('click', onDisconnect);
  }

  /** @param {{ channel?: string, token?: string }} values */
  fill({ channel, token }) {
    if (channel !== undefined) this.#options.channel.value = channel;
    if (token !== undefined) this.#options.token.value = token;
    this.#showButtons();
  }

  /**
   * Replaces a refused token without connecting.
   *
   * @param {string} token
   */
  replaceToken(token) {
    this.#used = { ...this.#used, token };
    this.fill({ token });
  }

  /** @param {string} text */
  hint(text) {
    this.#options.hint.textContent = text;
    this.#options.hint.hidden = text === '';
  }

  get hasToken() {
    return this.#options.token.value.trim() !== '';
  }

  /** Connects with the values of the fields, or reports the invalid one. */
  submit() {
    const { channel, token, onConnect, onRetry } = this.#options;
    if (!this.#changed && this.#waiting) return onRetry();
    const name = channel.value.trim();
    const secret = cleanToken(token.value);
    if (!isChannelName(name)) return this.#reject(channel, 'INVALID_CHANNEL_NAME');
    if (secret === '') return this.#reject(token, 'TOKEN_MISSING');
    if (!isTokenText(secret)) return this.#reject(token, 'INVALID_TOKEN_TEXT');
    channel.value = name;
    token.value = secret;
    this.#used = { channel: name, token: secret };
    onConnect(name, secret);
  }

  /**
   * @param {import('./connection.js').Phase} phase
   * @param {boolean} waiting for the next attempt
   */
  show(phase, waiting) {
    this.#phase = phase;
    this.#waiting = waiting;
    this.#showButtons();
  }

  get #changed() {
    const { channel, token } = this.#options;
    return channel.value.trim() !== this.#used.channel || cleanToken(token.value) !== this.#used.token;
  }

  /** Shows the connect button only when it would connect, switch or retry. */
  #showButtons() {
    const { connect, disconnect } = this.#options;
    const idle = this.#phase === 'disconnected';
    const focused = [connect, disconnect].find((button) => button === document.activeElement);
    disconnect.hidden = idle;
    connect.hidden = !idle && !this.#changed && !this.#waiting;
    connect.textContent = idle ? 'Connect' : this.#changed ? 'Switch' : 'Retry now';
    // Keyboard focus moves on when its button is hidden.
    if (focused?.hidden) (idle ? connect : disconnect).focus();
  }

  /**
   * @param {HTMLInputElement} field
   * @param {string} code
   */
  #reject(field, code) {
    field.setAttribute('aria-invalid', 'true');
    field.focus();
    this.#options.onInvalid(code);
  }

  /** @param {boolean} shown */
  #reveal(shown) {
    const { token, reveal } = this.#options;
    token.type = shown ? 'text' : 'password';
    reveal.textContent = shown ? 'Hide' : 'Show';
    reveal.setAttribute('aria-label', shown ? 'Hide the token' : 'Show the token');
  }
}
