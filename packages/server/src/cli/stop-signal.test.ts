import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { silentLog } from '../lib/log.js';
import { StopSignal } from './stop-signal.js';

const TIMEOUT_MS = 10_000;

let host: EventEmitter & { exit(code: number): void };
let exits: number[];
let stop: StopSignal;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] });
  exits = [];
  host = Object.assign(new EventEmitter(), { exit: (code: number) => exits.push(code) });
  stop = new StopSignal(silentLog, TIMEOUT_MS, host);
});

afterEach(() => {
  vi.useRealTimers();
});

it.each(['SIGINT', 'SIGTERM', 'SIGHUP'])('%s requests an orderly stop', async (signal) => {
  expect(stop.signal.aborted).toBe(false);
  host.emit(signal);
  await stop.requested;
  expect([stop.signal.aborted, stop.exitCode, exits]).toEqual([true, 0, []]);
});

it('signals within a second count as one, and a later one ends the process at once', () => {
  host.emit('SIGINT');
  vi.advanceTimersByTime(999);
  host.emit('SIGINT');
  host.emit('SIGTERM');
  expect(exits).toEqual([]);
  vi.advanceTimersByTime(2);
  host.emit('SIGINT');
  expect(exits).toEqual([1]);
});

it('a stop that takes longer than its timeout ends the process', () => {
  host.emit('SIGTERM');
  vi.advanceTimersByTime(TIMEOUT_MS - 1);
  expect(exits).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(exits).toEqual([0]);
});

it.each(['uncaughtException', 'unhandledRejection'])('%s requests a stop with exit code 1', async (event) => {
  host.emit(event, new Error('a defect'));
  await stop.requested;
  expect([stop.exitCode, exits]).toEqual([1, []]);
});

it('an uncaught error during the stop changes its exit code', () => {
  host.emit('SIGTERM');
  host.emit('uncaughtException', new Error('a defect'));
  vi.advanceTimersByTime(TIMEOUT_MS);
  expect(exits).toEqual([1]);
});
