import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  chromium,
  type Page,
} from 'playwright-core';
import { findChromium } from './chromium.js';

/** A browser tab with its recorded errors and requested hosts. */
export interface Tab {
  readonly page: Page;
  readonly context: BrowserContext;
  /** Console errors and uncaught errors, in order. */
  readonly errors: string[];
  /** The hosts that the tab sent requests to, including blocked requests. */
  readonly hosts: Set<string>;
}

const LOCAL = new Set(['localhost', '127.0.0.1']);

/** A headless Chromium that can reach only this machine. The caller of `open` closes it. */
export class TestBrowser {
  readonly #browser: Browser;

  /** Starts the browser. An error says what it needs to run. */
  static async open(): Promise<TestBrowser> {
    try {
      const { executablePath, env } = await findChromium();
      const browser = await chromium.launch({
        executablePath,
        env: { ...definedVariables(), ...env },
        args: [
          // Chromium's sandbox does not run as root, and tests load only the product's own pages.
          '--no-sandbox',
          '--disable-dev-shm-usage',
          '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1',
        ],
      });
      return new TestBrowser(browser);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`The test browser did not start. ${why}`, { cause });
    }
  }

  private constructor(browser: Browser) {
    this.#browser = browser;
  }

  /** Opens a tab in a new browser profile, like another person's browser. */
  async newTab(options: BrowserContextOptions = {}): Promise<Tab> {
    const context = await this.#browser.newContext({ locale: 'en-GB', ...options });
    const hosts = new Set<string>();
    await context.route(
      (url) => !LOCAL.has(url.hostname),
      (route) => route.abort('blockedbyclient'),
    );
    const page = await context.newPage();
    const errors: string[] = [];
    page.on('request', (request) => hosts.add(new URL(request.url()).hostname));
    page.on('console', (message) => {
      if (message.type() === 'error') errors.push(message.text());
    });
    page.on('pageerror', (error) => errors.push(String(error)));
    page.setDefaultTimeout(10_000);
    return { page, context, errors, hosts };
  }

  async close(): Promise<void> {
    await this.#browser.close();
  }
}

function definedVariables(): Record<string, string> {
  const entries = Object.entries(process.env).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value] as const],
  );
  return Object.fromEntries(entries);
}
