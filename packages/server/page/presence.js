import { make } from './elements.js';
import { hueClass, shortName, timeAgo } from './format.js';

const STATUS_ORDER = ['online', 'away', 'busy'];
/** The maximum number of users shown. */
const SHOWN = 200;
/** Changes are rendered in batches: a new connection receives up to 200 users at once. */
const BATCH_MS = 30;
const AGES_MS = 30_000;

/** @typedef {{ status?: unknown, last_seen?: string, custom_message?: unknown }} State */

/** The list of users in the channel, updated by presence messages. */
export class PresenceList {
  #list;
  #more;
  #counts;
  /** @type {Map<string, State>} */
  #states = new Map();
  /** @type {Map<string, { state: State, row: HTMLElement, seen: HTMLElement }>} */
  #rows = new Map();
  #ownUser = '';
  /** The number of users that the server counted but did not list. */
  #unlisted = 0;
  #timer = 0;

  /** @param {{ list: HTMLElement, more: HTMLElement, counts: HTMLElement[] }} parts */
  constructor({ list, more, counts }) {
    this.#list = list;
    this.#more = more;
    this.#counts = counts;
    setInterval(() => this.#showAges(), AGES_MS);
  }

  /**
   * Clears the list for a new connection.
   *
   * @param {string} ownUser
   * @param {number} unlisted the number of users that the server does not list
   */
  reset(ownUser, unlisted) {
    this.#ownUser = ownUser;
    this.#unlisted = unlisted;
    this.#states.clear();
    this.#schedule();
  }

  /** @param {import('./connection.js').Message} message */
  apply({ event, payload }) {
    if (event === 'diff') {
      for (const [userId, state] of Object.entries(payload.joins ?? {})) this.#states.set(userId, state);
      for (const [userId, state] of Object.entries(payload.updates ?? {})) this.#update(userId, state);
      for (const userId of Object.keys(payload.leaves ?? {})) this.#remove(userId);
    } else if (event === 'leave') this.#remove(payload.user_id);
    else if (event === 'update') this.#update(payload.user_id, payload.state ?? {});
    else this.#states.set(payload.user_id, payload.state ?? {});
    this.#schedule();
  }

  /**
   * @param {string} userId
   * @param {State} state
   */
  #update(userId, state) {
    if (!this.#states.has(userId)) this.#unlistedBecomesKnown();
    this.#states.set(userId, state);
  }

  /** @param {string} userId */
  #remove(userId) {
    if (!this.#states.delete(userId)) this.#unlistedBecomesKnown();
  }

  #unlistedBecomesKnown() {
    this.#unlisted = Math.max(0, this.#unlisted - 1);
  }

  #schedule() {
    if (this.#timer !== 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#show();
    }, BATCH_MS);
  }

  #show() {
    const total = this.#states.size + this.#unlisted;
    for (const count of this.#counts) count.textContent = total.toLocaleString();
    const shown = [...this.#states].sort((a, b) => this.#compare(a, b)).slice(0, SHOWN);
    const kept = new Map();
    for (const [userId, state] of shown) {
      const before = this.#rows.get(userId);
      kept.set(userId, before?.state === state ? before : this.#rowOf(userId, state));
    }
    this.#rows = kept;
    this.#list.replaceChildren(...[...kept.values()].map(({ row }) => row));
    this.#more.textContent = this.#footer(total, total - shown.length);
    this.#showAges();
  }

  /**
   * The text below the list.
   *
   * @param {number} total
   * @param {number} more
   */
  #footer(total, more) {
    if (more > 0) return `and ${more.toLocaleString()} more`;
    if (total > 0) return '';
    return this.#ownUser === '' ? 'Connect to see who is here.' : 'No users.';
  }

  /**
   * Sorts the own user first, then by status and by id.
   *
   * @param {[string, State]} a
   * @param {[string, State]} b
   */
  #compare([a, stateA], [b, stateB]) {
    const rank = (userId, state) => {
      if (userId === this.#ownUser) return -1;
      const place = STATUS_ORDER.indexOf(String(state.status));
      return place === -1 ? STATUS_ORDER.length : place;
    };
    return rank(a, stateA) - rank(b, stateB) || (a < b ? -1 : 1);
  }

  /**
   * @param {string} userId
   * @param {State} state
   */
  #rowOf(userId, state) {
    const status = typeof state.status === 'string' ? state.status : 'unknown';
    const name = make('span', {
      className: `who ${hueClass(userId)}`,
      text: shortName(userId),
      title: userId,
    });
    const head = make('span', { className: 'person-head' }, name);
    if (userId === this.#ownUser) head.append(make('span', { className: 'you', text: 'you' }));
    const words = [status, typeof state.custom_message === 'string' ? state.custom_message : ''].filter(
      Boolean,
    );
    const seen = make('span', { className: 'seen' });
    const row = make(
      'li',
      { className: 'person' },
      make('span', { className: 'dot' }),
      make(
        'span',
        { className: 'person-text' },
        head,
        make('span', { className: 'state', text: words.join(' – ') }),
      ),
      seen,
    );
    row.dataset.user = userId;
    row.dataset.status = status;
    return { state, row, seen };
  }

  #showAges() {
    const now = Date.now();
    for (const { state, seen } of this.#rows.values()) {
      seen.textContent = state.last_seen === undefined ? '' : timeAgo(state.last_seen, now);
    }
  }
}
