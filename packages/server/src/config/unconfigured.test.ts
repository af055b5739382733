import { describe, expect, it } from 'vitest';
import { loadSettings } from './load-settings.js';
import { isUnconfigured } from './unconfigured.js';

function unconfigured(env: Record<string, string>, nodeEnv?: string): boolean {
  return isUnconfigured(loadSettings({ flags: {}, env, envFile: {} }).settings, nodeEnv);
}

describe('a server is unconfigured', () => {
  it.each([
    {},
    { REALTIME_HOST: 'localhost' },
    { REALTIME_HOST: '::1' },
    { REALTIME_HOST: '127.0.0.2' },
    { REALTIME_PORT: '9000', REALTIME_LOG_LEVEL: 'debug', REALTIME_ALLOWED_ORIGINS: '*' },
  ])('with %j', (env) => {
    expect(unconfigured(env)).toBe(true);
    expect(unconfigured(env, 'development')).toBe(true);
    expect(unconfigured(env, 'production')).toBe(false);
  });

  it.each([
    { REALTIME_HOST: '0.0.0.0' },
    { REALTIME_HOST: '::' },
    { REALTIME_HOST: 'realtime.internal' },
    { DATABASE_URL: 'postgres://app@db/app' },
    { REALTIME_JWT_SECRET: 'a secret of more than sixteen bytes' },
    { REALTIME_JWKS_URL: 'https://id.example/jwks' },
    { REALTIME_JWT_PUBLIC_KEY: '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----' },
  ])('but not with %j', (env) => {
    expect(unconfigured(env)).toBe(false);
  });
});
