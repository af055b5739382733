import { get, post } from './http.js';

/**
 * @typedef {object} RowsPanelOptions
 * @property {HTMLFormElement} tableForm
 * @property {HTMLInputElement} table
 * @property {HTMLButtonElement} subscribe
 * @property {HTMLFormElement} rowForm
 * @property {HTMLInputElement} content
 * @property {HTMLButtonElement} insert
 * @property {HTMLElement} state what the panel last did, in words
 * @property {(fault: import('./words.js').Fault) => void} onFault
 */

/** Subscribes the channel to a table and, on a server as it comes, inserts rows into the example table. */
export class RowsPanel {
  #options;
  /** @type {import('./connection.js').Target | null} */
  #target = null;
  /** The table that demo users may subscribe to and insert into; undefined on a configured server. */
  #exampleTable;

  /** @param {RowsPanelOptions} options */
  constructor(options) {
    this.#options = options;
    const { tableForm, subscribe, rowForm, insert } = options;
    this.#onSubmit(tableForm, subscribe, (target) => this.#subscribe(target));
    this.#onSubmit(rowForm, insert, (target) => this.#insert(target));
  }

  /** @param {string | undefined} exampleTable */
  offerExample(exampleTable) {
    this.#exampleTable = exampleTable;
    this.#options.rowForm.hidden = exampleTable === undefined;
    if (exampleTable !== undefined) this.#options.table.value = exampleTable;
  }

  /** @param {import('./connection.js').Target | null} target the channel and the token to act with; null: not connected */
  follow(target) {
    if (target?.channel !== this.#target?.channel) this.#options.state.textContent = '';
    this.#target = target;
    const { subscribe, insert } = this.#options;
    for (const button of [subscribe, insert]) button.disabled = target === null;
  }

  /**
   * One answer is waited for before the next is asked for.
   *
   * @param {HTMLFormElement} form
   * @param {HTMLButtonElement} button
   * @param {(target: import('./connection.js').Target) => Promise<void>} work
   */
  #onSubmit(form, button, work) {
    const submit = async () => {
      const target = this.#target;
      if (target === null) return this.#options.onFault({ code: 'NOT_CONNECTED' });
      if (button.disabled) return;
      button.disabled = true;
      try {
        await work(target);
      } catch (fault) {
        this.#options.onFault(/** @type {import('./words.js').Fault} */ (fault));
      }
      button.disabled = this.#target === null;
    };
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void submit();
    });
  }

  /** @param {import('./connection.js').Target} target */
  async #subscribe({ channel, token }) {
    const name = this.#options.table.value.trim();
    if (name === '') return this.#options.table.focus();
    const [schema, table] = name.includes('.') ? name.split(/\.(.*)/s) : ['public', name];
    const place = `channels/${encodeURIComponent(channel)}/subscribe`;
    const { warnings = [], visibility = [] } =
      name === this.#exampleTable
        ? await post(`/demo/${place}`, token, {})
        : await post(`/realtime/${place}`, token, { schema, table });
    const tiers = visibility.length > 0 ? visibility : await tiersOf(token, schema, table);
    this.#say([
      `${channel} gets the changes of ${name}; each member those of rows it may see.`,
      ...tiers.map(({ role, tier, reason }) => `For ${role}: ${tier}, ${reason}.`),
      ...warnings,
    ]);
  }

  /** @param {import('./connection.js').Target} target */
  async #insert({ token }) {
    const { content } = this.#options;
    if (content.value.trim() === '') return content.focus();
    await post('/demo/messages', token, { content: content.value });
    content.value = '';
    this.#say(['The row is in the table.']);
  }

  /** @param {string[]} sentences */
  #say(sentences) {
    this.#options.state.textContent = sentences.join(' ');
  }
}

/** @typedef {{ role: string, tier: string, reason: string }} Tier how rows of a table are judged for a database role */

/**
 * Only server admins are told; for others there are none.
 *
 * @param {string} token
 * @param {string | undefined} schema
 * @param {string | undefined} table
 * @returns {Promise<Tier[]>}
 */
async function tiersOf(token, schema, table) {
  const { triggers } = await get('/realtime/triggers', token).catch(() => ({ triggers: [] }));
  for (const known of triggers) if (known.table === table && known.schema === schema) return known.visibility;
  return [];
}
