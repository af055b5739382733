const encoder = new TextEncoder();
/** What the envelope around a payload needs at most, in bytes. */
const ENVELOPE_BYTES = 80;
const TALLEST = 160;

/**
 * @typedef {import('./words.js').Fault} Fault
 * @typedef {object} ComposerOptions
 * @property {HTMLFormElement} chatForm
 * @property {HTMLTextAreaElement} message
 * @property {HTMLFormElement} eventForm
 * @property {HTMLInputElement} event
 * @property {HTMLTextAreaElement} payload
 * @property {HTMLElement} problem where a faulty payload is explained
 * @property {HTMLButtonElement[]} buttons
 * @property {(event: string, payload: unknown) => Promise<unknown>} publish
 * @property {(fault: Fault) => void} onFault
 * @property {() => void} onSent
 */

/** The two ways to write: a chat line, and any event with any JSON. */
export class Composer {
  #options;
  #enabled = false;
  #maxBytes = Number.POSITIVE_INFINITY;

  /** @param {ComposerOptions} options */
  constructor(options) {
    this.#options = options;
    const { chatForm, message, eventForm, payload } = options;
    message.addEventListener('input', () => this.#grow());
    message.addEventListener('keydown', (event) => {
      // While an input method composes, Enter picks a word.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      chatForm.requestSubmit();
    });
    chatForm.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#sendChat();
    });
    eventForm.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#sendEvent();
    });
    payload.addEventListener('input', () => this.#complain(''));
  }

  /**
   * @param {boolean} enabled
   * @param {number} [maxBytes] the largest message that the server takes
   */
  setEnabled(enabled, maxBytes = Number.POSITIVE_INFINITY) {
    this.#enabled = enabled;
    this.#maxBytes = maxBytes;
    for (const button of this.#options.buttons) button.disabled = !enabled;
  }

  async #sendChat() {
    const { message, onFault } = this.#options;
    const text = message.value;
    if (text.trim() === '') return;
    if (!this.#enabled) return onFault({ code: 'NOT_CONNECTED' });
    message.value = '';
    this.#grow();
    message.focus();
    const sent = await this.#publish('chat_message', { message: text });
    if (sent || message.value !== '') return;
    message.value = text;
    this.#grow();
  }

  async #sendEvent() {
    const { event, payload } = this.#options;
    if (event.value.trim() === '') {
      this.#complain('An event needs a name.');
      event.focus();
      return;
    }
    let data;
    try {
      data = payload.value.trim() === '' ? {} : JSON.parse(payload.value);
    } catch (error) {
      // Browsers repeat the whole text in the message; where it goes wrong is enough.
      const place =
        error instanceof Error ? error.message.replace(/, (\.\.\.)?".*is not valid JSON$/s, '') : '';
      this.#complain(`This is not valid JSON: ${place}`);
      payload.focus();
      return;
    }
    this.#complain('');
    await this.#publish(event.value.trim(), data);
  }

  /**
   * @param {string} event
   * @param {unknown} payload
   * @returns {Promise<boolean>} whether the server took it
   */
  async #publish(event, payload) {
    const { publish, onFault, onSent } = this.#options;
    const size = encoder.encode(JSON.stringify({ event, payload })).length + ENVELOPE_BYTES;
    if (size > this.#maxBytes) {
      // Over the limit the server would have to close the connection.
      onFault({ code: 'MESSAGE_TOO_LARGE', max_bytes: this.#maxBytes });
      return false;
    }
    try {
      await publish(event, payload);
      onSent();
      return true;
    } catch (fault) {
      onFault(/** @type {Fault} */ (fault));
      return false;
    }
  }

  /** @param {string} problem */
  #complain(problem) {
    const { payload, event } = this.#options;
    this.#options.problem.textContent = problem;
    payload.setAttribute('aria-invalid', String(problem !== '' && event.value.trim() !== ''));
  }

  #grow() {
    const { message } = this.#options;
    message.style.height = 'auto';
    message.style.height = `${Math.min(TALLEST, message.scrollHeight + 2)}px`;
  }
}
