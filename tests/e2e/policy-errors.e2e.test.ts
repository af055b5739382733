import { tmpdir } from 'node:os';
import type { Log } from '@goforward/realtime';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runCli } from '../support/cli.js';
import { eventually } from '../support/eventually.js';
import { ADA, nextChange, run, subscribe } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

const MISSING = 'unrecognized configuration parameter "app.tenant"';

/** Keeps warnings with their fields. */
class WarningLog implements Log {
  readonly warnings: (Record<string, unknown> & { readonly text: string })[] = [];

  debug(): void {
    return;
  }

  info(): void {
    return;
  }

  warn(fields: Record<string, unknown>, text: string): void {
    this.warnings.push({ ...fields, text });
  }

  error(): void {
    return;
  }

  child(): Log {
    return this;
  }

  /** Returns the warnings about policies and conditions that raised an error. */
  get policyErrors() {
    return this.warnings.filter(({ text }) => /raised an error/.test(text));
  }
}

describe.each(['logical', 'trigger'])('an error in a policy or condition, change source %s', (source) => {
  let server: TestServer;
  let log: WarningLog;
  beforeEach(async () => {
    log = new WarningLog();
    server = await startRowChangeServer({ REALTIME_CHANGE_SOURCE: source }, { log });
    await run(
      server,
      `CREATE TABLE notes (id int PRIMARY KEY, tenant text, body text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
       CREATE POLICY by_tenant ON notes USING (lower(tenant) = current_setting('app.tenant'))`,
    );
    await subscribe(server, 'lobby', { table: 'notes' });
  });
  afterEach(() => server.stop());

  async function explain(body: object) {
    const token = await server.token('root', 'admin');
    const answer = await server.call('POST', '/realtime/explain', {
      token,
      body: { table: 'notes', user: { sub: ADA }, row: { id: 1, tenant: 'x', body: 'x' }, ...body },
    });
    expect(answer.status).toBe(200);
    return answer.body as unknown as { visible: boolean; reasons: string[] } & Record<string, unknown>;
  }

  async function cli(command: string, ...args: string[]): Promise<string> {
    const env = { DATABASE_URL: server.databaseUrl, REALTIME_CHANGE_SOURCE: source };
    return (await runCli([command, ...args], { cwd: tmpdir(), env })).stdout;
  }

  test('is logged once and explained with PostgreSQL’s message, which no client receives', async () => {
    const ada = await join(server, 'lobby', ADA);
    await run(server, `INSERT INTO notes VALUES (1, 'x', 'x')`);
    const { payload } = await ada.next('system', 'error');
    expect(payload.code).toBe('POLICY_ERROR');
    expect(JSON.stringify(payload)).not.toMatch(/app\.tenant|42704|by_tenant/);
    await run(server, `INSERT INTO notes VALUES (2, 'x', 'x'); SELECT realtime.send('lobby', 'end', '{}')`);
    await ada.next('message', 'end');
    expect(log.policyErrors).toEqual([
      {
        table: 'public.notes',
        role: 'realtime_subscriber',
        raised_by: 'policy',
        policies: ['by_tenant'],
        sqlstate: '42704',
        error: MISSING,
        text: 'A policy or condition raised an error; rows were not sent',
      },
    ]);
    expect(await explain({})).toMatchObject({
      visible: false,
      reasons: [`No policy lets it pass: by_tenant (error 42704: ${MISSING}).`],
      policies: [{ name: 'by_tenant', result: 'error', error: { sqlstate: '42704', message: MISSING } }],
    });
    const token = await server.token('root', 'admin');
    const row = '{"id": 1, "tenant": "x"}';
    const args = ['--url', server.url, '--token', token, '--user', ADA, '--table', 'notes', '--row', row];
    expect(await cli('explain', ...args)).toContain(`\n  42704: ${MISSING}\n`);
  });

  test('that depends on the row is logged with at most 200 characters of its message', async () => {
    await run(server, `ALTER POLICY by_tenant ON notes USING (body::int > 0)`);
    const ada = await join(server, 'lobby', ADA);
    await run(server, `INSERT INTO notes VALUES (1, 'x', repeat('secret ', 100))`);
    await ada.next('system', 'error');
    const [line] = log.policyErrors;
    expect(line).toMatchObject({ sqlstate: '22P02' });
    expect(String(line?.error)).toHaveLength(200);
    expect(String(line?.error)).toMatch(/^invalid input syntax for type integer: "secret /);
    expect(JSON.stringify(line).length).toBeLessThan(500);
  });

  test('of a condition is logged without its text, and explained too', async () => {
    await run(server, `ALTER POLICY by_tenant ON notes USING (true)`);
    const id = await subscribe(server, 'sums', { table: 'notes', condition: '10 / (id - 1) > 0' });
    const ada = await join(server, 'sums', ADA);
    await run(server, `INSERT INTO notes VALUES (1, 'x', 'x')`);
    expect((await ada.next('system', 'error')).payload.code).toBe('POLICY_ERROR');
    expect(log.policyErrors).toEqual([
      expect.objectContaining({ table: 'public.notes', sqlstate: '22012', raised_by: 'condition' }),
    ]);
    expect(log.policyErrors[0]).not.toHaveProperty('error');
    const request = { table: undefined, subscription_id: id };
    expect(await explain(request)).toMatchObject({
      visible: false,
      reasons: [expect.anything(), 'The condition raises an error: 22012: division by zero.'],
      condition: { holds: false, error: { sqlstate: '22012', message: 'division by zero' } },
    });
  });

  test.each([
    ['a failed cast', 'body::int > 0', '22P02', 'invalid input syntax for type integer: "a secret"'],
    ['RAISE', 'refused(body)', 'P0001', 'no access to a secret'],
  ])(
    'in a snapshot, by %s, is logged, but its text is not sent, because it can contain values of hidden rows',
    async (_, policy, sqlstate, error) => {
      await run(
        server,
        `CREATE FUNCTION refused(body text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'no access to %', body; END $$;
         DROP POLICY by_tenant ON notes; INSERT INTO notes VALUES (1, 'x', 'a secret')`,
      );
      const ada = await join(server, 'lobby', ADA);
      await run(server, `CREATE POLICY raising ON notes USING (${policy})`);
      ada.send({
        type: 'subscribe',
        event: 'database_changes',
        ref: 1,
        payload: { table: 'notes', snapshot: true },
      });
      const { payload } = await ada.next('reply', 'error');
      expect(payload.code).toBe('DB_SUBSCRIPTION_FAILED');
      expect(JSON.stringify(payload)).not.toMatch(/secret|raising|22P02|P0001/);
      expect(log.policyErrors).toEqual([
        expect.objectContaining({ raised_by: 'policy', policies: ['raising'], sqlstate, error }),
      ]);
    },
  );

  test('for every user is reported by doctor, which evaluates policies without rows and without side effects', async () => {
    await run(
      server,
      `CREATE TABLE effects (n int); GRANT ALL ON effects TO PUBLIC;
       CREATE FUNCTION noted() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN INSERT INTO public.effects VALUES (1); RAISE 'noted'; END $$;
       CREATE FUNCTION hidden_effect() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM public.noted_quietly(); RETURN true; END $$;
       CREATE FUNCTION noted_quietly() RETURNS void LANGUAGE plpgsql VOLATILE AS $$ BEGIN INSERT INTO public.effects VALUES (2); END $$;
       CREATE POLICY int_ids ON notes USING (id = current_setting('app.current_user_id')::int);
       CREATE POLICY uuid_ids ON notes USING (body::uuid = current_setting('app.current_user_id')::uuid);
       CREATE POLICY with_effect ON notes USING (noted());
       CREATE POLICY with_lock ON notes USING ((SELECT pg_advisory_lock(4711)) IS NULL);
       CREATE POLICY with_hidden_effect ON notes USING (hidden_effect())`,
    );
    const out = await cli('doctor');
    expect(out).toContain(
      `GF128 warning: 1 policy raises an error\n  A row whose policies raise an error is not sent. Policy by_tenant of public.notes: 42704, ${MISSING}.`,
    );
    expect(out).not.toContain('No problems found');
    expect(await run(server, 'SELECT * FROM effects')).toEqual([]);
    expect(await run(server, `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711`)).toEqual(
      [],
    );
    await run(server, `ALTER POLICY by_tenant ON notes USING (tenant = current_setting('app.tenant', true))`);
    expect(await cli('doctor')).not.toContain('GF128');
  });

  test('does not occur where a policy calls a function in a schema that the role may not use', async () => {
    await run(
      server,
      `CREATE SCHEMA private;
       CREATE FUNCTION private.uid() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('app.current_user_id') $$;
       ALTER POLICY by_tenant ON notes USING (lower(tenant) = private.uid())`,
    );
    expect(await explain({ row: { id: 1, tenant: ADA } })).toMatchObject({
      visible: true,
      policies: [{ name: 'by_tenant', result: 'true' }],
    });
    expect(await cli('doctor')).not.toContain('GF128');
    const ada = await join(server, 'lobby', ADA);
    await run(server, `INSERT INTO notes VALUES (1, '${ADA}', 'x')`);
    expect((await nextChange(ada)).new_record?.id).toBe(1);
    await eventually(async () => expect(log.policyErrors).toEqual([]));
  });
});
