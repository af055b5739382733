import { entryOf } from './entry.js';

/** The maximum number of entries; the oldest are removed. */
const CAPACITY = 500;
/** Messages are rendered in batches: one layout for many. */
const BATCH_MS = 30;
/** A scroll position within this distance of the end counts as the end, in pixels. */
const END_TOLERANCE = 40;

/**
 * @typedef {import('./connection.js').Message} Message
 * @typedef {import('./entry.js').Reader} Reader
 */

/** The list of the latest messages, which can be paused, filtered and cleared. It follows its end while that is visible. */
export class Stream {
  #list;
  #scroller;
  #pauseButton;
  #latestButton;
  #empty;
  /** @type {Message[]} */
  #waiting = [];
  /** @type {Reader} */
  #reader = { userId: '', joinedAt: '' };
  #paused = false;
  #followsEnd = true;
  #unseen = 0;
  #held = 0;
  #timer = 0;

  /**
   * @param {{ list: HTMLElement, scroller: HTMLElement, pauseButton: HTMLElement, latestButton: HTMLElement, empty: HTMLElement }} parts
   */
  constructor({ list, scroller, pauseButton, latestButton, empty }) {
    this.#list = list;
    this.#scroller = scroller;
    this.#pauseButton = pauseButton;
    this.#latestButton = latestButton;
    this.#empty = empty;
    scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    pauseButton.addEventListener('click', () => this.#setPaused(!this.#paused));
    latestButton.addEventListener('click', () => this.#toEnd());
    // After an entry was expanded, the end may no longer be visible: new messages must not scroll the entry away.
    list.addEventListener('click', () => this.#scrolled());
    // The window, or the keyboard of a phone, changes the height.
    new ResizeObserver(() => this.#followsEnd && this.#toEnd()).observe(scroller);
  }

  /** @param {Reader} reader */
  setReader(reader) {
    this.#flush();
    this.#reader = reader;
  }

  /** @param {Message} message */
  add(message) {
    this.#waiting.push(message);
    if (this.#waiting.length > CAPACITY) this.#waiting.shift();
    if (this.#paused) {
      this.#held += 1;
      this.#showPaused();
    } else if (this.#timer === 0) {
      this.#timer = setTimeout(() => this.#flush(), BATCH_MS);
    }
  }

  clear() {
    this.#waiting = [];
    this.#held = 0;
    this.#list.replaceChildren();
    this.#empty.hidden = false;
    this.#showPaused();
    this.#toEnd();
  }

  /**
   * Shows or hides a group of messages. Hidden messages stay in the list.
   *
   * @param {string} group
   * @param {boolean} shown
   */
  filter(group, shown) {
    this.#list.classList.toggle(`hide-${group}`, !shown);
    if (this.#followsEnd) this.#toEnd();
  }

  /** @param {boolean} paused */
  #setPaused(paused) {
    this.#flush();
    this.#paused = paused;
    this.#held = 0;
    this.#flush();
    this.#showPaused();
  }

  #showPaused() {
    const held = this.#held === 0 ? '' : ` (${this.#held.toLocaleString()})`;
    this.#pauseButton.textContent = this.#paused ? `Resume${held}` : 'Pause';
    this.#pauseButton.classList.toggle('active', this.#paused);
  }

  #flush() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    if (this.#paused || this.#waiting.length === 0) return;
    const entries = this.#waiting.map((message) => entryOf(message, this.#reader));
    this.#waiting = [];
    if (entries.some(({ dataset }) => dataset.group === 'message' || dataset.group === 'rows'))
      this.#empty.hidden = true;
    this.#list.append(...entries);
    while (this.#list.childElementCount > CAPACITY) this.#list.firstElementChild?.remove();
    if (this.#followsEnd) this.#toEnd();
    else this.#showUnseen(this.#unseen + entries.length);
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#followsEnd = scrollHeight - scrollTop - clientHeight < END_TOLERANCE;
    if (this.#followsEnd) this.#showUnseen(0);
    else this.#latestButton.hidden = false;
  }

  #toEnd() {
    this.#followsEnd = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#showUnseen(0);
  }

  /** @param {number} count */
  #showUnseen(count) {
    this.#unseen = count;
    this.#latestButton.hidden = this.#followsEnd;
    this.#latestButton.textContent = count === 0 ? 'Jump to latest' : `${count.toLocaleString()} new below`;
  }
}
