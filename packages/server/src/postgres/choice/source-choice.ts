import type { Log } from '../../lib/log.js';
import type { Database } from '../connection/database.js';
import { logicalDecodingObstacle } from '../preflight/preflight.js';
import { type PreflightNames, preflightFacts } from '../preflight/preflight-facts.js';
import type { ChangeSink, ChangeSource, SourceState, SourceStats } from '../source/change-source.js';

export type SourceKind = 'logical' | 'trigger';

export interface SourceChoiceOptions {
  /** The setting REALTIME_CHANGE_SOURCE. */
  readonly configured: SourceKind | 'auto';
  readonly database: Database;
  readonly names: () => PreflightNames;
  readonly log: Log;
}

/** Chooses the change source once, as soon as the database can be queried. */
export class SourceChoice {
  readonly #options: SourceChoiceOptions;
  #kind: SourceKind | undefined;

  constructor(options: SourceChoiceOptions) {
    this.#options = options;
    if (options.configured !== 'auto') this.#kind = options.configured;
  }

  /** Undefined until the source is chosen. */
  get kind(): SourceKind | undefined {
    return this.#kind;
  }

  /** Returns the source and logs why it was chosen. Throws DATABASE_UNAVAILABLE. */
  async decide(): Promise<SourceKind> {
    if (this.#kind !== undefined) return this.#kind;
    const { database, names, log } = this.#options;
    const preflightNames = names();
    const reason = logicalDecodingObstacle(await preflightFacts(database, preflightNames), preflightNames);
    if (this.#kind === undefined) {
      this.#kind = reason === undefined ? 'logical' : 'trigger';
      log.info(
        { source: this.#kind, reason: reason ?? 'logical decoding is available' },
        `Row changes are read by ${this.#kind === 'logical' ? 'logical decoding' : 'triggers'}`,
      );
    }
    return this.#kind;
  }
}

export interface ChosenSourceParts {
  readonly choice: SourceChoice;
  readonly logical: ChangeSource;
  readonly trigger: ChangeSource;
  /** Removes the database objects of the source that is not used. */
  readonly cleanUp: (kind: SourceKind) => Promise<void>;
  readonly log: Log;
}

const RETRY_MS = 250;

/** Delegates to the chosen source; until one is chosen, its state is `connecting`. */
export class ChosenSource implements ChangeSource {
  readonly #parts: ChosenSourceParts;
  #retry: NodeJS.Timeout | undefined;
  #isStopped = false;
  #started: ChangeSource | undefined;

  constructor(parts: ChosenSourceParts) {
    this.#parts = parts;
  }

  get state(): SourceState {
    return this.#source.state;
  }

  get stats(): SourceStats {
    return this.#source.stats;
  }

  get observedEnd(): bigint | undefined {
    return this.#source.observedEnd;
  }

  observe(): Promise<bigint> {
    return this.#source.observe();
  }

  start(sink: ChangeSink): void {
    void this.#choose(sink);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#retry);
    await this.#started?.stop();
  }

  acknowledge(endLsn: bigint): void {
    this.#source.acknowledge(endLsn);
  }

  pause(): void {
    this.#source.pause();
  }

  resume(): void {
    this.#source.resume();
  }

  get #source(): ChangeSource {
    const { choice, logical, trigger } = this.#parts;
    return choice.kind === 'trigger' ? trigger : logical;
  }

  async #choose(sink: ChangeSink): Promise<void> {
    const { choice, cleanUp, log } = this.#parts;
    try {
      await cleanUp(await choice.decide());
    } catch (error) {
      log.debug({ err: error }, 'The change source cannot be chosen yet; retrying');
      if (!this.#isStopped) this.#retry = setTimeout(() => void this.#choose(sink), RETRY_MS);
      return;
    }
    if (this.#isStopped) return;
    this.#started = this.#source;
    this.#started.start(sink);
  }
}
