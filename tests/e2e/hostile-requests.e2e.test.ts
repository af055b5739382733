import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Bystanders, inputsOf, SEED, WITHOUT_LIMITS, withEach } from '../support/hostile.js';
import { exchange, head, problemOf, statusesOf } from '../support/raw-http.js';
import { RecordingLog } from '../support/recording-log.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const CHANNEL = 'under-attack';
const log = new RecordingLog();
let server: TestServer;
let admin: string;
let bystanders: Bystanders;
beforeAll(async () => {
  server = await startTestServer(WITHOUT_LIMITS, { log });
  admin = await server.token('root', 'admin');
  bystanders = await Bystanders.in(CHANNEL, server, log);
});
afterAll(() => server.stop());

const latin = fc.string({ unit: 'binary', maxLength: 40 });
const POST = `POST /realtime/channels/${CHANNEL}/broadcast`;
const BODY = '{"event":"e","payload":{}}';

describe(`well-formed requests with hostile content are answered (HOSTILE_SEED=${SEED})`, () => {
  test('every endpoint that takes a body answers a hostile one exactly once', async () => {
    const name = fc.oneof(
      latin,
      fc.constantFrom(CHANNEL, '__proto__', 'constructor', 'toString', 'a'.repeat(101)),
    );
    const deep = fc.integer({ min: 1, max: 3_000 }).map((depth) => '['.repeat(depth) + ']'.repeat(depth));
    const body = fc.oneof(
      fc.json({ noUnicodeString: false }),
      latin,
      deep,
      fc
        .record(
          {
            name,
            max_subscribers: fc.jsonValue(),
            permissions: fc.jsonValue(),
            metadata: fc.jsonValue(),
            require_auth: fc.jsonValue(),
          },
          { requiredKeys: [] },
        )
        .map((it) => JSON.stringify(it)),
      fc
        .record({ type: fc.jsonValue(), event: latin, payload: fc.jsonValue() }, { requiredKeys: ['event'] })
        .map((it) => JSON.stringify(it)),
      fc.record({ state: fc.jsonValue() }).map((it) => JSON.stringify(it)),
      fc.constantFrom(
        '{"state":{"__proto__":{"a":1e999}}}',
        '{"name":"\\ud800"}',
        '{"event":"\\u0000","payload":-0}',
      ),
      fc.jsonValue().map((metadata) =>
        JSON.stringify({
          name: `made-${Math.abs(JSON.stringify(metadata).length)}`,
          metadata: { metadata, text: '\u0000\ud800' },
        }),
      ),
    );
    const target = fc.constantFrom(
      '/realtime/channels',
      `/realtime/channels/${CHANNEL}/broadcast`,
      `/realtime/channels/${CHANNEL}/presence`,
    );
    const problems: unknown[] = [];
    await withEach(inputsOf(fc.tuple(target, body)), async ([endpoint, text]) => {
      const bytes = Buffer.from(text);
      const headers = [
        `Authorization: Bearer ${admin}`,
        'Content-Type: application/json',
        `Content-Length: ${bytes.length}`,
        'Connection: close',
      ];
      const answer = await exchange(
        server,
        Buffer.concat([Buffer.from(head(`POST ${endpoint}`, ...headers)), bytes]),
        'for the server',
      );
      const problem = problemOf(answer) ?? (statusesOf(answer).length === 1 ? undefined : answer);
      if (problem !== undefined) problems.push([problem, endpoint, text]);
    });
    expect(problems).toEqual([]);
    await bystanders.noticeNothing();
  });

  test('pipelined requests are answered in order, refused ones included', async () => {
    const kinds: [string, number][] = [
      [head('GET /healthz'), 200],
      [head('GET /nowhere'), 404],
      [head('DELETE /healthz'), 405],
      [head('GET /realtime/stats'), 401],
      [head(POST, 'Content-Type: application/json', `Content-Length: ${BODY.length}`) + BODY, 401],
    ];
    const batch = fc.array(fc.constantFrom(...kinds), { minLength: 1, maxLength: 20 });
    await withEach(inputsOf(batch), async (requests) => {
      const last = head('GET /healthz', 'Connection: close');
      const answer = await exchange(server, requests.map(([text]) => text).join('') + last, 'for the server');
      expect(statusesOf(answer)).toEqual([...requests.map(([, status]) => status), 200]);
    });
    await bystanders.noticeNothing();
  });

  test('paths that lead out of /page/ and /docs/static/ find no file', async () => {
    const up = fc.constantFrom(
      '..',
      '%2e%2e',
      '.%2e',
      '%2e.',
      '..%2f',
      '..%5c',
      '..\\',
      '....//',
      '%252e%252e',
      '..;',
      '.',
      '%00',
      '%c0%ae%c0%ae',
    );
    const goal = fc.constantFrom(
      'package.json',
      'etc/passwd',
      'src/server.ts',
      'page/../package.json',
      '.git/config',
      'index.html',
      '%2fetc%2fpasswd',
      'C:/x',
    );
    const base = fc.constantFrom('/page/', '/docs/static/', '/docs/', '/page', '/');
    const paths = fc.tuple(
      base,
      fc.array(up, { minLength: 1, maxLength: 12 }),
      fc.constantFrom('/', '%2f', '//'),
      goal,
    );
    const problems: unknown[] = [];
    await withEach(inputsOf(paths), async ([start, ups, separator, end]) => {
      const target = `${start}${[...ups, end].join(separator)}`;
      const answer = await exchange(server, head(`GET ${target}`, 'Connection: close'), 'for the server');
      const [status = 0] = statusesOf(answer);
      if (problemOf(answer) !== undefined || status < 300 || status >= 500)
        problems.push([target, answer.slice(0, 300)]);
    });
    expect(problems).toEqual([]);
    await bystanders.noticeNothing();
  });
});
