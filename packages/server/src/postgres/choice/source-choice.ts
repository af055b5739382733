import type { Log } from '../../lib/log.js';
import type { Database } from '../connection/database.js';
import { logicalDecodingObstacle } from '../preflight/preflight.js';
import { type PreflightNames, preflightFacts } from '../preflight/preflight-facts.js';
import type { ChangeSink, ChangeSource, SourceState, SourceStats } from '../source/change-source.js';

export type SourceKind = 'logical' | 'trigger';

export interface SourceChoiceOptions {
  /** What the operator wants. */
  readonly wanted: SourceKind | 'auto';
  readonly database: Database;
  readonly names: () => PreflightNames;
  readonly log: Log;
}

/** Where changes are read: decided once, when the database can first be asked. */
export class SourceChoice {
  readonly #options: SourceChoiceOptions;
  #kind: SourceKind | undefined;

  constructor(options: SourceChoiceOptions) {
    this.#options = options;
    if (options.wanted !== 'auto') this.#kind = options.wanted;
  }

  /** Undefined before it is decided. */
  get kind(): SourceKind | undefined {
    return this.#kind;
  }

  /** Throws DATABASE_UNAVAILABLE. */
  async decide(): Promise<SourceKind> {
    if (this.#kind !== undefined) return this.#kind;
    const { database, names, log } = this.#options;
    const asked = names();
    const reason = logicalDecodingObstacle(await preflightFacts(database, asked), asked);
    if (this.#kind === undefined) {
      this.#kind = reason === undefined ? 'logical' : 'trigger';
      log.info(
        { source: this.#kind, reason: reason ?? 'logical decoding can be had' },
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
  /** What another source has left behind is taken away. */
  readonly cleanUp: (kind: SourceKind) => Promise<void>;
  readonly log: Log;
}

const RETRY_MS = 250;

/** The source that was chosen; until then it is connecting. */
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
      log.debug({ err: error }, 'Where row changes are read cannot be decided yet');
      if (!this.#isStopped) this.#retry = setTimeout(() => void this.#choose(sink), RETRY_MS);
      return;
    }
    if (this.#isStopped) return;
    this.#started = this.#source;
    this.#started.start(sink);
  }
}
