import { ERRORS } from '@goforward/realtime-protocol';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SETTING_ROWS } from '../../packages/server/src/config/settings-table.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const VARIABLES: readonly string[] = SETTING_ROWS.map(({ env }) => env);
const CODES = Object.keys(ERRORS);

let server: TestServer;
let paths: Readonly<Record<string, object>>;

beforeAll(async () => {
  server = await startTestServer();
  paths = JSON.parse((await server.call('GET', '/openapi.json')).text).paths;
});
afterAll(() => server.stop());

describe.each(Object.entries(ERRORS))('the error reference of %s', (_, { doc, cause, fix }) => {
  const text = [doc, cause, fix].join('\n');

  test('names only settings that exist', () => {
    const named = text.match(/\b(?:REALTIME|DATABASE)_[A-Z_]+\b/g) ?? [];
    const settings = named.filter((name) => !CODES.includes(name));
    expect(settings.filter((name) => !VARIABLES.includes(name))).toEqual([]);
  });

  test('names only endpoints that exist', () => {
    const named = [...text.matchAll(/`(GET|POST|DELETE) (\/[^`?]+)`/g)];
    for (const [, method = '', path = ''] of named) {
      const operations = paths[path.replaceAll(/:(\w+)/g, '{$1}')];
      expect(operations, path).toHaveProperty(method.toLowerCase());
    }
  });

  test('names only error codes that exist', () => {
    const named = text.match(/`[A-Z]+(?:_[A-Z]+)+`/g) ?? [];
    const codes = named.map((name) => name.slice(1, -1)).filter((name) => !VARIABLES.includes(name));
    expect(codes.filter((name) => !CODES.includes(name))).toEqual([]);
  });
});
