import { make } from './elements.js';

/** @typedef {import('./words.js').Explanation} Explanation */

/** The place where errors are told in words, with the time until the next try below them. */
export class ProblemBanner {
  #banner;
  #text;
  #retry;
  #timer = 0;

  /** @param {{ banner: HTMLElement, text: HTMLElement, retry: HTMLElement, dismiss: HTMLElement }} parts */
  constructor({ banner, text, retry, dismiss }) {
    this.#banner = banner;
    this.#text = text;
    this.#retry = retry;
    dismiss.addEventListener('click', () => this.clear());
  }

  /** @param {Explanation} explanation */
  show({ title, advice, technical }) {
    this.#text.replaceChildren(make('strong', { text: title }), ' ', make('span', { text: advice }));
    if (technical !== '') this.#text.append(' ', make('code', { className: 'technical', text: technical }));
    this.#banner.hidden = false;
  }

  clear() {
    this.#text.replaceChildren();
    this.#banner.hidden = true;
  }

  /**
   * Counts down to the next try. Not announced: only the error itself is.
   *
   * @param {number | null} retryAt milliseconds since the epoch; null: none is planned
   */
  countDown(retryAt) {
    clearTimeout(this.#timer);
    this.#retry.hidden = retryAt === null;
    if (retryAt === null) return;
    const left = retryAt - Date.now();
    const seconds = Math.ceil(left / 1000);
    this.#retry.textContent = seconds > 1 ? `Trying again in ${seconds} s.` : 'Trying again.';
    if (left > 0) this.#timer = setTimeout(() => this.countDown(retryAt), left % 1000 || 1000);
  }
}
