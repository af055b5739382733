/** @typedef {import('./connection.js').Connection} Connection */

/** The controls for the user's own presence: a status and a note, kept across reconnects. */
export class OwnStatus {
  #form;
  #status;
  #text;
  #button;
  #connection;
  #onFault;
  #onSuccess;

  /**
   * @param {{ form: HTMLFormElement, status: HTMLSelectElement, text: HTMLInputElement, button: HTMLButtonElement,
   *   connection: Connection, onFault: (fault: import('./error-texts.js').Fault) => void, onSuccess: () => void }} options
   */
  constructor({ form, status, text, button, connection, onFault, onSuccess }) {
    this.#form = form;
    this.#status = status;
    this.#text = text;
    this.#button = button;
    this.#connection = connection;
    this.#onFault = onFault;
    this.#onSuccess = onSuccess;
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

  /** Sends the chosen status again: after a reconnect the server lists the user as online. */
  restore() {
    if (this.#status.value !== 'online' || this.#text.value.trim() !== '') this.#send();
  }

  /**
   * Shows a change that the same user made in another tab, unless the controls are in use here.
   *
   * @param {{ status?: unknown, custom_message?: unknown }} state
   */
  show(state) {
    if (this.#form.contains(document.activeElement)) return;
    const known = [...this.#status.options].some((option) => option.value === state.status);
    if (known) this.#status.value = String(state.status);
    this.#text.value = typeof state.custom_message === 'string' ? state.custom_message : '';
  }

  #send() {
    const text = this.#text.value.trim();
    const state = { status: this.#status.value, custom_message: text === '' ? null : text };
    this.#connection.request('presence', 'update', { state }).then(this.#onSuccess, this.#onFault);
  }
}
