import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  chromium,
  type Page,
} from 'playwright-core';
import { findChromium } from './chromium.js';

/** What a tab did that a test may have to account for. */
export interface Tab {
  readonly page: Page;
  readonly context: BrowserContext;
  /** Errors of the console and uncaught ones, in order. */
  readonly errors: string[];
  /** The hosts that the tab asked for anything, blocked ones too. */
  readonly hosts: Set<string>;
}

const LOCAL = new Set(['localhost', '127.0.0.1']);

/** A headless Chromium that reaches this machine only. Whoever opens it closes it. */
export class TestBrowser {
  readonly #browser: Browser;

  /** Starts the browser; the error says what it needs where it cannot run. */
  static async open(): Promise<TestBrowser> {
    try {
      const { executablePath, env } = await findChromium();
      const browser = await chromium.launch({
        executablePath,
        env: { ...definedVariables(), ...env },
        args: [
          // Root may not run Chromium's sandbox, and what is shown here is ours.
          '--no-sandbox',
          '--disable-dev-shm-usage',
          '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1',
        ],
      });
      return new TestBrowser(browser);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`The browser of the tests cannot be started. ${why}`, { cause });
    }
  }

  private constructor(browser: Browser) {
    this.#browser = browser;
  }

  /** A tab of a browser profile of its own, as another person's browser. */
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
