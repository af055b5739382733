const encoder = new TextEncoder();
/** The maximum size of the message around a payload, in bytes. */
const ENVELOPE_BYTES = 80;
const TALLEST = 160;

/**
 * @typedef {import('./error-texts.js').Fault} Fault
 * @typedef {object} ComposerOptions
 * @property {HTMLFormElement} chatForm
 * @property {HTMLTextAreaElement} message
 * @property {HTMLFormElement} eventForm
 * @property {HTMLInputElement} event
 * @property {HTMLTextAreaElement} payload
 * @property {HTMLElement} problem shows why a payload is invalid
 * @property {HTMLButtonElement[]} buttons
 * @property {(event: string, payload: unknown) => Promise<unknown>} publish
 * @property {(fault: Fault) => void} onFault
 * @property {() => void} onSuccess
 */

/** The forms for sending a chat message, and any event with a JSON payload. */
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
      // While an input method composes, Enter confirms its text.
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
    payload.addEventListener('input', () => this.#showProblem(''));
  }

  /**
   * @param {boolean} enabled
   * @param {number} [maxBytes] the server's maximum message size
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
      this.#showProblem('Enter an event name.');
      event.focus();
      return;
    }
    let data;
    try {
      data = payload.value.trim() === '' ? {} : JSON.parse(payload.value);
    } catch (error) {
      // Keep the position, without the whole text that browsers append.
      const position =
        error instanceof Error ? error.message.replace(/, (\.\.\.)?".*is not valid JSON$/s, '') : '';
      this.#showProblem(`This is not valid JSON: ${position}`);
      payload.focus();
      return;
    }
    this.#showProblem('');
    await this.#publish(event.value.trim(), data);
  }

  /**
   * @param {string} event
   * @param {unknown} payload
   * @returns {Promise<boolean>} whether the server accepted it
   */
  async #publish(event, payload) {
    const { publish, onFault, onSuccess } = this.#options;
    const size = encoder.encode(JSON.stringify({ event, payload })).length + ENVELOPE_BYTES;
    if (size > this.#maxBytes) {
      // The server would close the connection.
      onFault({ code: 'MESSAGE_TOO_LARGE', max_bytes: this.#maxBytes });
      return false;
    }
    try {
      await publish(event, payload);
      onSuccess();
      return true;
    } catch (fault) {
      onFault(/** @type {Fault} */ (fault));
      return false;
    }
  }

  /** @param {string} problem */
  #showProblem(problem) {
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
