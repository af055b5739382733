import { beforeEach, describe, expect, it } from 'vitest';
import { type Log, silentLog } from '../../../lib/log.js';
import { EvaluationErrorLog } from './evaluation-error-log.js';

const TABLE = { schema: 'public', name: 'notes' };
const MINUTE = 60_000;

describe('the log of evaluation errors', () => {
  let now: number;
  let lines: Record<string, unknown>[];
  let errors: EvaluationErrorLog;

  beforeEach(() => {
    now = 0;
    lines = [];
    const warn: Log['warn'] = (fields, text) => void lines.push({ ...fields, text });
    errors = new EvaluationErrorLog({ ...silentLog, warn }, () => now);
  });

  const report = (message: string, role = 'realtime_subscriber', table = TABLE) =>
    errors.report({
      table,
      role,
      error: { sqlstate: '22P02', message },
      raisedBy: 'policy',
      policies: ['own'],
    });

  it('names the table, the role, the policies and the first 200 characters of PostgreSQL’s message', () => {
    report('invalid input');
    report('!'.repeat(500), 'r');
    expect(lines).toEqual([
      {
        table: 'public.notes',
        role: 'realtime_subscriber',
        raised_by: 'policy',
        policies: ['own'],
        sqlstate: '22P02',
        error: 'invalid input',
        text: 'A policy or condition raised an error; rows were not sent',
      },
      {
        table: 'public.notes',
        role: 'r',
        raised_by: 'policy',
        policies: ['own'],
        sqlstate: '22P02',
        error: '!'.repeat(200),
        text: 'A policy or condition raised an error; rows were not sent',
      },
    ]);
  });

  it('logs the same error of a table and role once, however often it happens', () => {
    for (; now < 10 * MINUTE; now += MINUTE) report('a');
    expect(lines).toHaveLength(1);
    report('a', 'another_role');
    now += MINUTE;
    report('a', 'realtime_subscriber', { schema: 'public', name: 'rooms' });
    expect(lines.map(({ table, role }) => [table, role])).toEqual([
      ['public.notes', 'realtime_subscriber'],
      ['public.notes', 'another_role'],
      ['public.rooms', 'realtime_subscriber'],
    ]);
  });

  it('logs no text of an error that a condition can have raised: it can hold values of rows', () => {
    for (const raisedBy of ['condition', 'policy or condition'] as const) {
      for (let n = 0; n < 10; n++, now += MINUTE)
        errors.report({
          table: TABLE,
          role: 'r',
          error: { sqlstate: '22P02', message: `invalid input: secret ${n}` },
          raisedBy,
          policies: [],
        });
    }
    const line = { table: 'public.notes', role: 'r', sqlstate: '22P02' };
    expect(lines).toEqual([
      expect.objectContaining({ ...line, raised_by: 'condition' }),
      expect.objectContaining({ ...line, raised_by: 'policy or condition' }),
    ]);
    expect(JSON.stringify(lines)).not.toContain('secret');
  });

  it('logs the error of a policy although conditions and other roles raise errors all the time', () => {
    for (let n = 0; n < 600; n++, now += 1_000) {
      const error = { sqlstate: `22${n}`, message: '' };
      errors.report({
        table: TABLE,
        role: 'realtime_subscriber',
        error,
        raisedBy: 'condition',
        policies: [],
      });
      report(`error ${n}`, 'another_role');
    }
    report('the policy');
    expect(lines.filter(({ error }) => error === 'the policy')).toHaveLength(1);
  });

  it('logs at most one line a minute of a table and role, and counts the others', () => {
    for (let n = 0; n < 100; n++) report(`error ${n}`);
    now = MINUTE;
    report('error 50');
    expect(lines.map(({ error, suppressed }) => [error, suppressed])).toEqual([
      ['error 0', undefined],
      ['error 50', 99],
    ]);
  });

  it('remembers a bounded number of errors: the oldest is forgotten first', () => {
    for (let n = 0; n <= 1_000; n++, now += MINUTE) report(`error ${n}`);
    report('error 1000');
    expect(lines).toHaveLength(1_001);
    report('error 0');
    expect(lines).toHaveLength(1_002);
  });
});
