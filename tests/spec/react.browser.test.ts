import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { TestBrowser } from '../support/browser.js';
import { filledIn, hasSpecDocument, SpecDocument, specTitle } from '../support/spec-document.js';
import { join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** An application on its own development server: another origin on the same machine. */
const APPLICATION = 'http://localhost:5173/';
const ENTRY = `
import { createElement } from 'react';
import { createRoot } from 'react-dom/client';
import { ChatRoom } from 'spec';
const root = createRoot(document.getElementById('root'));
window.leave = () => root.unmount();
const { channelName, token } = Object.fromEntries(new URLSearchParams(location.search));
root.render(createElement(ChatRoom, { channelName, token }));
`;

describe.skipIf(!hasSpecDocument)(specTitle('React examples of the spec'), () => {
  let server: TestServer;
  let browser: TestBrowser;
  let script: string;

  beforeAll(async () => {
    const spec = SpecDocument.read();
    [server, browser] = await Promise.all([startTestServer(), TestBrowser.open()]);
    script = await bundle(spec.block('React Hook Example', 'javascript'));
  });

  afterAll(async () => {
    await browser.close();
    await server.stop();
  });

  async function open(userId: string, channelName: string, at = server): Promise<Page> {
    const { page, context, errors } = await browser.newTab();
    onTestFinished(async () => {
      await context.close();
      expect(errors).toEqual([]);
    });
    await page.route(`${APPLICATION}**`, (route) =>
      route.request().url().endsWith('/bundle.js')
        ? route.fulfill({ contentType: 'text/javascript', body: filledIn(script, at.port, '') })
        : route.fulfill({
            contentType: 'text/html',
            body: '<!doctype html><link rel="icon" href="data:,"><div id="root"></div><script src="/bundle.js"></script>',
          }),
    );
    const query = new URLSearchParams({ channelName, token: await at.token(userId) });
    await page.goto(`${APPLICATION}?${query.toString()}`);
    await shows(page, 'Status: Connected');
    return page;
  }

  const shows = (page: Page, text: string) => page.getByText(text, { exact: true }).waitFor();

  test('two chat rooms exchange messages, sent by key and by button', async () => {
    const alice = await open('alice', 'react');
    const bob = await open('bob', 'react');
    await alice.getByRole('textbox').fill('Hello from Alice');
    await alice.getByRole('textbox').press('Enter');
    await shows(bob, 'alice: Hello from Alice');
    await bob.getByRole('textbox').fill('Hello from Bob');
    await bob.getByRole('button', { name: 'Send' }).click();
    await shows(alice, 'bob: Hello from Bob');
    // The sender is a member like the others, and sees its own message once.
    expect(await alice.getByText('Hello from Alice').count()).toBe(1);
    expect(await alice.getByRole('textbox').inputValue()).toBe('');
  });

  test('the hook shows earlier members, and members who join, update their state and leave', async () => {
    const carol = await join(server, 'hook', 'carol');
    carol.send({ type: 'presence', event: 'update', payload: { state: { status: 'away' } } });
    await carol.settle();
    const alice = await open('alice', 'hook');
    await shows(alice, 'carol: away');
    await shows(alice, 'alice: online');
    const bob = await open('bob', 'hook');
    await shows(alice, 'bob: online');
    carol.send({ type: 'presence', event: 'update', payload: { state: { status: 'busy' } } });
    await shows(alice, 'carol: busy');
    await bob.evaluate(() => (window as Window & { leave?: () => void }).leave?.());
    await shows(alice, 'bob: offline');
    await carol.close();
    await shows(alice, 'carol: offline');
  });

  test('the hook shows that the connection to the server is lost', async () => {
    const alone = await startTestServer();
    const alice = await open('alice', 'gone', alone);
    await alone.stop();
    await shows(alice, 'Status: Disconnected');
  });
});

/**
 * Bundles React with the document's hook and component. Adds the export that the component lacks in the
 * document.
 */
async function bundle(example: string): Promise<string> {
  const result = await build({
    stdin: { contents: ENTRY, resolveDir: ROOT, loader: 'js' },
    bundle: true,
    write: false,
    format: 'iife',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"' },
    plugins: [
      {
        name: 'spec',
        setup(builder) {
          builder.onResolve({ filter: /^spec$/ }, () => ({ path: 'spec', namespace: 'spec' }));
          builder.onLoad({ filter: /.*/, namespace: 'spec' }, () => ({
            contents: `${example}\nexport { ChatRoom };`,
            resolveDir: ROOT,
            loader: 'jsx',
          }));
        },
      },
    ],
  });
  const [file] = result.outputFiles;
  if (file === undefined) throw new Error('esbuild wrote no file');
  return file.text;
}
