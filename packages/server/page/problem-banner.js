import { make } from './elements.js';

/** @typedef {import('./error-texts.js').Explanation} Explanation */

/** Shows the latest error, with the time until the next connection attempt below it. */
export class ProblemBanner {
  #banner;
  #text;
  #retry;
  #timer = 0;
  #isNotice = false;

  /** @param {{ banner: HTMLElement, text: HTMLElement, retry: HTMLElement, dismiss: HTMLElement }} parts */
  constructor({ banner, text, retry, dismiss }) {
    this.#banner = banner;
    this.#text = text;
    this.#retry = retry;
    dismiss.addEventListener('click', () => this.clear());
  }

  /**
   * @param {Explanation} explanation
   * @param {{ isNotice?: boolean }} [options] a notice stays when an action succeeds
   */
  show({ title, advice, technical }, { isNotice = false } = {}) {
    this.#isNotice = isNotice;
    this.#text.replaceChildren(make('strong', { text: title }), ' ', make('span', { text: advice }));
    if (technical !== '') this.#text.append(' ', make('code', { className: 'technical', text: technical }));
    this.#banner.hidden = false;
  }

  clear() {
    this.#text.replaceChildren();
    this.#banner.hidden = true;
  }

  /** An action succeeded: removes the error of an earlier one. */
  succeeded() {
    if (!this.#isNotice) this.clear();
  }

  /**
   * Shows a countdown to the next connection attempt, outside the live region, so that it is not read aloud.
   *
   * @param {number | null} retryAt milliseconds since the epoch; null when none is planned
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
