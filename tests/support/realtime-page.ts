import type { BrowserContextOptions, Locator, Page } from 'playwright-core';
import { expect, onTestFinished } from 'vitest';
import type { Tab, TestBrowser } from './browser.js';
import { eventually } from './eventually.js';

interface OpenOptions extends BrowserContextOptions {
  /** Path and fragment; default `/`. */
  readonly path?: string;
  /** Allows console errors: the browser logs refused handshakes and lost servers there. */
  readonly mayLogErrors?: boolean;
}

/** The server's page in a browser profile of its own. It is closed when the test ends. */
export class RealtimePage {
  readonly page: Page;
  readonly banner: Locator;
  readonly status: Locator;
  /** The card with the list of people and the content below it. */
  readonly people: Locator;
  readonly #tab: Tab;

  static async open(browser: TestBrowser, url: string, options: OpenOptions = {}): Promise<RealtimePage> {
    const { path = '/', mayLogErrors = false, ...context } = options;
    const tab = await browser.newTab(context);
    onTestFinished(async () => {
      await tab.context.close();
      if (!mayLogErrors) expect(tab.errors).toEqual([]);
    });
    await tab.page.goto(url + path);
    return new RealtimePage(tab);
  }

  private constructor(tab: Tab) {
    this.#tab = tab;
    this.page = tab.page;
    this.banner = this.page.locator('#banner');
    this.status = this.page.locator('#status');
    this.people = this.page.locator('.people-card');
  }

  get hosts(): readonly string[] {
    return [...this.#tab.hosts];
  }

  /** Fills in and submits the form; does not wait for the result. */
  async submit(token: string, channel: string): Promise<void> {
    await this.page.fill('#token', token);
    await this.page.fill('#channel', channel);
    await this.page.click('#connect');
  }

  async connect(token: string, channel: string): Promise<void> {
    await this.submit(token, channel);
    await this.isConnected();
  }

  async isConnected(): Promise<void> {
    await this.page.locator('#status[data-phase="connected"]').waitFor();
  }

  async isDisconnected(): Promise<void> {
    await this.page.locator('#status[data-phase="disconnected"]').waitFor();
  }

  async say(text: string): Promise<void> {
    await this.page.fill('#message', text);
    await this.page.click('#send');
  }

  /** Returns the entries of the stream that contain this text. */
  entry(text: string | RegExp): Locator {
    return this.page.locator('#stream > li', { hasText: text });
  }

  person(userId: string): Locator {
    return this.page.locator(`.person[data-user="${userId}"]`);
  }

  /** Waits until the banner contains all these texts. */
  async bannerSays(...texts: readonly string[]): Promise<void> {
    await eventually(async () => {
      const said = await this.banner.innerText();
      for (const text of texts) expect(said).toContain(text);
    }, 10_000);
  }
}
