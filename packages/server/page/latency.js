const INTERVAL_MS = 5_000;
const SAMPLES = 24;
const WIDTH = 72;
const HEIGHT = 20;
/** The smallest top of the curve's scale: small variations of a fast connection stay small. */
const LOWEST_CEILING_MS = 20;

/** Measures the round trip of a ping while the page is connected and visible, and draws the recent values. */
export class LatencyMeter {
  #meter;
  #text;
  #curve;
  #head;
  #connection;
  /** @type {number[]} */
  #samples = [];
  #timer = 0;
  #running = false;

  /**
   * @param {{ meter: HTMLElement, text: HTMLElement, spark: SVGElement,
   *   connection: import('./connection.js').Connection }} options
   */
  constructor({ meter, text, spark, connection }) {
    this.#meter = meter;
    this.#text = text;
    this.#curve = spark.querySelector('polyline');
    this.#head = spark.querySelector('circle');
    this.#connection = connection;
    document.addEventListener('visibilitychange', () => this.#restart());
  }

  start() {
    this.#running = true;
    this.#restart();
  }

  stop() {
    this.#running = false;
    this.#samples = [];
    this.#restart();
    this.#show();
  }

  #restart() {
    clearInterval(this.#timer);
    if (!this.#running || document.hidden) return;
    this.#timer = setInterval(() => void this.#measure(), INTERVAL_MS);
    void this.#measure();
  }

  async #measure() {
    const sentAt = performance.now();
    try {
      await this.#connection.request('ping', 'ping', {});
      if (!this.#running) return;
      this.#samples = [...this.#samples, performance.now() - sentAt].slice(-SAMPLES);
      this.#show();
    } catch (fault) {
      // Neither a reply nor another message: the connection is dead, even if the socket is still open.
      const silent = this.#connection.receivedAt < sentAt;
      if (/** @type {any} */ (fault).code === 'NO_REPLY' && silent && this.#running && !document.hidden)
        this.#connection.treatAsLost();
    }
  }

  #show() {
    const last = this.#samples.at(-1);
    this.#meter.classList.toggle('idle', last === undefined);
    if (last === undefined) return;
    this.#text.textContent = last < 1 ? '<1 ms' : `${Math.round(last)} ms`;
    const ceiling = Math.max(LOWEST_CEILING_MS, ...this.#samples) * 1.1;
    const first = SAMPLES - this.#samples.length;
    const points = this.#samples.map((sample, index) => {
      const x = ((first + index) / (SAMPLES - 1)) * WIDTH;
      return `${x.toFixed(1)},${(HEIGHT - 1 - (sample / ceiling) * (HEIGHT - 2)).toFixed(1)}`;
    });
    this.#curve?.setAttribute('points', points.join(' '));
    const [x, y] = points.at(-1)?.split(',') ?? [];
    this.#head?.setAttribute('cx', x ?? '');
    this.#head?.setAttribute('cy', y ?? '');
  }
}
