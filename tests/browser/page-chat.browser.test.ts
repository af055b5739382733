import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestBrowser } from '../support/browser.js';
import { eventually } from '../support/eventually.js';
import { RealtimePage } from '../support/realtime-page.js';
import { join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

/** The maximum number of entries that the stream keeps. */
const KEPT = 500;
const FLOOD = 5_000;

let server: TestServer;
let browser: TestBrowser;

beforeAll(async () => {
  [server, browser] = await Promise.all([
    startTestServer({ REALTIME_MESSAGE_RATE: '100000/s' }),
    TestBrowser.open(),
  ]);
});

afterAll(async () => {
  await browser.close();
  await server.stop();
});

async function openAs(userId: string, channel: string): Promise<RealtimePage> {
  const page = await RealtimePage.open(browser, server.url);
  await page.connect(await server.token(userId), channel);
  return page;
}

test('two people in two browsers chat with each other', async () => {
  const alice = await openAs('alice', 'two');
  const bob = await openAs('bob', 'two');
  await alice.say('Hello Bob');
  await bob.entry('Hello Bob').waitFor();
  await bob.say('Hello Alice');
  await alice.entry('Hello Alice').waitFor();
  expect(await alice.entry('Hello Bob').locator('.who').innerText()).toBe('alice');
  expect(await alice.entry('Hello Bob').locator('.you').count()).toBe(1);
  expect(await bob.entry('Hello Bob').locator('.you').count()).toBe(0);
  expect(await alice.page.inputValue('#message')).toBe('');
});

test('an entry shows time and type, and expands to the whole message', async () => {
  const alice = await openAs('alice', 'entry');
  await alice.say('Look at me');
  const entry = alice.entry('Look at me');
  expect(await entry.locator('time').innerText()).toMatch(/^\d\d:\d\d:\d\d$/);
  expect(await entry.locator('.tag').innerText()).toBe('message · chat_message');
  await entry.locator('.tag').click();
  const message = JSON.parse(await entry.locator('.raw').innerText()) as Record<string, unknown>;
  expect(message).toMatchObject({ type: 'message', user_id: 'alice', payload: { message: 'Look at me' } });
  await entry.locator('.tag').click();
  expect(await entry.locator('.raw').count()).toBe(0);
});

test('an expanded entry scrolls into view and stays there while messages arrive', async () => {
  const alice = await openAs('alice', 'expanded');
  const bob = await join(server, 'expanded', 'bob');
  const send = (text: string) => bob.send({ type: 'broadcast', event: 'chat', payload: { message: text } });
  for (let n = 1; n <= 30; n++) send(`line ${n}.`);
  const entry = alice.entry('line 30.');
  await entry.waitFor();
  await entry.locator('.tag').click();
  /** Whether the whole raw message is within the visible part of the list. */
  const isInView = () =>
    entry.locator('.raw').evaluate((raw) => {
      const [inner, outer] = [raw, raw.closest('.scroller') ?? raw].map((element) =>
        element.getBoundingClientRect(),
      );
      return (
        inner !== undefined && outer !== undefined && inner.top >= outer.top && inner.bottom <= outer.bottom
      );
    });
  expect(await isInView()).toBe(true);

  // New messages do not scroll away an expanded entry in the middle.
  const middle = alice.entry('line 27.');
  await entry.locator('.tag').click();
  await middle.locator('.tag').click();
  const top = await middle.evaluate((item) => item.getBoundingClientRect().top);
  send('after it');
  await alice.page.locator('#latest', { hasText: '1 new below' }).waitFor();
  expect(await middle.evaluate((item) => item.getBoundingClientRect().top)).toBe(top);
});

test('the list of people shows five users and their states without scrolling at 1280 by 800 pixels', async () => {
  const alice = await openAs('alice', 'crowd');
  for (const [n, userId] of ['bob', 'carol', 'dave', 'erin'].entries()) {
    const user = await join(server, 'crowd', userId);
    const state = { status: 'busy', custom_message: `note ${n}` };
    user.send({ type: 'presence', event: 'update', payload: { state } });
  }
  await alice.page.setViewportSize({ width: 1280, height: 800 });
  await alice.person('erin').filter({ hasText: 'busy – note 3' }).waitFor();
  const { scrollHeight, clientHeight } = await alice.page
    .locator('#presence')
    .evaluate((list) => ({ scrollHeight: list.scrollHeight, clientHeight: list.clientHeight }));
  expect(scrollHeight).toBe(clientHeight);
  const last = await alice.person('erin').boundingBox();
  expect((last?.y ?? 0) + (last?.height ?? Number.POSITIVE_INFINITY)).toBeLessThan(800);
});

test('any event with any JSON payload can be sent, and invalid JSON is explained', async () => {
  const alice = await openAs('alice', 'events');
  const bob = await join(server, 'events', 'bob');
  await alice.page.click('.advanced summary');
  await alice.page.fill('#event', 'cursor.moved');
  await alice.page.fill('#payload', '{ "x": 1,');
  await alice.page.click('#send-event');
  expect(await alice.page.innerText('#payload-problem')).toContain('not valid JSON');
  await alice.page.fill('#payload', '{ "x": 1, "y": [true, null] }');
  await alice.page.click('#send-event');
  expect((await bob.next('message', 'cursor.moved')).payload).toEqual({ x: 1, y: [true, null] });
  await alice.entry('"y": [ true, null ]').waitFor();
});

test('the list of people follows joins, changes of status and a closed tab', async () => {
  const alice = await openAs('alice', 'people');
  const bob = await openAs('bob', 'people');
  await alice.person('bob').waitFor();
  await bob.person('alice').waitFor();
  expect(await alice.page.locator('.person').first().getAttribute('data-user')).toBe('alice');
  expect(await alice.page.innerText('#people-count')).toBe('2');

  await bob.page.selectOption('#own-state', 'away');
  await alice.page.locator('.person[data-user="bob"][data-status="away"]').waitFor();
  await bob.page.fill('#own-text', 'Back at two');
  await bob.page.click('#own-set');
  await alice.person('bob').filter({ hasText: 'away – Back at two' }).waitFor();
  await alice.entry('is away: Back at two').waitFor();

  await bob.page.close();
  await alice.person('bob').waitFor({ state: 'detached' });
  await alice.entry(/bob\s*left/).waitFor();
  expect(await alice.page.innerText('#people-count')).toBe('1');
});

test('a paused list counts new messages and shows them when it resumes', async () => {
  const alice = await openAs('alice', 'pause');
  const bob = await join(server, 'pause', 'bob');
  await alice.entry(/bob\s*joined/).waitFor();
  await alice.page.click('#pause');
  for (const n of [1, 2, 3])
    bob.send({ type: 'broadcast', event: 'chat', payload: { message: `number ${n}` } });
  await alice.page.locator('#pause', { hasText: 'Resume (3)' }).waitFor();
  expect(await alice.entry('number').count()).toBe(0);
  await alice.page.click('#pause');
  await alice.entry('number 3').waitFor();
  expect(await alice.entry('number').count()).toBe(3);
  expect(await alice.page.innerText('#pause')).toBe('Pause');
});

test('filters hide and show kinds of messages, and clearing empties the stream', async () => {
  const alice = await openAs('alice', 'filters');
  await alice.say('still there');
  const joined = alice.entry(/alice\s*you\s*joined/);
  await alice.entry('still there').waitFor();
  await alice.page.uncheck('[name="presence"]');
  await joined.waitFor({ state: 'hidden' });
  expect(await alice.entry('still there').isVisible()).toBe(true);
  await alice.page.uncheck('[name="message"]');
  await alice.entry('still there').waitFor({ state: 'hidden' });
  await alice.page.check('[name="presence"]');
  await alice.page.check('[name="message"]');
  await joined.waitFor();
  await alice.entry('still there').waitFor();
  await alice.page.click('#clear');
  expect(await alice.page.locator('#stream > li').count()).toBe(0);
  await alice.say('after clearing');
  await alice.entry('after clearing').waitFor();
});

test('the round-trip time of a ping is shown', async () => {
  const alice = await openAs('alice', 'latency');
  await alice.page.locator('#latency', { hasText: /^(<1|\d+) ms$/ }).waitFor();
  await alice.page.click('#disconnect');
  await alice.page.locator('#latency').waitFor({ state: 'hidden' });
});

test('hostile text is shown as text', async () => {
  const alice = await openAs('alice', 'hostile');
  const markup = '<img src=x onerror="document.title=\'hacked\'"><script>document.title="hacked"</script>';
  const mallory = await join(server, 'hostile', '<b>mallory</b>');
  mallory.send({
    type: 'presence',
    event: 'update',
    payload: { state: { status: markup, custom_message: markup } },
  });
  mallory.send({ type: 'broadcast', event: markup.slice(0, 100), payload: { message: markup } });
  mallory.send({ type: 'broadcast', event: 'data', payload: { [markup]: markup } });
  mallory.send({ type: 'broadcast', event: 'last', payload: { message: 'the last one' } });
  await alice.entry('the last one').waitFor();
  expect(await alice.entry(markup).first().isVisible()).toBe(true);
  await alice.page.locator('.person', { hasText: '<b>mallory</b>' }).waitFor();
  expect(await alice.page.locator('main :is(img, script, b)').count()).toBe(0);
  expect(await alice.page.title()).toBe('GoForward Realtime');
});

test('a flood of messages leaves the page usable and the stream bounded', async () => {
  const alice = await openAs('alice', 'flood');
  const bob = await join(server, 'flood', 'bob');
  await alice.page.evaluate(() => {
    const gaps = window as Window & { longestGap?: number };
    let before = performance.now();
    gaps.longestGap = 0;
    const tick = () => {
      const now = performance.now();
      gaps.longestGap = Math.max(gaps.longestGap ?? 0, now - before);
      before = now;
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  });
  for (let n = 1; n <= FLOOD; n++) {
    bob.send({ type: 'broadcast', event: 'flood', payload: { message: `flood ${n}.` } });
    if (n % 250 === 0) await bob.settle();
    if (n === FLOOD / 2) await alice.say('I can still write');
  }
  await alice.entry(`flood ${FLOOD}.`).waitFor();
  expect(await alice.page.locator('#stream > li').count()).toBe(KEPT);
  expect(bob.received.some((message) => message.payload.message === 'I can still write')).toBe(true);
  const longestGap = await alice.page.evaluate(
    () => (window as Window & { longestGap?: number }).longestGap ?? Number.POSITIVE_INFINITY,
  );
  expect(longestGap).toBeLessThan(1_500);
  // The stream follows new entries until the user scrolls; then it keeps the user's position.
  expect(await alice.page.locator('#latest').isVisible()).toBe(false);
  await alice.page.locator('#scroller').evaluate((scroller) => scroller.scrollTo(0, 0));
  bob.send({ type: 'broadcast', event: 'flood', payload: { message: 'one more' } });
  await alice.page.locator('#latest', { hasText: '1 new below' }).click();
  await eventually(async () => expect(await alice.page.locator('#latest').isVisible()).toBe(false));
  await alice.entry('one more').waitFor();
});
