import fc from 'fast-check';
import { describe, expect, expectTypeOf, it } from 'vitest';
import type { IpRange } from '../lib/ip-range.js';
import type { LogLevel } from '../lib/log.js';
import type { Rate } from '../lib/token-bucket.js';
import type { SettingType } from './setting-type.js';
import { SETTING_ROWS, SETTINGS, type Settings } from './settings-table.js';

function valueIn<T>(type: SettingType<T>, text: string): T | undefined {
  const parsed = type.parse(text);
  return parsed.ok ? parsed.value : undefined;
}

function offendingIn<T>(type: SettingType<T>, text: string): string | undefined {
  const parsed = type.parse(text);
  expect(parsed.ok).toBe(false);
  return parsed.ok ? undefined : parsed.offending;
}

describe('the settings table', () => {
  it('gives each setting its type', () => {
    expectTypeOf<Settings['maxChannels']>().toEqualTypeOf<number>();
    expectTypeOf<Settings['enablePresence']>().toEqualTypeOf<boolean>();
    expectTypeOf<Settings['messageRate']>().toEqualTypeOf<Rate>();
    expectTypeOf<Settings['logLevel']>().toEqualTypeOf<LogLevel>();
    expectTypeOf<Settings['trustedProxies']>().toEqualTypeOf<readonly IpRange[]>();
    expectTypeOf<Settings['databaseUrl']>().toEqualTypeOf<string | undefined>();
    expectTypeOf<Settings['metricsPort']>().toEqualTypeOf<number | undefined>();
    expectTypeOf<Settings['jwtAlgorithms']>().toEqualTypeOf<readonly string[] | undefined>();
  });

  it('has different variables and flags, derived from the keys', () => {
    for (const { key, env, flag } of SETTING_ROWS) {
      const kebab = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
      expect(flag).toBe(kebab);
      const snake = kebab.replaceAll('-', '_').toUpperCase();
      expect(env).toBe(key === 'databaseUrl' ? 'DATABASE_URL' : `REALTIME_${snake}`);
    }
  });

  it('every default parses, and its shown text parses to the same value', () => {
    for (const { key, type, default: fallback } of SETTING_ROWS) {
      if (fallback === undefined) continue;
      const value = valueIn(type, fallback);
      expect(value, key).toBeDefined();
      expect(valueIn(type, type.show(value)), key).toEqual(value);
    }
  });

  it('no type throws for any text, and every value is shown in one line that parses again', () => {
    const hints = [
      '5m',
      '*',
      'https://a.example',
      '10.0.0.0/8',
      'loopback',
      '7/s, burst 9',
      'RS256',
      'off',
      '80',
      'postgres://u:p@h/d',
    ];
    const text = fc.oneof(fc.constantFrom(...hints), fc.string(), fc.string({ unit: 'binary' }), fc.webUrl());
    fc.assert(
      fc.property(fc.constantFrom(...SETTING_ROWS), text, ({ type }, given) => {
        const value = valueIn(type, given);
        if (value === undefined || type.secret) return;
        expect(valueIn(type, type.show(value))).toEqual(value);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('numbers and switches', () => {
  it.each(['true', '1', 'yes', 'on', 'TRUE', ' on '])('"%s" is true', (text) => {
    expect(valueIn(SETTINGS.enableMetrics.type, text)).toBe(true);
  });

  it.each(['false', '0', 'no', 'off', 'No'])('"%s" is false', (text) => {
    expect(valueIn(SETTINGS.enableMetrics.type, text)).toBe(false);
  });

  it.each(['', 'maybe', '2', 'truefalse'])('"%s" is not a switch', (text) => {
    expect(offendingIn(SETTINGS.enableMetrics.type, text)).toBe(text);
  });

  it.each(['-1', '65536', '80.5', '0x50', '1e3', '', 'http'])('"%s" is not a port', (text) => {
    expect(offendingIn(SETTINGS.port.type, text)).toBe(text);
  });

  it('sizes and durations have bounds', () => {
    expect(valueIn(SETTINGS.maxMessageSize.type, '256')).toBe(256);
    expect(valueIn(SETTINGS.maxMessageSize.type, '100MB')).toBe(100 * 1024 ** 2);
    for (const text of ['255', '101MB']) offendingIn(SETTINGS.maxMessageSize.type, text);
    for (const text of ['63KB', '2GB']) offendingIn(SETTINGS.maxOutbox.type, text);
    expect(valueIn(SETTINGS.channelTtl.type, '365d')).toBe(31_536_000_000);
    for (const text of ['0s', '366d', '-1s']) offendingIn(SETTINGS.channelTtl.type, text);
  });

  it('durations of timers do not exceed the maximum of timers', () => {
    expect(valueIn(SETTINGS.cleanupInterval.type, '24d')).toBeLessThan(2 ** 31);
    offendingIn(SETTINGS.cleanupInterval.type, '25d');
  });
});

describe('settings from claims', () => {
  it('are pairs of a name with a dot and a claim', () => {
    const text = 'app.current_tenant=tenant_id, app.org = https://a.example/org=x,my.app.level=a.b';
    expect(valueIn(SETTINGS.claimSettings.type, text)).toEqual([
      { name: 'app.current_tenant', claim: 'tenant_id' },
      { name: 'app.org', claim: 'https://a.example/org=x' },
      { name: 'my.app.level', claim: 'a.b' },
    ]);
  });

  it.each([
    'tenant=tenant_id',
    'app.tenant',
    'app.tenant=',
    'app.tenant==tenant_id',
    'app.tenant= = tenant_id',
    '=tenant_id',
    'app.=tenant_id',
    '1app.tenant=tenant_id',
    'app.ten ant=tenant_id',
    "app.x', 'y=z",
    'app.current_user_id=sub',
    'App.Current_User_Id=sub',
    'request.jwt.claims=sub',
    'realtime.x=sub',
    'plpgsql.variable_conflict=x',
    'pg_stat_statements.track=x',
    'app.token=jti',
    'app.expires=exp',
  ])('"%s" is refused', (text) => {
    expect(valueIn(SETTINGS.claimSettings.type, text)).toBeUndefined();
  });
});

describe('rates', () => {
  it.each([
    ['50/s, burst 200', { perSecond: 50, burst: 200 }],
    ['50/s,burst 200', { perSecond: 50, burst: 200 }],
    ['50/s', { perSecond: 50, burst: 50 }],
    ['0.5/s', { perSecond: 0.5, burst: 1 }],
    ['2.5/s', { perSecond: 2.5, burst: 3 }],
  ])('"%s" is read', (text, rate) => {
    expect(valueIn(SETTINGS.messageRate.type, text)).toEqual(rate);
  });

  it.each([
    '',
    '50',
    '50/m',
    '0/s',
    '-1/s',
    '50/s burst 200',
    '50/s, burst 0',
    '50/s, burst',
    '9999999/s',
    '1e3/s',
  ])('"%s" is refused', (text) => {
    expect(offendingIn(SETTINGS.messageRate.type, text)).toBe(text);
  });
});

describe('addresses', () => {
  it('a host is a name or an address without a port or scheme', () => {
    const { type } = SETTINGS.host;
    for (const text of ['127.0.0.1', '::', '0.0.0.0', 'localhost', 'realtime.internal']) {
      expect(valueIn(type, text)).toBe(text);
    }
    expect(valueIn(type, '[::1]')).toBe('::1');
    for (const text of ['', '127.0.0.1:80', 'http://localhost', '*', 'a b', '[localhost]', '-x'])
      offendingIn(type, text);
  });

  it('origins are normalised as browsers send them', () => {
    const text =
      'https://App.example.com, http://localhost:3000/ ,https://a.example:443,capacitor://localhost,*,';
    expect(valueIn(SETTINGS.allowedOrigins.type, text)).toEqual([
      'https://app.example.com',
      'http://localhost:3000',
      'https://a.example',
      'capacitor://localhost',
      '*',
    ]);
  });

  it.each([
    'app.example.com',
    'https://app.example.com/path',
    'https://app.example.com?x',
    'https://user@app.example.com',
    'https://*.example.com',
    'wss://app.example.com',
    'file:///',
    'null',
  ])('an origin "%s" that no browser sends is refused and named', (origin) => {
    expect(offendingIn(SETTINGS.allowedOrigins.type, `https://good.example, ${origin}`)).toBe(origin);
  });

  it('a proxy that is not an address is rejected and named', () => {
    expect(valueIn(SETTINGS.trustedProxies.type, 'loopback, 10.0.0.0/8')?.map(({ text }) => text)).toEqual([
      'loopback',
      '10.0.0.0/8',
    ]);
    expect(offendingIn(SETTINGS.trustedProxies.type, '10.0.0.0/8, proxy.internal')).toBe('proxy.internal');
  });

  it('a key set has an http or https URL without a user', () => {
    const { type } = SETTINGS.jwksUrl;
    expect(valueIn(type, 'https://id.example/jwks.json')).toBe('https://id.example/jwks.json');
    for (const text of ['', 'id.example', 'file:///jwks', 'ftp://x/y', 'https://u:p@id.example/'])
      offendingIn(type, text);
  });
});

describe('credentials', () => {
  const pem =
    '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----';

  it('a secret is kept unchanged, measured in bytes, and never shown', () => {
    const { type } = SETTINGS.jwtSecret;
    expect(valueIn(type, ' sixteen bytes! ')).toBe(' sixteen bytes! ');
    expect(valueIn(type, 'éééééééé')).toBe('éééééééé');
    expect(offendingIn(type, 'fifteen bytes!!')).toBeUndefined();
    expect(type.show('sixteen bytes!!!')).toBe('********');
  });

  it('a public key may have escaped line breaks, and a private key is rejected without repeating it', () => {
    const { type } = SETTINGS.jwtPublicKey;
    expect(valueIn(type, pem)).toBe(pem);
    expect(valueIn(type, pem.replaceAll('\n', '\\n'))).toBe(pem);
    expect(valueIn(type, `${pem.replaceAll('\n', '\r\n')}\r\n`)).toBe(pem);
    for (const text of [pem.replaceAll('PUBLIC', 'PRIVATE'), '/etc/key.pem', '', pem.slice(0, -5)]) {
      expect(offendingIn(type, text)).toBeUndefined();
    }
    expect(type.show(pem)).toBe('-----BEGIN PUBLIC KEY----- (112 characters)');
  });

  it('only known algorithms are valid, and not none', () => {
    expect(valueIn(SETTINGS.jwtAlgorithms.type, 'RS256,ES256, EdDSA')).toEqual(['RS256', 'ES256', 'EdDSA']);
    expect(offendingIn(SETTINGS.jwtAlgorithms.type, 'RS256,none')).toBe('none');
  });

  it.each([
    [
      'postgres://app:s3cret@db.example:5433/app?sslmode=require',
      'postgres://app:********@db.example:5433/app?sslmode=require',
    ],
    ['postgresql://app@db/app', 'postgresql://app@db/app'],
    [
      'postgres:///app?host=/run/postgresql&password=s3cret',
      'postgres:///app?host=%2Frun%2Fpostgresql&password=********',
    ],
    ['postgres://app@server:s3cret@db/app', 'postgres://app%40server:********@db/app'],
  ])('the password of %s is masked', (url, masked) => {
    const { type } = SETTINGS.databaseUrl;
    expect(valueIn(type, url)).toBe(url);
    expect(type.show(url)).toBe(masked);
  });

  it.each([
    'mysql://app:s3cret@db/app',
    'db.example',
    'postgres://app:12/s3cret@db/app',
    'postgres://app:12?s3cret@db/app',
    'postgres://app:12#s3cret@db/app',
    'postgres://app:pa/s3cret@db/app',
  ])('%s is refused and its password not repeated', (url) => {
    expect(offendingIn(SETTINGS.databaseUrl.type, url)).toBeUndefined();
  });
});
