import { ProtocolError } from '@goforward/realtime-protocol';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { OriginRule } from './origin-rule.js';

const configured = new OriginRule([], false);
const unconfigured = new OriginRule([], true);

function passes(rule: OriginRule, origin: string | undefined, host: string | undefined): boolean {
  try {
    rule.require(origin, host);
    return true;
  } catch (error) {
    if (error instanceof ProtocolError && error.code === 'ORIGIN_NOT_ALLOWED') return false;
    throw error;
  }
}

test.each([
  ['https://app.example.com', 'app.example.com', true],
  ['https://app.example.com', 'app.example.com:443', true],
  ['http://app.example.com', 'app.example.com:80', true],
  ['http://app.example.com', 'app.example.com:443', false],
  ['https://app.example.com:8443', 'app.example.com:8443', true],
  ['https://app.example.com:8443', 'app.example.com', false],
  ['https://APP.example.com', 'app.EXAMPLE.com', true],
  ['https://example.com', 'app.example.com', false],
  ['http://localhost:5173', 'localhost:8080', true],
  ['http://localhost:5173', '127.0.0.1:8080', true],
  ['http://127.0.0.1', '[::1]:8080', true],
  ['http://[::ffff:127.0.0.1]', 'localhost', true],
  ['http://localhost:5173', 'app.example.com', false],
  ['http://app.example.com', 'localhost:8080', false],
  ['http://localhost:5173', '0.0.0.0:8080', false],
  ['http://app.example.com', undefined, false],
  ['http://app.example.com', 'app.example.com@evil.example', false],
  ['http://evil.example', 'app.example.com@evil.example', false],
  ['http://evil.example', 'evil.example/app.example.com', false],
  ['null', 'null', false],
  ['http://', 'localhost', false],
  ['data:text/html,x', 'localhost', false],
  ['file:///etc/passwd', 'localhost', false],
])('the origin %s may use the host %s: %s', (origin, host, expected) => {
  expect(passes(configured, origin, host)).toBe(expected);
});

test('a request without an origin passes, whatever its host', () => {
  for (const host of [undefined, '', 'evil.example', 'localhost']) {
    expect(passes(configured, undefined, host)).toBe(true);
  }
});

describe('an unconfigured server', () => {
  test.each([
    'localhost',
    'localhost:8080',
    'LOCALHOST:8080',
    '127.0.0.1',
    '127.0.0.1:8080',
    '[::1]',
    '[::1]:8080',
  ])('answers to the host %s', (host) => {
    expect(passes(unconfigured, undefined, host)).toBe(true);
    expect(passes(unconfigured, 'http://localhost:5173', host)).toBe(true);
  });

  test.each([
    undefined,
    '',
    'evil.example',
    'evil.example:8080',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    '127.0.0.2',
    'evil.example@localhost',
    'localhost@evil.example',
    'localhost/evil',
    'localhost#evil.example',
    'localhost\\evil.example',
    '192.168.0.7:8080',
  ])('refuses the host %s, even with an origin of the same name', (host) => {
    expect(passes(unconfigured, undefined, host)).toBe(false);
    expect(passes(unconfigured, `http://${host}`, host)).toBe(false);
  });

  test('refuses a foreign host even if all origins are allowed: DNS rebinding must not reveal its token', () => {
    expect(passes(new OriginRule(['*'], true), 'http://evil.example', 'evil.example')).toBe(false);
  });

  test('refuses a foreign origin like a configured one', () => {
    expect(passes(unconfigured, 'https://evil.example', 'localhost:8080')).toBe(false);
  });
});

const label = fc.stringMatching(/^[a-z][a-z0-9]{0,10}$/);
const domain = fc.array(label, { minLength: 2, maxLength: 4 }).map((labels) => labels.join('.'));
const port = fc.integer({ min: 1, max: 65_535 });

describe('for any name and port', () => {
  test('its own host passes, with an explicit or implied port', () => {
    fc.assert(
      fc.property(domain, port, (name, at) => {
        expect(passes(configured, `http://${name}:${at}`, `${name}:${at}`)).toBe(true);
        expect(passes(configured, `https://${name}`, `${name}:443`)).toBe(true);
      }),
    );
  });

  test('another name passes only if it is listed, in any case', () => {
    fc.assert(
      fc.property(domain, domain, (page, host) => {
        fc.pre(page !== host);
        const origin = `https://${page}`;
        expect(passes(configured, origin, host)).toBe(false);
        expect(passes(new OriginRule([origin], false), origin.toUpperCase(), host)).toBe(true);
        expect(passes(new OriginRule([`https://${host}`], false), origin, host)).toBe(false);
        expect(passes(new OriginRule(['*'], false), origin, host)).toBe(true);
      }),
    );
  });
});

test('every header passes or is refused', () => {
  const text = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.webUrl(), fc.constant('null'));
  fc.assert(
    fc.property(text, fc.option(text, { nil: undefined }), (origin, host) => {
      for (const rule of [configured, unconfigured])
        expect(typeof passes(rule, origin, host)).toBe('boolean');
    }),
  );
});
