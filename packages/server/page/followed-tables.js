import { make } from './elements.js';
import { explainFault } from './error-texts.js';
import { get, remove } from './http.js';

const EVENT_COUNT = 3;

/**
 * @typedef {import('./connection.js').Target} Target
 * @typedef {import('./error-texts.js').Fault} Fault
 * @typedef {{ id: string, channel_name: string, active: boolean, removable: boolean,
 *   filter: { table: string, schema: string, events: string[], columns?: string[], condition?: string } }} Subscription
 */

/** The subscriptions of the channel, as far as the token may list them, with a button to end each that it may end. */
export class FollowedTables {
  #list;
  #note;
  #onFault;
  #onLoaded;
  #onUnfollowed;
  #isDemo = false;
  /** @type {Target | null} */
  #target = null;
  /** Counts what changes the list: an answer to an earlier request is old. */
  #changes = 0;

  /**
   * @param {{ list: HTMLElement, note: HTMLElement, onFault: (fault: Fault) => void,
   *   onLoaded: (canUnfollow: boolean) => void, onUnfollowed: (name: string) => void }} options `canUnfollow`: the token may
   *   end one of the subscriptions
   */
  constructor({ list, note, onFault, onLoaded, onUnfollowed }) {
    this.#list = list;
    this.#note = note;
    this.#onFault = onFault;
    this.#onLoaded = onLoaded;
    this.#onUnfollowed = onUnfollowed;
  }

  /** @param {boolean} isDemo whether the server has the example table */
  setDemo(isDemo) {
    this.#isDemo = isDemo;
  }

  clear() {
    this.#changes += 1;
    this.#target = null;
    this.#list.replaceChildren();
    this.#note.textContent = '';
  }

  /** @param {Target} target */
  async load(target) {
    this.#target = target;
    const change = ++this.#changes;
    try {
      const shown = await this.#subscriptionsOf(target);
      if (this.#changes !== change) return;
      this.#list.replaceChildren(...shown.map((subscription) => this.#itemOf(subscription)));
      this.#note.textContent = '';
      this.#onLoaded(shown.some(({ removable }) => removable));
    } catch (fault) {
      if (this.#changes !== change) return;
      const { title } = explainFault(/** @type {Fault} */ (fault));
      this.#note.textContent = `The followed tables could not be loaded: ${title}.`;
    }
  }

  /**
   * @param {Target} target
   * @returns {Promise<Subscription[]>}
   */
  async #subscriptionsOf({ channel, token }) {
    const demo = `/demo/channels/${encodeURIComponent(channel)}/subscriptions`;
    const answers = await Promise.all([
      get('/realtime/subscriptions', token),
      ...(this.#isDemo ? [get(demo, token)] : []),
    ]);
    const all = answers.flatMap(({ subscriptions }) => subscriptions);
    const byId = new Map(all.map((subscription) => [subscription.id, subscription]));
    return [...byId.values()].filter(({ channel_name }) => channel_name === channel);
  }

  /** @param {Subscription} subscription */
  #itemOf(subscription) {
    const name = nameOf(subscription);
    const label = make('span', { className: 'followed-name mono', text: name, title: name });
    const details = detailsOf(subscription);
    const item = make('li', { className: 'followed' }, label);
    if (details !== '') item.append(make('span', { className: 'followed-details', text: details }));
    if (!subscription.removable) return item;
    const button = make('button', { className: 'quiet', text: 'Unfollow' });
    button.type = 'button';
    button.setAttribute('aria-label', `Unfollow ${name}`);
    button.addEventListener('click', () => void this.#unfollow(subscription, item, button));
    item.append(button);
    return item;
  }

  /**
   * @param {Subscription} subscription
   * @param {HTMLElement} item
   * @param {HTMLButtonElement} button
   */
  async #unfollow(subscription, item, button) {
    const target = this.#target;
    if (target === null) return this.#onFault({ code: 'NOT_CONNECTED' });
    const name = nameOf(subscription);
    button.disabled = true;
    try {
      await remove(`/realtime/subscriptions/${encodeURIComponent(subscription.id)}`, target.token);
      this.#changes += 1;
      item.remove();
      this.#onUnfollowed(name);
    } catch (cause) {
      const fault = /** @type {Fault} */ (cause);
      button.disabled = false;
      item.querySelector('.problem')?.remove();
      const problem = `${name} could not be unfollowed: ${explainFault(fault).title}.`;
      item.append(make('p', { className: 'problem', text: problem }));
      this.#onFault(fault);
    }
  }
}

/** @param {Subscription} subscription */
function nameOf({ filter: { schema, table } }) {
  return schema === 'public' ? table : `${schema}.${table}`;
}

/**
 * What is not the default: the events, the columns, the condition.
 *
 * @param {Subscription} subscription
 */
function detailsOf({ active, filter: { events, columns, condition } }) {
  return [
    active ? '' : 'not enabled for row changes',
    events.length === EVENT_COUNT ? '' : events.join(', '),
    columns === undefined ? '' : `columns ${columns.join(', ')}`,
    condition === undefined ? '' : `where ${condition}`,
  ]
    .filter(Boolean)
    .join('; ');
}
