import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.stop());

const get = (path: string) => server.call('GET', path);

describe('health', () => {
  test('/healthz reports that the process is alive', async () => {
    const answer = await get('/healthz');
    expect([answer.status, answer.body]).toEqual([200, { status: 'ok' }]);
  });

  test('/readyz reports the status of each part', async () => {
    const answer = await get('/readyz');
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({
      status: 'ready',
      parts: {
        server: { status: 'running' },
        channels: { status: 'loaded' },
        database: { status: 'up' },
        database_connections: {
          status: 'available',
          reason: 'in use: own 0 of 4; evaluation 0 of 2; replays 0 of 3; conditions 0 of 2',
        },
      },
    });
  });
});

/** The parts of an OpenAPI document that are checked here. */
interface OpenApi {
  readonly openapi: string;
  readonly info: Readonly<Record<string, string>>;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly securitySchemes: Readonly<Record<string, { readonly type: string }>> };
}

interface Operation {
  readonly summary?: string;
  readonly tags?: readonly string[];
  readonly security?: readonly Readonly<Record<string, unknown>>[];
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly required?: boolean;
  }[];
  readonly requestBody?: unknown;
  readonly responses: Readonly<Record<string, { readonly description?: string }>>;
}

describe('/openapi.json', () => {
  const ROUTES = {
    '/realtime/channels': ['get', 'post'],
    '/realtime/channels/{name}': ['delete', 'get'],
    '/realtime/channels/{name}/broadcast': ['post'],
    '/realtime/channels/{name}/presence': ['get', 'post'],
    '/realtime/channels/{name}/stats': ['get'],
    '/realtime/channels/{name}/ws': ['get'],
    '/realtime/channels/{name}/subscribe': ['post'],
    '/realtime/subscriptions': ['get'],
    '/realtime/subscriptions/{id}': ['delete', 'get'],
    '/realtime/triggers': ['get'],
    '/realtime/explain': ['post'],
    '/realtime/triggers/{table}': ['delete', 'post'],
    '/realtime/stats': ['get'],
    '/metrics': ['get'],
    '/healthz': ['get'],
    '/readyz': ['get'],
  };
  const PUBLIC = ['/realtime/channels/{name}/ws', '/healthz', '/readyz'];

  let document: OpenApi;
  let operations: [path: string, method: string, operation: Operation][];
  beforeAll(async () => {
    document = JSON.parse((await get('/openapi.json')).text) as OpenApi;
    operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]): [string, string, Operation] => [
        path,
        method,
        operation,
      ]),
    );
  });

  test('is OpenAPI 3.1 with a title and the version of the server', () => {
    expect(document.openapi).toMatch(/^3\.1\.\d+$/);
    expect(document.info.title).toBe('GoForward Realtime');
    expect(document.info.version).toMatch(/^\d+\.\d+\.\d+/);
  });

  test('lists exactly the routes that exist', async () => {
    const named = Object.fromEntries(
      Object.entries(document.paths).map(([path, methods]) => [path, Object.keys(methods).sort()]),
    );
    expect(named).toEqual(ROUTES);
    for (const [path, method] of operations) {
      const answer = await server.call(method.toUpperCase(), path.replace(/\{\w+\}/, 'room'));
      expect([path, method, answer.body.code]).not.toEqual([path, method, 'NOT_FOUND']);
      expect(answer.status).not.toBe(405);
    }
  });

  test('describes the purpose, parameters, body, responses and security of each route', () => {
    for (const [path, method, operation] of operations) {
      const where = `${method} ${path}`;
      expect(operation.summary, where).toMatch(/^[A-Z]/);
      expect(operation.tags, where).toHaveLength(1);
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      const declared = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path');
      expect(
        declared.map(({ name }) => name),
        where,
      ).toEqual(inPath);
      expect(
        declared.every(({ required }) => required),
        where,
      ).toBe(true);
      expect(operation.requestBody !== undefined, where).toBe(method === 'post');
      expect(Object.keys(operation.responses).length, where).toBeGreaterThan(0);
      for (const [status, response] of Object.entries(operation.responses)) {
        expect(status, where).toMatch(/^([1-5]\d\d|[1-5]XX|default)$/);
        expect(response.description, where).toEqual(expect.any(String));
      }
      const schemes = (operation.security ?? []).flatMap((need) => Object.keys(need));
      expect(schemes, where).toEqual(PUBLIC.includes(path) ? [] : ['token']);
    }
    expect(document.components.securitySchemes.token?.type).toBe('http');
  });

  test('is plain JSON Schema: every reference resolves, and no name of an internal tool is left', async () => {
    const { text } = await get('/openapi.json');
    const references = [...text.matchAll(/"\$ref":"([^"]*)"/g)].map(([, reference = '']) => reference);
    for (const reference of references) {
      expect(reference).toMatch(/^#\//);
      const target = reference
        .slice(2)
        .split('/')
        .reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], document);
      expect(target, reference).toBeDefined();
    }
    expect(text).not.toMatch(/"~\w+"|"def-\d+"|undefined/);
  });
});

describe('/docs', () => {
  test('loads all that it refers to from the server itself', async () => {
    const page = await server.call('GET', '/docs');
    expect(page.status).toBe(200);
    expect(page.headers.get('content-type')).toMatch(/^text\/html/);
    const references = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, url = '']) => url);
    expect(references.length).toBeGreaterThan(2);
    for (const reference of references) {
      const url = new URL(reference, `${server.url}/docs`);
      expect(url.origin).toBe(server.url);
      expect([reference, (await get(url.pathname)).status]).toEqual([reference, 200]);
    }
    const spec = await get('/docs/json');
    expect(JSON.parse(spec.text)).toEqual(JSON.parse((await get('/openapi.json')).text));
  });

  test('has a content security policy that allows no other origin', async () => {
    const policy = (await get('/docs')).headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'self'");
    expect(policy).not.toMatch(/https:|http:|\*|unsafe-eval|script-src[^;]*unsafe-inline/);
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).toContain("object-src 'none'");
  });
});

const EVERYWHERE = [
  '/',
  '/docs',
  '/healthz',
  '/openapi.json',
  '/nothing',
  '/realtime/stats',
  '/metrics',
  '/%zz',
];

test.each(EVERYWHERE)('%s has nosniff and no-referrer and does not name its software', async (path) => {
  const { headers } = await get(path);
  expect(headers.get('x-content-type-options')).toBe('nosniff');
  expect(headers.get('referrer-policy')).toBe('no-referrer');
  expect(headers.get('x-powered-by')).toBeNull();
  expect(headers.get('server')).toBeNull();
});

test.each(['/realtime/channels', '/realtime/stats', '/metrics', '/readyz', '/nothing'])(
  '%s is not cached',
  async (path) => {
    expect((await get(path)).headers.get('cache-control')).toBe('no-store');
  },
);

test.each(['/', '/test_websocket.html'])(
  'the page at %s contains and allows no inline code and no other origin',
  async (path) => {
    const { headers, text } = await get(path);
    const policy = headers.get('content-security-policy') ?? '';
    for (const rule of [
      "default-src 'none'",
      "script-src 'self'",
      "connect-src 'self'",
      "frame-ancestors 'none'",
    ]) {
      expect(policy.split('; ')).toContain(rule);
    }
    expect(policy).not.toMatch(/unsafe|http|\*/);
    expect(text).not.toMatch(/<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|https?:\/\/(?!www\.w3\.org)/);
  },
);

test('a request for the page with its etag gets 304 without a body', async () => {
  const { headers } = await get('/');
  const again = await server.call('GET', '/', { headers: { 'if-none-match': headers.get('etag') ?? '' } });
  expect([again.status, again.text]).toEqual([304, '']);
});

test('a configured server has no demo session', async () => {
  const answer = await get('/demo-session');
  expect([answer.status, answer.text]).toEqual([204, '']);
});
