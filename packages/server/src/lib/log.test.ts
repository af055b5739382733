import { describe, expect, it } from 'vitest';
import { createLog, isJson, LOG_FORMATS, type LogLevel, silentLog } from './log.js';

/** Creates a log at this level, and the list of the lines that it writes. */
function logAt(level: LogLevel) {
  const lines: Record<string, unknown>[] = [];
  const log = createLog(level, { write: (line) => lines.push(JSON.parse(line)) });
  return { log, lines };
}

describe('the log', () => {
  it('writes fields, an ISO time and the message', () => {
    const { log, lines } = logAt('info');
    log.info({ channel: 'lobby' }, 'Channel created');
    expect(lines).toEqual([
      {
        level: 30,
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
        channel: 'lobby',
        msg: 'Channel created',
      },
    ]);
  });

  it('writes only type, message, code and stack of an error', () => {
    const { log, lines } = logAt('error');
    const error = Object.assign(new TypeError('the query failed', { cause: new Error('s3cret') }), {
      code: '23505',
      detail: 'Key (email)=(s3cret) already exists',
      headers: { authorization: 's3cret' },
    });
    log.error({ err: error }, 'Channel not stored');
    expect(lines[0]?.err).toEqual({
      type: 'TypeError',
      message: 'the query failed',
      code: '23505',
      stack: expect.stringContaining('the query failed'),
    });
    expect(JSON.stringify(lines)).not.toContain('s3cret');
  });

  it('writes no more of an error that a child logs', () => {
    const { log, lines } = logAt('warn');
    log.child({ node: 'a' }).warn({ err: Object.assign(new Error('no'), { token: 's3cret' }) }, 'Refused');
    expect(lines[0]).toMatchObject({ node: 'a', err: { type: 'Error', message: 'no' } });
    expect(JSON.stringify(lines)).not.toContain('s3cret');
  });

  it('writes thrown values that are not errors as text', () => {
    const { log, lines } = logAt('error');
    log.error({ err: 'a text' }, 'Thrown');
    log.error({ err: null }, 'Thrown');
    expect(lines.map(({ err }) => err)).toEqual(['a text', 'null']);
  });

  it('omits lines below its level', () => {
    const { log, lines } = logAt('warn');
    for (const level of ['debug', 'info', 'warn', 'error'] as const) log[level]({}, level);
    expect(lines.map(({ msg }) => msg)).toEqual(['warn', 'error']);
    const silent = logAt('silent');
    silent.log.error({}, 'discarded');
    expect(silent.lines).toEqual([]);
  });

  it('is pretty on a terminal and JSON elsewhere, unless its format is set', () => {
    const formats = (isTerminal: boolean) => LOG_FORMATS.map((format) => isJson(format, isTerminal));
    expect(LOG_FORMATS).toEqual(['auto', 'pretty', 'json']);
    expect(formats(true)).toEqual([false, false, true]);
    expect(formats(false)).toEqual([true, false, true]);
  });

  it('has silent children when it is silent', () => {
    expect(silentLog.child({ a: 1 })).toBe(silentLog);
  });
});
