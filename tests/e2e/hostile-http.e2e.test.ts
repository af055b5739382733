import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Bystanders, inputsOf, SEED, WITHOUT_LIMITS, withEach } from '../support/hostile.js';
import { exchange, head, problemOf } from '../support/raw-http.js';
import { handshake } from '../support/raw-socket.js';
import { RecordingLog } from '../support/recording-log.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const CHANNEL = 'under-attack';
const log = new RecordingLog();
let server: TestServer;
let bystanders: Bystanders;
beforeAll(async () => {
  server = await startTestServer(WITHOUT_LIMITS, { log });
  bystanders = await Bystanders.in(CHANNEL, server, log);
});
afterAll(() => server.stop());

const ascii = fc.string({ unit: 'grapheme-ascii', maxLength: 40 });
const latin = fc.string({ unit: 'binary', maxLength: 40 });
const token = fc.string({
  unit: fc.constantFrom(...'abcXYZ019-_!#$%&*+.^|~'.split('')),
  minLength: 1,
  maxLength: 20,
});
const method = fc.oneof(
  fc.constantFrom('GET', 'POST', 'DELETE', 'PUT', 'OPTIONS', 'HEAD', 'CONNECT', 'TRACE'),
  token,
);
const known = fc.constantFrom(
  '/',
  '/realtime/channels',
  `/realtime/channels/${CHANNEL}`,
  `/realtime/channels/${CHANNEL}/broadcast`,
  `/realtime/channels/${CHANNEL}/presence`,
  '/realtime/stats',
  '/metrics',
  '/docs',
  '/openapi.json',
  '/page/page.js',
);
const visible = fc.string({
  unit: fc.constantFrom(...'/%.?&=:;@!*+-_~#[]{}abc019'.split('')),
  maxLength: 60,
});
const path = fc.oneof(
  known,
  visible.map((text) => `/${text}`),
  fc.tuple(known, visible).map((two) => two.join('')),
);
const POST = `POST /realtime/channels/${CHANNEL}/broadcast`;
const BODY = '{"event":"e","payload":{}}';

describe(`malformed HTTP is refused (HOSTILE_SEED=${SEED})`, () => {
  const LINES = ['\r\n', '\n', '\r', '\r\n\r\n', '\0', ' ', '\t', ':'];
  const length = fc.oneof(
    fc.constantFrom(
      '-1',
      '+5',
      '5, 5',
      '5, 6',
      '0x5',
      '1e3',
      '',
      ' ',
      '99999999999999999999',
      '65537',
      '4294967296',
    ),
    fc.nat(100_000).map(String),
    ascii,
  );
  const encoding = fc.constantFrom(
    'chunked',
    'Chunked',
    'chunked, chunked',
    'identity',
    'gzip, chunked',
    'chunked, gzip',
    ' chunked',
    'xchunked',
    'chunked\t',
    '',
  );
  const smuggled = `DELETE /realtime/channels/${CHANNEL} HTTP/1.1\r\nHost: x\r\n\r\n`;
  const chunk = fc.oneof(
    fc.tuple(fc.nat(300), ascii).map(([size, text]) => `${size.toString(16)}\r\n${text}\r\n`),
    fc.constantFrom(
      '0\r\n\r\n',
      'ffffffffffffffffff\r\n',
      '-1\r\n',
      '5;ext="\r\nhello\r\n',
      '0x5\r\nhello\r\n',
      '\r\n',
      'zz\r\n',
      `1\r\n{\r\n0\r\nTrailer: ${'x'.repeat(9_000)}\r\n\r\n`,
    ),
  );
  const CLASSES: Record<string, fc.Arbitrary<string>> = {
    'arbitrary methods, paths and bodies': fc
      .tuple(method, path, ascii)
      .map(([verb, target, body]) => head(`${verb} ${target}`, `Content-Length: ${body.length}`) + body),
    'broken request lines': fc
      .tuple(latin, fc.constantFrom(...LINES), latin, fc.constantFrom(...LINES))
      .map((pieces) => `${pieces.join('')}\r\n\r\n`),
    'random bytes': fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
    'header floods': fc
      .tuple(token, fc.integer({ min: 1, max: 3_000 }), fc.integer({ min: 0, max: 40 }))
      .map(([name, count, size]) =>
        head('GET /healthz', ...Array.from({ length: count }, (_, i) => `${name}${i}: ${'v'.repeat(size)}`)),
      ),
    'headers with arbitrary values': fc
      .tuple(
        known,
        fc.array(
          fc.tuple(
            fc.oneof(
              token,
              fc.constantFrom(
                'Authorization',
                'Origin',
                'Host',
                'Content-Type',
                'X-Forwarded-For',
                'If-None-Match',
                'Expect',
                'Connection',
                'Upgrade',
              ),
            ),
            latin,
          ),
          { maxLength: 10 },
        ),
      )
      .map(([target, headers]) =>
        head(`GET ${target}`, ...headers.map(([name, value]) => `${name}: ${value}`)),
      ),
    'invalid content lengths': fc
      .tuple(length, fc.option(length), fc.string({ maxLength: 50 }))
      .map(
        ([one, two, body]) =>
          head(
            POST,
            'Content-Type: application/json',
            `Content-Length: ${one}`,
            ...(two === null ? [] : [`Content-Length: ${two}`]),
          ) + body,
      ),
    'malformed chunks': fc
      .array(chunk, { maxLength: 20 })
      .map(
        (chunks) =>
          head(POST, 'Content-Type: application/json', 'Transfer-Encoding: chunked') + chunks.join(''),
      ),
    'attempts at request smuggling': fc
      .tuple(
        encoding,
        length,
        fc.boolean(),
        fc.constantFrom('0\r\n\r\n', BODY, ''),
        fc.constantFrom('Transfer-Encoding', 'Transfer-Encoding ', 'Transfer_Encoding', ' Transfer-Encoding'),
      )
      .map(([te, cl, isFirst, body, name]) => {
        const both = [`Content-Length: ${cl}`, `${name}: ${te}`];
        return (
          head(POST, 'Content-Type: application/json', ...(isFirst ? both : both.reverse())) + body + smuggled
        );
      }),
    'handshakes with arbitrary headers': fc
      .tuple(
        fc.constantFrom(
          'Sec-WebSocket-Key',
          'Sec-WebSocket-Version',
          'Sec-WebSocket-Protocol',
          'Sec-WebSocket-Extensions',
          'Upgrade',
          'Connection',
          'Origin',
          'Host',
        ),
        latin,
        visible,
      )
      .map(([name, text, query]) => handshake(CHANNEL, { query, headers: { [name]: text } })),
  };

  test.each(Object.entries(CLASSES))('%s', async (_name, arbitrary) => {
    const problems: unknown[] = [];
    await withEach(inputsOf(arbitrary), async (input) => {
      const problem = problemOf(await exchange(server, input, 'for nothing'));
      if (problem !== undefined) problems.push([problem, input]);
    });
    expect(problems).toEqual([]);
    await bystanders.noticeNothing();
  });
});
