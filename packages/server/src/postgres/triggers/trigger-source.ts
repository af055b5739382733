import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../lib/log.js';
import type { Database } from '../connection/database.js';
import type { SqlSession } from '../connection/sql-session.js';
import { OUTBOX_LOCKS } from '../migrations/migration-steps.js';
import { POOLER_FINDING, triggerFindingsOf } from '../preflight/preflight.js';
import { type PreflightNames, preflightFacts } from '../preflight/preflight-facts.js';
import { ensureSubscriberRole } from '../preflight/subscriber-role.js';
import { Acknowledgement } from '../source/acknowledgement.js';
import type { ChangeSink, ChangeSource, SourceState, SourceStats } from '../source/change-source.js';
import { ResumeWindow, type WindowLimits } from '../source/resume-window.js';
import { Refused, SourceRetry } from '../source/source-retry.js';
import { type StreamState, StreamStateStore } from '../source/stream-state.js';
import { storeNotification } from './notification.js';
import { type Batch, Outbox } from './outbox.js';
import { OutboxDecoder } from './outbox-decoder.js';
import { PollInterval } from './poll-interval.js';

export interface TriggerSourceOptions {
  /** A `postgres://` URL. */
  readonly url: string;
  readonly database: Database;
  readonly names: () => PreflightNames;
  /** How much stays readable after it was handed out. */
  readonly window: WindowLimits;
  readonly maxReconnectDelayMs: number;
  readonly log: Log;
  readonly newEpoch: () => string;
  /** Sees to it that the tables carry their triggers; answers whether some did not. */
  readonly prepareTables: () => Promise<boolean>;
  readonly random?: () => number;
}

/** What the state of this stream is kept under, where others have the name of their slot; no slot has it. */
export const OUTBOX_STREAM = '(outbox)';
/** Where the first history begins: there is a place before it. */
const FIRST = 1n;
/** How often a follower asks whether it may lead, in ms. */
const FOLLOW_MS = 1_000;
/** A reader that asks for nothing for so long stands still, in ms; one that works asks every five seconds. */
const STALE_MS = 10_000;
/** How often one that is paused asks for a sign of life, in ms. */
const ALIVE_MS = 3_000;
/** How long a reader that may not sleep waits, in ms: a little longer each time that it finds nothing. */
const SHORTEST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 50;
/** While much is written, few large batches cost writers less than many small ones: how long is gathered, in ms, */
const SHORTEST_GATHERING_MS = 10;
const LONGEST_GATHERING_MS = 100;
/** and how many times as long as the batch before took. */
const BATCH_SHARE = 5;
/** How often the size of the outbox is looked at, in ms. */
const SIZE_MS = 10_000;
/** How many notifications of triggers that were made by hand may wait. */
const MAX_NOTIFICATIONS = 10_000;

/** Row changes as triggers tell them, by way of a table in our schema: for where logical decoding cannot be had. */
export class TriggerSource implements ChangeSource {
  readonly #options: TriggerSourceOptions;
  readonly #retry: SourceRetry;
  #decoder = new OutboxDecoder();
  #session: SqlSession | undefined;
  #acknowledgement: Acknowledgement | undefined;
  #running: Promise<void> | undefined;
  readonly #pollInterval: PollInterval;
  #isPaused = false;
  #resumeReading: (() => void) | undefined;
  /** Who waits to know where the stream is. */
  #observers: { readonly resolve: (end: bigint) => void; readonly reject: (error: unknown) => void }[] = [];
  #notifications: string[] = [];
  #observedEnd: bigint | undefined;
  #lost: string | undefined;
  readonly #progress = { walEnd: 0n, safe: 0n, transactions: 0, receivedBytes: 0 };
  #retainedBytes = 0;
  #lagSeconds = 0;

  constructor(options: TriggerSourceOptions) {
    this.#options = options;
    this.#pollInterval = new PollInterval(() => this.#lock('asleep'));
    this.#retry = new SourceRetry({ ...options, random: options.random ?? Math.random });
  }

  get state(): SourceState {
    return this.#retry.state;
  }

  get stats(): SourceStats {
    return {
      lagBytes: Number(this.#progress.walEnd - this.#progress.safe),
      lagSeconds: this.#lagSeconds,
      retainedBytes: this.#retainedBytes,
      xminAge: 0,
      receivedBytes: this.#progress.receivedBytes,
    };
  }

  get observedEnd(): bigint | undefined {
    return this.#observedEnd;
  }

  start(sink: ChangeSink): void {
    this.#running = this.#retry.run(
      sink,
      (opened) => this.#read(sink, opened),
      () => this.#cleanUp(),
    );
  }

  async stop(): Promise<void> {
    this.#retry.stop();
    this.#session?.close();
    this.#pollInterval.wake();
    this.#resumeReading?.();
    await this.#running;
  }

  acknowledge(endLsn: bigint): void {
    if (endLsn <= this.#progress.safe) return;
    this.#progress.safe = endLsn;
    this.#progress.transactions += 1;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#resumeReading?.();
  }

  /** Where the stream will be when everything that has committed by now is read. */
  async observe(): Promise<bigint> {
    if (this.#retry.state.status !== 'streaming') {
      const { database } = this.#options;
      const [row] = await database.query<{ end: string | null }>(
        `SELECT max(end_position)::text AS end FROM ${database.schema}.outbox_batches`,
      );
      this.#observedEnd = BigInt(row?.end ?? 0);
      return this.#observedEnd;
    }
    return new Promise((resolve, reject) => {
      this.#observers.push({ resolve, reject });
      this.#pollInterval.wake();
    });
  }

  /** One session, from its first statement to its end. */
  async #read(sink: ChangeSink, opened: () => void): Promise<void> {
    const { database, newEpoch, log, prepareTables } = this.#options;
    const names = this.#options.names();
    await ensureSubscriberRole(database);
    this.#retry.requireNoErrors(triggerFindingsOf(await preflightFacts(database, names), names));
    const session = await database.openSession('outbox');
    this.#session = session;
    session.listen(
      (payload) => this.#notified(payload),
      () => this.#pollInterval.wake(),
    );
    await this.#lead(session);
    if (this.#retry.signal.aborted) return;
    await session.query('LISTEN table_changes');
    await this.#pollInterval.begin(session);
    await database.query(
      `WITH gone AS (DELETE FROM ${database.schema}.change_source) INSERT INTO ${database.schema}.change_source VALUES ('trigger')`,
    );
    if (await prepareTables()) this.#lost ??= 'tables were without their triggers';
    const store = new StreamStateStore(database, database.schema, OUTBOX_STREAM, newEpoch());
    const outbox = new Outbox(session, database.schema);
    const { state, gap } = await this.#continuation(session, store, outbox);
    await store.write(state);
    const kept = await outbox.batches();
    // What has committed by now is of before: whoever joins from here on has it.
    const newest = kept.at(-1);
    if (newest !== undefined) {
      const taken = await outbox.take(newest.seen, newest.end, false);
      if (typeof taken !== 'string') kept.push(taken);
    }
    const last = kept.at(-1);
    if (last === undefined) throw new Error('the outbox was emptied');
    this.#progress.safe = state.acknowledged;
    this.#progress.walEnd = last.end;
    this.#observedEnd = last.end;
    sink.opened({
      epoch: state.epoch,
      memo: state.memo,
      end: last.end,
      ...(gap === undefined ? {} : { gap }),
    });
    opened();
    this.#retry.succeeded();
    log.info({ epoch: state.epoch, ...(gap === undefined ? {} : { gap }) }, 'Row changes are streaming');
    this.#acknowledgement = this.#acknowledgementOf(store, state, sink);
    this.#acknowledgement.start();
    for (const batch of kept) if (batch.end > state.acknowledged) await this.#hand(sink, outbox, batch);
    await this.#follow(session, sink, outbox, last.seen);
  }

  /** Takes what commits, batch by batch, until the session ends. */
  async #follow(session: SqlSession, sink: ChangeSink, outbox: Outbox, from: string): Promise<void> {
    let seen = from;
    let pause = SHORTEST_PAUSE_MS;
    let sizeAt = 0;
    while (!this.#retry.signal.aborted && !session.isLost) {
      await this.#storeNotifications(session);
      const observers = this.#observers.splice(0);
      const began = performance.now();
      const taken = await outbox
        .take(seen, this.#progress.walEnd, observers.length > 0)
        .catch((error: unknown) => {
          for (const { reject } of observers) reject(error);
          throw error;
        });
      this.#lagSeconds = (performance.now() - began) / 1000;
      const isBatch = typeof taken !== 'string';
      seen = isBatch ? taken.seen : taken;
      if (isBatch) this.#progress.walEnd = taken.end;
      this.#observedEnd = this.#progress.walEnd;
      for (const { resolve } of observers) resolve(this.#progress.walEnd);
      if (isBatch) {
        pause = SHORTEST_PAUSE_MS;
        await this.#pollInterval.unlock(session);
        await this.#hand(sink, outbox, taken);
        const took = performance.now() - began;
        await delay(
          Math.min(LONGEST_GATHERING_MS, Math.max(SHORTEST_GATHERING_MS - took, BATCH_SHARE * took)),
        );
      } else if (!(await this.#pollInterval.wait(session, pause))) {
        pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
      }
      if (began - sizeAt > SIZE_MS) {
        sizeAt = began;
        await this.#look(session);
      }
    }
  }

  /** Hands the transactions of a batch to the sink. */
  async #hand(sink: ChangeSink, outbox: Outbox, batch: Batch): Promise<void> {
    let position: bigint | undefined;
    const commit = () => {
      if (position !== undefined) sink.commit(position + 1n);
    };
    for await (const rows of outbox.rows(batch)) {
      for (const row of rows) {
        const own = BigInt(row.position);
        if (own !== position) {
          commit();
          position = own;
          const xid = Number(BigInt(row.xid) & 0xffff_ffffn);
          sink.begin({ commitLsn: own, commitTime: batch.readAt, xid });
        }
        this.#progress.receivedBytes += (row.oldRow?.length ?? 0) + (row.newRow?.length ?? 0);
        if (!this.#decoder.hand(sink, batch, row)) {
          this.#lost = 'the columns of a table changed more than once';
          throw new Error('rows of the outbox have columns that cannot be told');
        }
      }
      await this.#waitWhilePaused();
    }
    commit();
    if (position === undefined) this.acknowledge(batch.end);
  }

  /** The session stays alive meanwhile: another server takes over from one that stands still. */
  async #waitWhilePaused(): Promise<void> {
    while (this.#isPaused && !this.#retry.signal.aborted) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#resumeReading = resolve;
        timer = setTimeout(resolve, ALIVE_MS);
      });
      clearTimeout(timer);
      await this.#session?.query('SELECT 1');
    }
  }

  /** From where the stream goes on, as which history, and what was lost. */
  async #continuation(
    session: SqlSession,
    store: StreamStateStore,
    outbox: Outbox,
  ): Promise<{ readonly state: StreamState; readonly gap?: string }> {
    const { newEpoch } = this.#options;
    const [system] = await session.query<{ id: string; timeline: number }>(
      `SELECT (SELECT system_identifier::text FROM pg_control_system()) AS id, (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline`,
    );
    const { id: systemId, timeline } = system ?? { id: '', timeline: 0 };
    const kept = await store.read();
    const last = (await outbox.batches()).at(-1);
    const gap = kept === undefined ? undefined : this.#gap(kept, last, systemId, timeline);
    if (kept !== undefined && gap === undefined) return { state: kept };
    const acknowledged = kept?.acknowledged ?? FIRST;
    const position = last === undefined || last.end < acknowledged ? acknowledged : last.end;
    await outbox.clear(position);
    this.#lost = undefined;
    const generation = (kept?.generation ?? 0) + 1;
    const memo = {};
    const state = {
      epoch: newEpoch(),
      generation,
      systemId,
      timeline,
      acknowledged: position,
      publication: null,
      memo,
    };
    return { state, ...(gap === undefined ? {} : { gap }) };
  }

  #gap(kept: StreamState, last: Batch | undefined, systemId: string, timeline: number): string | undefined {
    if (kept.systemId !== systemId) return 'the database is another one';
    if (kept.timeline !== timeline) return 'the database was restored or failed over';
    if (last === undefined || last.end < kept.acknowledged) return 'the outbox was emptied';
    return this.#lost;
  }

  #acknowledgementOf(store: StreamStateStore, state: StreamState, sink: ChangeSink): Acknowledgement {
    const { database, log, window } = this.#options;
    // Not on the session of the reading, which may be within a transaction.
    const outbox = new Outbox(database, database.schema);
    return new Acknowledgement({
      store,
      state,
      receiver: this.#progress,
      connection: {
        acknowledge: (position) =>
          void outbox
            .prune(position)
            .catch((err: unknown) => log.debug({ err }, 'The outbox could not be pruned')),
        close: () => this.#session?.close(),
      },
      window: new ResumeWindow(window),
      sink,
      log,
    });
  }

  /** Waits until no other server reads the outbox. The lock ends with the session, and with it the reading. */
  async #lead(session: SqlSession): Promise<void> {
    const { log } = this.#options;
    const { signal } = this.#retry;
    let process: number | undefined;
    while (!signal.aborted) {
      const [answer] = await session.query<{ leads: boolean; process: number }>(
        `SELECT pg_try_advisory_lock(${this.#lock('leader')}) AS leads, pg_backend_pid() AS process`,
      );
      process ??= answer?.process;
      if (answer?.process !== process) throw new Refused([POOLER_FINDING]);
      if (answer?.leads) return;
      if (this.#retry.state.status !== 'follower') {
        this.#retry.state = { status: 'follower' };
        log.info({}, 'Another server reads the outbox; this one waits to take over');
      }
      await session.query(
        `SELECT pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.locktype = 'advisory' AND l.granted AND (l.classid, l.objid) = (${OUTBOX_LOCKS}::oid, (hashtext('${this.#options.database.schema}.leader')::int8 & 4294967295)::oid)
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND a.usename = current_user AND a.state LIKE 'idle%' AND a.state_change < clock_timestamp() - interval '${STALE_MS} ms'`,
      );
      await this.observe();
      await delay(FOLLOW_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  #lock(name: 'leader' | 'asleep'): string {
    return `${OUTBOX_LOCKS}, hashtext('${this.#options.database.schema}.${name}')`;
  }

  #notified(payload: string): void {
    if (payload !== '') {
      if (this.#notifications.length < MAX_NOTIFICATIONS) this.#notifications.push(payload);
      else this.#options.log.debug({}, 'More is notified than can be taken: a notification is dropped');
    }
    this.#pollInterval.wake();
  }

  async #storeNotifications(session: SqlSession): Promise<void> {
    const { database, log } = this.#options;
    for (const payload of this.#notifications.splice(0)) {
      const isStored = await storeNotification(session, database.schema, payload);
      if (!isStored) log.debug({}, 'A notification on table_changes is none of a table that is set up');
    }
  }

  async #look(session: SqlSession): Promise<void> {
    const [row] = await session.query<{ size: number }>(
      `SELECT pg_total_relation_size('${this.#options.database.schema}.outbox')::float8 AS size`,
    );
    this.#retainedBytes = row?.size ?? 0;
  }

  #cleanUp(): void {
    this.#session?.close();
    this.#session = undefined;
    this.#acknowledgement?.stop();
    this.#decoder = new OutboxDecoder();
    for (const { reject } of this.#observers.splice(0)) reject(new Error('the stream has ended'));
  }
}
