/** @typedef {import('./connection.js').Connection} Connection */

/** The controls for one's own presence: a status and a short text. They outlive a reconnect. */
export class OwnStatus {
  #form;
  #status;
  #text;
  #button;
  #connection;
  #onFault;

  /**
   * @param {{ form: HTMLFormElement, status: HTMLSelectElement, text: HTMLInputElement, button: HTMLButtonElement,
   *   connection: Connection, onFault: (fault: import('./words.js').Fault) => void }} options
   */
  constructor({ form, status, text, button, connection, onFault }) {
    this.#form = form;
    this.#status = status;
    this.#text = text;
    this.#button = button;
    this.#connection = connection;
    this.#onFault = onFault;
    status.addEventListener('change', () => this.#send());
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  /** @param {boolean} enabled */
  setEnabled(enabled) {
    for (const control of [this.#status, this.#text, this.#button]) control.disabled = !enabled;
  }

  /** Says again what was chosen before: the server lists a user who comes back as online. */
  restore() {
    if (this.#status.value !== 'online' || this.#text.value.trim() !== '') this.#send();
  }

  /**
   * Follows the same user's change in another tab, unless it is being edited here.
   *
   * @param {{ status?: unknown, custom_message?: unknown }} state
   */
  follow(state) {
    if (this.#form.contains(document.activeElement)) return;
    const known = [...this.#status.options].some((option) => option.value === state.status);
    if (known) this.#status.value = String(state.status);
    this.#text.value = typeof state.custom_message === 'string' ? state.custom_message : '';
  }

  #send() {
    const text = this.#text.value.trim();
    const state = { status: this.#status.value, custom_message: text === '' ? null : text };
    this.#connection.request('presence', 'update', { state }).catch(this.#onFault);
  }
}
