import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestBrowser } from '../support/browser.js';
import { PostgresProxy } from '../support/postgres-proxy.js';
import { RealtimePage } from '../support/realtime-page.js';
import { run } from '../support/row-changes.js';
import {
  startRowChangeServer,
  startTestServer,
  startUnconfiguredServer,
  type TestServer,
} from '../support/test-server.js';

let server: TestServer;
let browser: TestBrowser;

beforeAll(async () => {
  [server, browser] = await Promise.all([startUnconfiguredServer(), TestBrowser.open()]);
});

afterAll(async () => {
  await browser.close();
  await server.stop();
});

async function insertRow({ page }: RealtimePage, content: string): Promise<void> {
  await page.fill('#rows-content', content);
  await page.click('#rows-insert');
  await page.locator('#rows-state', { hasText: 'Row inserted.' }).waitFor();
}

const followed = ({ page }: RealtimePage, table: string) => page.locator('.followed', { hasText: table });

test('on a server without settings, two browsers follow one table and each sees its own rows', async () => {
  const one = await RealtimePage.open(browser, server.url);
  const two = await RealtimePage.open(browser, server.url);
  await one.isConnected();
  await two.isConnected();
  expect(await one.page.inputValue('#rows-table')).toBe('messages');
  await one.page.click('#rows-follow');
  await one.page.locator('#rows-state', { hasText: 'lobby follows messages' }).waitFor();
  await one.page
    .locator('#rows-state', { hasText: 'For realtime_subscriber: INDEXED, rows are looked up by user_id.' })
    .waitFor();

  await insertRow(one, 'seen by the first alone');
  await insertRow(two, 'seen by the second alone');
  await insertRow(one, 'the first again');
  await one.entry('the first again').waitFor();
  await two.entry('seen by the second alone').waitFor();
  // All members receive rows in the same order, so a row not received before the last one never arrives.
  await insertRow(two, 'the second again');
  await two.entry('the second again').waitFor();
  const rows = (tab: RealtimePage) =>
    tab.page.locator('#stream > li[data-group="rows"] .data').allInnerTexts();
  expect((await rows(one)).map((text) => /"content": "([^"]*)"/.exec(text)?.[1])).toEqual([
    'seen by the first alone',
    'the first again',
  ]);
  expect((await rows(two)).map((text) => /"content": "([^"]*)"/.exec(text)?.[1])).toEqual([
    'seen by the second alone',
    'the second again',
  ]);

  await one.page.locator('.chip', { hasText: 'Rows' }).click();
  expect(await one.entry('the first again').isVisible()).toBe(false);
});

test('rows that were inserted while the connection was lost arrive after reconnecting', async () => {
  const proxy = new PostgresProxy(server.url);
  await proxy.open();
  try {
    const tab = await RealtimePage.open(browser, `http://${proxy.address}`, { mayLogErrors: true });
    await tab.isConnected();
    await tab.page.click('#rows-follow');
    await insertRow(tab, 'before');
    await tab.entry('before').waitFor();
    const token = await tab.page.inputValue('#token');
    await proxy.close();
    await tab.page.locator('#status[data-phase="connecting"]').waitFor();
    const answer = await server.call('POST', '/demo/messages', { token, body: { content: 'meanwhile' } });
    expect(answer.status).toBe(200);
    await proxy.open();
    await tab.entry('meanwhile').waitFor();
    expect(await tab.entry('before').count()).toBe(1);
  } finally {
    await proxy.close();
  }
});

test('a demo user who follows another table is shown which token it needs, and a success clears the error', async () => {
  const tab = await RealtimePage.open(browser, server.url, { mayLogErrors: true });
  await tab.isConnected();
  await tab.page.fill('#rows-table', 'users');
  await tab.page.click('#rows-follow');
  await tab.bannerSays('Permission denied', 'This needs the admin token that the server printed at start');
  // A success removes the error of the previous action.
  await insertRow(tab, 'this works');
  expect(await tab.banner.isVisible()).toBe(false);
});

test('a server admin can follow any table, and is shown why a table name is invalid', async () => {
  const configured = await startRowChangeServer();
  try {
    const token = await configured.token('admin', 'admin');
    const tab = await RealtimePage.open(browser, configured.url, { mayLogErrors: true });
    await tab.connect(token, 'rows');
    expect(await tab.page.locator('#rows-insert-form').isVisible()).toBe(false);
    await tab.page.fill('#rows-table', 'no.such_table');
    await tab.page.click('#rows-follow');
    await tab.bannerSays('The channel cannot follow this table', 'such_table');
    await run(configured, 'CREATE TABLE notes (id int PRIMARY KEY)');
    await tab.page.fill('#rows-table', 'notes');
    await tab.page.click('#rows-follow');
    await tab.page
      .locator('#rows-state', {
        hasText: 'For realtime_subscriber: OPEN, row level security does not apply.',
      })
      .waitFor();
  } finally {
    await configured.stop();
  }
});

test('followed tables are listed for all demo users, and the admin token unfollows them', async () => {
  const hash = '/#channel=listed';
  const one = await RealtimePage.open(browser, server.url, { path: hash });
  await one.isConnected();
  await one.page.click('#rows-follow');
  await followed(one, 'messages').waitFor();
  const two = await RealtimePage.open(browser, server.url, { path: hash });
  await followed(two, 'messages').waitFor();
  expect(await two.page.getByRole('button', { name: 'Unfollow messages' }).count()).toBe(0);
  expect(await two.page.innerText('#rows-token-hint')).toBe(
    'Other tables, and unfollowing, need the admin token that the server printed at start.',
  );

  await two.connect(await server.token('root', 'admin'), 'listed');
  await two.page.getByRole('button', { name: 'Unfollow messages' }).click();
  await followed(two, 'messages').waitFor({ state: 'detached' });
  expect(await two.page.innerText('#rows-state')).toBe('No longer following messages.');
  await one.page.reload();
  await one.isConnected();
  await insertRow(one, 'nobody follows this');
  await one.say('the message after it');
  await one.entry('the message after it').waitFor();
  expect(await one.entry('nobody follows this').count()).toBe(0);
  expect(await followed(one, 'messages').count()).toBe(0);
});

test('a failed unfollow is reported next to its table and in the banner', async () => {
  const configured = await startRowChangeServer();
  try {
    await run(configured, 'CREATE TABLE notes (id int PRIMARY KEY)');
    const token = await configured.token('admin', 'admin');
    const tab = await RealtimePage.open(browser, configured.url, { mayLogErrors: true });
    await tab.page
      .locator('#rows-token-hint', { hasText: 'need admin permission on the channel.' })
      .waitFor();
    await tab.connect(token, 'rows');
    await tab.page.fill('#rows-table', 'notes');
    await tab.page.click('#rows-follow');
    const item = followed(tab, 'notes');
    await item.waitFor();
    // Another admin has removed the subscription first.
    const listed = await configured.call('GET', '/realtime/subscriptions', { token });
    const id = listed.body.subscriptions[0]?.id ?? '';
    expect((await configured.call('DELETE', `/realtime/subscriptions/${id}`, { token })).status).toBe(200);
    await tab.page.getByRole('button', { name: 'Unfollow notes' }).click();
    await item.filter({ hasText: 'notes could not be unfollowed:' }).waitFor();
    await tab.bannerSays('The table is no longer followed');
    await tab.say('a success');
    await tab.banner.waitFor({ state: 'hidden' });
  } finally {
    await configured.stop();
  }
});

test('only a server without settings has the demo endpoints, and they validate requests', async () => {
  const user = await server.token('7c5a1c68-3c40-4ea8-bd0b-2a4e6bd2b1b3');
  const post = (body: unknown, token = user) => server.call('POST', '/demo/messages', { token, body });
  expect(await post({ content: 'a row' })).toMatchObject({ status: 200 });
  expect(await post({ content: '' })).toMatchObject({ status: 400, body: { code: 'VALIDATION_FAILED' } });
  expect(await post({ content: 'x'.repeat(1001) })).toMatchObject({ status: 400 });
  expect(await post({ content: 'with \u0000' })).toMatchObject({ status: 400 });
  const named = await server.token('not-a-uuid');
  expect(await post({ content: 'a row' }, named)).toMatchObject({ status: 400, body: { field: 'user_id' } });
  expect(await server.call('POST', '/demo/messages', { body: { content: 'a row' } })).toMatchObject({
    status: 401,
  });

  const configured = await startTestServer();
  try {
    const admin = await configured.token('7c5a1c68-3c40-4ea8-bd0b-2a4e6bd2b1b3', 'admin');
    for (const path of [
      '/demo/messages',
      '/demo/channels/lobby/subscribe',
      '/demo/channels/lobby/subscriptions',
    ]) {
      const answer = await configured.call('POST', path, { token: admin, body: { content: 'a row' } });
      expect(answer).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } });
    }
  } finally {
    await configured.stop();
  }
});
