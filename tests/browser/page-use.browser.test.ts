import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestBrowser } from '../support/browser.js';
import { lowContrasts } from '../support/contrast.js';
import { RealtimePage } from '../support/realtime-page.js';
import { join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const LONG = 'x'.repeat(300);
/** The longest user id that a token may have. */
const LONG_USER = 'u'.repeat(255);

let server: TestServer;
let browser: TestBrowser;

beforeAll(async () => {
  [server, browser] = await Promise.all([startTestServer(), TestBrowser.open()]);
});

afterAll(async () => {
  await browser.close();
  await server.stop();
});

/**
 * Opens a page that shows people, all kinds of messages, an expanded message, the event form and an error.
 */
async function openFull(
  channel: string,
  options: Parameters<typeof RealtimePage.open>[2],
): Promise<RealtimePage> {
  const tab = await RealtimePage.open(browser, server.url, options);
  for (const userId of ['bob', LONG_USER, '3f2b8c1e-5a7d-4e2f-9b1a-8c6d2e4f1a90']) {
    const user = await join(server, channel, userId);
    const state = { status: 'away', custom_message: LONG };
    user.send({ type: 'presence', event: 'update', payload: { state } });
    user.send({ type: 'broadcast', event: LONG.slice(0, 200), payload: { [LONG]: LONG } });
    user.send({ type: 'broadcast', event: 'chat', payload: { message: LONG } });
    await user.settle();
  }
  await tab.connect(await server.token('alice'), channel);
  const late = await join(server, channel, 'late');
  late.send({ type: 'broadcast', event: 'data', payload: { [LONG]: LONG } });
  late.send({ type: 'broadcast', event: LONG.slice(0, 200), payload: { message: LONG } });
  late.send({ type: 'broadcast', event: 'last', payload: { message: 'the last one' } });
  await tab.entry('the last one').waitFor();
  await tab.entry('the last one').locator('.tag').click();
  await tab.page.click('.advanced summary');
  await tab.page.fill('#payload', '{ "a": ');
  await tab.page.click('#send-event');
  await tab.page.fill('#message', 'y'.repeat(70_000));
  await tab.page.press('#message', 'Enter');
  await tab.banner.waitFor();
  return tab;
}

for (const colorScheme of ['light', 'dark'] as const) {
  test(`every text has enough contrast to its background in the ${colorScheme} color scheme`, async () => {
    const tab = await openFull(`contrast-${colorScheme}`, { colorScheme });
    const background = await tab.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const brightness = Number(/\d+/.exec(background)?.[0]);
    expect(colorScheme === 'light' ? brightness > 200 : brightness < 50).toBe(true);
    expect(await tab.page.evaluate(lowContrasts)).toEqual([]);
    await tab.page.click('#pause');
    await tab.page.uncheck('[name="system"]');
    await tab.page.locator('#latency').hover();
    expect(await tab.page.evaluate(lowContrasts)).toEqual([]);
  });
}

for (const width of [375, 320]) {
  test(`a phone ${width} pixels wide shows everything without scrolling sideways`, async () => {
    const tab = await openFull(`phone-${width}`, {
      viewport: { width, height: 700 },
      isMobile: true,
      hasTouch: true,
    });
    const tooWide = await tab.page.evaluate(() =>
      [...document.querySelectorAll('body *')]
        .filter(
          (element) => element.checkVisibility() && element.closest('.latest, .visually-hidden') === null,
        )
        .filter(
          (element) => element.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5,
        )
        .map((element) => `${element.tagName}.${element.className}`),
    );
    expect(tooWide).toEqual([]);
    const { scrollWidth, clientWidth } = await tab.page.evaluate(() => document.documentElement);
    expect(scrollWidth).toBe(clientWidth);
    await tab.page.tap('#people-link');
    expect(
      await tab.page.locator('#people-title').evaluate((title) => title === document.activeElement),
    ).toBe(true);
    expect(tab.page.url()).toContain(`#channel=phone-${width}`);
  });
}

test('the page can be used with the keyboard alone, and the focus is always visible', async () => {
  const tab = await RealtimePage.open(browser, server.url);
  const { keyboard } = tab.page;
  await tab.page.locator('#token-hint:not([hidden])').waitFor();
  await keyboard.insertText(await server.token('alice'));
  await keyboard.press('Enter');
  await tab.isConnected();
  // Entries are rendered one frame later, and the Tab order below includes them.
  await tab.entry(/alice\s*you\s*joined/).waitFor();

  const tabOrder: string[] = [];
  for (let step = 0; step < 21; step++) {
    await keyboard.press('Tab');
    const { name, visible } = await tab.page.evaluate(() => {
      const focused = document.activeElement as HTMLElement;
      const shown = focused.matches('.chip input') ? (focused.parentElement ?? focused) : focused;
      const { outlineStyle, outlineWidth } = getComputedStyle(shown);
      return {
        name:
          focused.id || focused.getAttribute('name') || focused.className || focused.tagName.toLowerCase(),
        visible: outlineStyle !== 'none' && Number.parseFloat(outlineWidth) >= 2,
      };
    });
    tabOrder.push(visible ? name : `${name} without a visible focus`);
  }
  expect(tabOrder.join(' ')).toBe(
    'reveal channel disconnect message rows presence system pause clear scroller tag tag message send summary own-state own-text own-set rows-table rows-follow summary',
  );

  await tab.page.focus('#message');
  await keyboard.type('first line');
  await keyboard.press('Shift+Enter');
  await keyboard.type('second line');
  await keyboard.press('Enter');
  expect(await tab.entry('first line').locator('.text').innerText()).toBe('first line\nsecond line');
  expect(await tab.page.locator('#message').evaluate((field) => field === document.activeElement)).toBe(true);

  await tab.page.focus('[name="presence"]');
  await keyboard.press('Space');
  await tab.entry(/alice\s*you\s*joined/).waitFor({ state: 'hidden' });
  await tab.page.focus('#disconnect');
  await keyboard.press('Enter');
  await tab.isDisconnected();
  // The focus moves to the button that replaced "disconnect".
  expect(await tab.page.evaluate(() => document.activeElement?.id)).toBe('connect');
  await keyboard.press('Enter');
  await tab.isConnected();
});

test('the page is served with a strict Content-Security-Policy and loads nothing from other hosts', async () => {
  const answer = await server.call('GET', '/');
  const policy = new Map(
    (answer.headers.get('content-security-policy') ?? '').split('; ').map((rule) => {
      const [name = '', ...sources] = rule.split(' ');
      return [name, sources.join(' ')] as const;
    }),
  );
  expect(policy.get('default-src')).toBe("'none'");
  for (const kind of ['script-src', 'style-src', 'connect-src', 'img-src']) {
    expect(policy.get(kind), kind).toBe("'self'");
  }
  for (const kind of ['base-uri', 'form-action', 'frame-ancestors']) {
    expect(policy.get(kind), kind).toBe("'none'");
  }
  const tab = await openFull('policy', { mayLogErrors: true });
  expect(tab.hosts).toEqual(['127.0.0.1']);
  const inserted = await tab.page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'document.title = "inline"';
    document.head.append(script);
    return document.title;
  });
  expect(inserted).toBe('GoForward Realtime');
});

test('/test_websocket.html is the same page', async () => {
  const [root, alias] = await Promise.all([
    server.call('GET', '/'),
    server.call('GET', '/test_websocket.html'),
  ]);
  expect(alias.status).toBe(200);
  expect(alias.text).toBe(root.text);
  const tab = await RealtimePage.open(browser, server.url, { path: '/test_websocket.html' });
  await tab.connect(await server.token('alice'), 'alias');
  await tab.say('works here too');
  await tab.entry('works here too').waitFor();
});
