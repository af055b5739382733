import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestBrowser } from '../support/browser.js';
import { eventually } from '../support/eventually.js';
import { RealtimePage } from '../support/realtime-page.js';
import { join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let browser: TestBrowser;
let admin: string;

beforeAll(async () => {
  [server, browser] = await Promise.all([startTestServer(), TestBrowser.open()]);
  admin = await server.token('root', 'admin');
});

afterAll(async () => {
  await browser.close();
  await server.stop();
});

const open = () => RealtimePage.open(browser, server.url, { mayLogErrors: true });

async function createChannel(body: Readonly<Record<string, unknown>>): Promise<void> {
  expect((await server.call('POST', '/realtime/channels', { token: admin, body })).status).toBe(201);
}

test('a wrong token is explained, also when the server refuses the handshake itself', async () => {
  const tab = await open();
  const wrong = `${(await server.token('alice')).slice(0, -6)}forged`;
  // The server explains the first three refusals on the socket, and later ones only over HTTP.
  for (let attempt = 1; attempt <= 5; attempt++) {
    await tab.submit(wrong, 'lobby');
    await tab.bannerSays('The token was rejected', 'Paste a new token', 'AUTH_FAILED');
    await tab.isDisconnected();
    expect(await tab.page.locator('#retry').isVisible()).toBe(false);
    await tab.page.click('#dismiss');
    expect(await tab.banner.isVisible()).toBe(false);
  }
  // The stream renders entries in batches.
  await eventually(async () => expect(await tab.entry('The token was rejected').count()).toBe(5));
  await tab.connect(await server.token('alice'), 'lobby');
});

test('an invalid token or channel name is reported without connecting', async () => {
  const tab = await open();
  await tab.submit('', 'lobby');
  await tab.bannerSays('A token is required');
  await tab.submit('two words and an ümlaut', 'lobby');
  await tab.bannerSays('This is not a token');
  expect(await tab.page.getAttribute('#token', 'aria-invalid')).toBe('true');
  await tab.submit(await server.token('alice'), 'a room/with a slash');
  await tab.bannerSays('Invalid channel name');
  expect(await tab.page.locator('#channel').evaluate((field) => field === document.activeElement)).toBe(true);
  // Spaces and a "Bearer" copied along with a token are ignored.
  await tab.connect(
    ` "Bearer ${await server.token('alice')}" `.replace('"Bearer', 'Bearer').replace('" ', ' '),
    'lobby',
  );
  expect(await tab.banner.isVisible()).toBe(false);
});

test('a full channel is reported, and joined as soon as there is room', async () => {
  await createChannel({ name: 'full', max_subscribers: 1 });
  const first = await join(server, 'full', 'first');
  const tab = await open();
  await tab.submit(await server.token('second'), 'full');
  await tab.bannerSays('The channel is full', 'The limit is 1.', 'Trying again');
  expect(await tab.status.innerText()).toBe('Connecting');
  await first.close();
  await tab.isConnected();
  expect(await tab.banner.isVisible()).toBe(false);
});

test('a channel without read permission is reported, and not retried', async () => {
  await createChannel({ name: 'secret', permissions: { read: ['staff'] } });
  const tab = await open();
  await tab.submit(await server.token('alice'), 'secret');
  await tab.bannerSays('Permission denied', 'This needs read permission on the channel.');
  await tab.isDisconnected();
  expect(await tab.page.innerText('#connect')).toBe('Connect');
});

test('a message without write permission is reported, and its text is kept', async () => {
  await createChannel({ name: 'read-only', permissions: { write: ['staff'] } });
  const tab = await open();
  await tab.connect(await server.token('alice'), 'read-only');
  await tab.say('Let me in');
  await tab.bannerSays('Permission denied', 'This needs write permission on the channel.');
  expect(await tab.page.inputValue('#message')).toBe('Let me in');
  expect(await tab.status.innerText()).toBe('Connected');
});

test('a message that is too large is reported and not sent, so that the server does not close the connection', async () => {
  const tab = await open();
  await tab.connect(await server.token('alice'), 'large');
  await tab.say('x'.repeat(70_000));
  await tab.bannerSays('The message is too large', '65,536 bytes');
  expect(await tab.status.innerText()).toBe('Connected');
  await tab.say('a short one');
  await tab.entry('a short one').waitFor();
  expect(await tab.banner.isVisible()).toBe(false);
});

test('a token that is about to expire is announced, also after a successful action, and its expiry is reported', async () => {
  const tab = await open();
  await tab.connect(await server.token('alice', 'user', 4_000), 'expiry');
  await tab.bannerSays('Your token expires soon');
  await tab.say('still here');
  await tab.entry('still here').waitFor();
  expect(await tab.banner.isVisible()).toBe(true);
  await tab.bannerSays('The token was rejected', 'close code 4401');
  await tab.isDisconnected();
});

test('a deleted channel is reported with the reason, and not rejoined', async () => {
  await createChannel({ name: 'doomed' });
  const tab = await open();
  await tab.connect(await server.token('alice'), 'doomed');
  await server.call('DELETE', '/realtime/channels/doomed', { token: admin });
  await tab.bannerSays('The channel was closed', 'Connect to another channel');
  await tab.isDisconnected();
  await tab.page.click('#connect');
  await tab.bannerSays(
    'The channel does not exist',
    'POST /realtime/channels',
    'That needs a server admin token.',
  );
  await tab.isDisconnected();
});

test('a server restart is reported, and the page reconnects by itself', async () => {
  const first = await startTestServer();
  const tab = await RealtimePage.open(browser, first.url, { mayLogErrors: true });
  await tab.connect(await first.token('alice'), 'restart');
  await tab.page.selectOption('#own-state', 'busy');
  await tab.page.locator('.person[data-status="busy"]').waitFor();
  await tab.page.fill('#message', 'written before');
  await first.stop();
  await tab.bannerSays('The server', 'Trying again');
  // The server announces its shutdown before the socket closes; people are listed until it does.
  await eventually(async () => expect(await tab.people.innerText()).toContain('Connect to see who is here.'));
  const second = await startTestServer({ REALTIME_PORT: String(first.port) });
  try {
    await tab.isConnected();
    expect(await tab.banner.isVisible()).toBe(false);
    await tab.page.locator('.person[data-status="busy"]').waitFor();
    await tab.page.press('#message', 'Enter');
    await tab.entry('written before').waitFor();
  } finally {
    await second.stop();
  }
});

test('an unreachable server is retried until the user disconnects', async () => {
  const gone = await startTestServer();
  const tab = await RealtimePage.open(browser, gone.url, { mayLogErrors: true });
  const token = await gone.token('alice');
  await gone.stop();
  await tab.submit(token, 'lobby');
  await tab.bannerSays('The server cannot be reached', 'Trying again');
  await eventually(
    async () => expect(await tab.page.innerText('#retry')).toMatch(/Trying again in \d+ s\./),
    10_000,
  );
  await tab.page.locator('#connect', { hasText: 'Retry now' }).click();
  await tab.bannerSays('The server cannot be reached', 'Trying again');
  expect(await tab.entry('The server cannot be reached').count()).toBe(1);
  await tab.page.click('#disconnect');
  await tab.isDisconnected();
  expect(await tab.banner.isVisible()).toBe(false);
});

test('a successful presence update clears the previous error', async () => {
  const tab = await open();
  await tab.connect(await server.token('alice'), 'quiet');
  await tab.say('x'.repeat(70_000));
  await tab.bannerSays('The message is too large');
  await tab.page.fill('#own-text', 'reading');
  await tab.page.click('#own-set');
  await tab.banner.waitFor({ state: 'hidden' });
});
