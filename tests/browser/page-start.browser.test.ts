import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestBrowser } from '../support/browser.js';
import { RealtimePage } from '../support/realtime-page.js';
import { startTestServer, startUnconfiguredServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let browser: TestBrowser;

beforeAll(async () => {
  [server, browser] = await Promise.all([startUnconfiguredServer(), TestBrowser.open()]);
});

afterAll(async () => {
  await browser.close();
  await server.stop();
});

const ownUser = async ({ page }: RealtimePage) =>
  (await page.locator('.facts dd').nth(1).textContent()) ?? '';

test('on a server without settings, two browsers connect at once as two users and chat', async () => {
  const one = await RealtimePage.open(browser, server.url);
  const two = await RealtimePage.open(browser, server.url);
  await one.isConnected();
  await two.isConnected();
  expect(await one.page.inputValue('#channel')).toBe('lobby');
  expect(await one.page.inputValue('#token')).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+$/);
  const user = await ownUser(one);
  expect(user).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  expect(await ownUser(two)).not.toBe(user);
  await one.say('Hello from the first browser');
  await two.entry('Hello from the first browser').waitFor();
  await two.person(user).waitFor();
});

test('a reload keeps the user and the channel', async () => {
  const tab = await RealtimePage.open(browser, server.url);
  await tab.isConnected();
  const user = await ownUser(tab);
  await tab.page.fill('#channel', 'elsewhere');
  await tab.page.click('#connect');
  await tab.entry('Connected to elsewhere').waitFor();
  expect(tab.page.url()).toBe(`${server.url}/#channel=elsewhere`);
  await tab.page.reload();
  await tab.entry('Connected to elsewhere').waitFor();
  expect(await ownUser(tab)).toBe(user);
});

test('a URL that names a channel joins that channel', async () => {
  const tab = await RealtimePage.open(browser, server.url, { path: '/#channel=from:a.link' });
  await tab.entry('Connected to from:a.link').waitFor();
  await tab.page.evaluate(() => {
    location.hash = 'channel=another';
  });
  await tab.entry('Connected to another').waitFor();
});

test('a stored token that is refused is replaced by a new one', async () => {
  const tab = await RealtimePage.open(browser, server.url);
  await tab.isConnected();
  await tab.page.evaluate(() => {
    const key = 'goforward-realtime.demo-session';
    const session = JSON.parse(sessionStorage.getItem(key) ?? '{}') as { token: string };
    sessionStorage.setItem(key, JSON.stringify({ ...session, token: `${session.token.slice(0, -5)}xxxxx` }));
  });
  await tab.page.reload();
  await tab.isConnected();
  expect(await tab.page.inputValue('#token')).not.toMatch(/xxxxx$/);
  expect(await tab.banner.isVisible()).toBe(false);
});

test('on a configured server the page explains where to get a token, and waits for it', async () => {
  const configured = await startTestServer();
  try {
    const tab = await RealtimePage.open(browser, configured.url);
    await tab.page.locator('#token-hint', { hasText: 'npx goforward-realtime token' }).waitFor();
    expect(await tab.status.innerText()).toBe('Disconnected');
    expect(await tab.page.locator('#token').evaluate((field) => field === document.activeElement)).toBe(true);
  } finally {
    await configured.stop();
  }
});
