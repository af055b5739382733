import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { eventually } from '../support/eventually.js';
import { FaultRun } from './fault-run.js';
import { IS_FULL } from './scale.js';

const KILOBYTES_A_ROW = 4;
/** 150 MB in the short form, 1 GB in the full one. */
const ROWS = (IS_FULL ? 1_000_000 : 150_000) / KILOBYTES_A_ROW;
const RSS_LIMIT = 512 * 1024 * 1024;
const P99_LIMIT_MS = 1_000;

test(`T12: a transaction of ${(ROWS * KILOBYTES_A_ROW) / 1_000} MB is delivered completely, in bounded memory, and does not delay other connections`, async () => {
  const run = await FaultRun.start({ seed: 1, postgres: 'newest', writers: 0, clients: 0 });
  try {
    await run.sql('CREATE TABLE large (n int PRIMARY KEY, filler text)');
    await run.subscribe('large', { table: 'large' });
    const reader = await run.open('large', 'reader');
    let received = 0;
    let isInOrder = true;
    reader.on('message', (data: Buffer) => {
      // Searches the bytes instead of parsing JSON, so that the reader itself is never the slow part.
      const at = data.indexOf('"new_record":{"n":');
      if (at < 0) return;
      const number = Number.parseInt(data.toString('latin1', at + 18, at + 28), 10);
      if (number !== received + 1) isInOrder = false;
      received = number;
    });
    const other = await run.open('elsewhere', 'other');
    const pings: number[] = [];
    let sentAt = 0;
    const ping = () => {
      sentAt = performance.now();
      other.send('{"type":"ping","event":"ping"}');
    };
    other.on('message', (data: Buffer) => {
      if (!data.includes('"pong"')) return;
      pings.push(performance.now() - sentAt);
      ping();
    });
    ping();
    let largest = 0;
    const watch = setInterval(() => {
      largest = Math.max(largest, rssOf(run.serverPid));
    }, 50);
    try {
      await run.sql(
        `INSERT INTO large SELECT n, repeat(md5(n::text), ${32 * KILOBYTES_A_ROW}) FROM generate_series(1, ${ROWS}) n`,
      );
      await eventually(() => expect(received).toBe(ROWS), 300_000);
    } finally {
      clearInterval(watch);
    }
    expect(isInOrder).toBe(true);
    pings.sort((a, b) => a - b);
    const p99 = pings[Math.floor(pings.length * 0.99)] ?? 0;
    process.stdout.write(
      `T12: ${ROWS} rows, at most ${Math.round(largest / 1024 / 1024)} MB of memory, ping p99 ${p99.toFixed(1)} ms, slowest ${pings.at(-1)?.toFixed(0)} ms\n`,
    );
    expect(largest).toBeLessThan(RSS_LIMIT);
    expect(p99).toBeLessThan(P99_LIMIT_MS);
    for (const socket of [reader, other] satisfies WebSocket[]) socket.terminate();
  } finally {
    await run.stop();
  }
}, 600_000);

function rssOf(pid: number): number {
  const [, kilobytes = '0'] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
}
