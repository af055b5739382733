import { FollowedTables } from './followed-tables.js';
import { get, post } from './http.js';

/**
 * @typedef {import('./connection.js').Target} Target
 * @typedef {import('./error-texts.js').Fault} Fault
 * @typedef {object} RowsPanelOptions
 * @property {HTMLFormElement} tableForm
 * @property {HTMLInputElement} table
 * @property {HTMLButtonElement} follow
 * @property {HTMLElement} tokenHint says which token the actions need
 * @property {HTMLElement} followed the list of followed tables
 * @property {HTMLElement} followedNote
 * @property {HTMLFormElement} rowForm
 * @property {HTMLInputElement} content
 * @property {HTMLButtonElement} insert
 * @property {HTMLElement} state the result of the last action
 * @property {(fault: Fault) => void} onFault
 * @property {() => void} onSuccess
 */

/** Lets the channel follow tables and, on a server without settings, inserts rows into the example table. */
export class RowsPanel {
  #options;
  /** @type {Target | null} */
  #target = null;
  /** The table that demo users may follow and insert into; undefined on a configured server. */
  #exampleTable;
  #followed;

  /** @param {RowsPanelOptions} options */
  constructor(options) {
    this.#options = options;
    const { tableForm, follow, rowForm, insert, followed, followedNote, onFault } = options;
    this.#onSubmit(tableForm, follow, (target) => this.#follow(target));
    this.#onSubmit(rowForm, insert, (target) => this.#insert(target));
    this.#followed = new FollowedTables({
      list: followed,
      note: followedNote,
      onFault,
      onLoaded: (canUnfollow) => {
        options.tokenHint.hidden = canUnfollow;
      },
      onUnfollowed: (name) => this.#report(`No longer following ${name}.`),
    });
  }

  /**
   * Shows what the server offers.
   *
   * @param {{ exampleTable: string | undefined, adminToken: string }} server `adminToken`: which token follows tables
   */
  setServer({ exampleTable, adminToken }) {
    const { rowForm, table, tokenHint } = this.#options;
    this.#exampleTable = exampleTable;
    rowForm.hidden = exampleTable === undefined;
    if (exampleTable !== undefined) table.value = exampleTable;
    tokenHint.textContent =
      exampleTable === undefined
        ? `Following and unfollowing need ${adminToken}.`
        : `Other tables, and unfollowing, need ${adminToken}.`;
    this.#followed.setDemo(exampleTable !== undefined);
  }

  /** @param {Target | null} target the channel and the token to act with; null while not connected */
  setTarget(target) {
    if (target?.channel !== this.#target?.channel) this.#options.state.textContent = '';
    this.#target = target;
    const { follow, insert } = this.#options;
    for (const button of [follow, insert]) button.disabled = target === null;
    if (target === null) this.#followed.clear();
  }

  /** Loads the followed tables of a new connection. */
  load() {
    if (this.#target !== null) void this.#followed.load(this.#target);
  }

  /**
   * Runs one request at a time.
   *
   * @param {HTMLFormElement} form
   * @param {HTMLButtonElement} button
   * @param {(target: Target) => Promise<void>} action
   */
  #onSubmit(form, button, action) {
    const submit = async () => {
      const target = this.#target;
      if (target === null) return this.#options.onFault({ code: 'NOT_CONNECTED' });
      if (button.disabled) return;
      button.disabled = true;
      try {
        await action(target);
      } catch (fault) {
        this.#options.onFault(/** @type {Fault} */ (fault));
      }
      button.disabled = this.#target === null;
    };
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void submit();
    });
  }

  /** @param {Target} target */
  async #follow(target) {
    const { channel, token } = target;
    const name = this.#options.table.value.trim();
    if (name === '') return this.#options.table.focus();
    const [schema, table] = name.includes('.') ? name.split(/\.(.*)/s) : ['public', name];
    const path = `channels/${encodeURIComponent(channel)}/subscribe`;
    const { warnings = [], visibility = [] } =
      name === this.#exampleTable
        ? await post(`/demo/${path}`, token, {})
        : await post(`/realtime/${path}`, token, { schema, table });
    const tiers = visibility.length > 0 ? visibility : await tiersOf(token, schema, table);
    this.#report(
      `${channel} follows ${name}. Each member receives the rows that it may see.`,
      ...tiers.map(({ role, tier, reason }) => `For ${role}: ${tier}, ${reason}.`),
      ...warnings,
    );
    await this.#followed.load(target);
  }

  /** @param {Target} target */
  async #insert({ token }) {
    const { content } = this.#options;
    if (content.value.trim() === '') return content.focus();
    await post('/demo/messages', token, { content: content.value });
    content.value = '';
    this.#report('Row inserted.');
  }

  /** @param {string[]} sentences */
  #report(...sentences) {
    this.#options.state.textContent = sentences.join(' ');
    this.#options.onSuccess();
  }
}

/** @typedef {{ role: string, tier: string, reason: string }} Tier how rows of a table are evaluated for a database role */

/**
 * Returns the tiers of a table. Only server admins may read them; for others there are none.
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
