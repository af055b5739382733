import type { MemberFeeds } from '../../changes/delivery/member-feeds.js';
import type { TierCounts } from '../../changes/explaining/tier-counts.js';
import type { ChangeLog } from '../../changes/log/change-log.js';
import type { ResumeLog } from '../../changes/log/resume-log.js';
import type { Replays } from '../../changes/stream/replays.js';
import type { RowChangeStream } from '../../changes/stream/row-change-stream.js';
import type { RowChangeNumbers } from '../../metrics/metrics.js';
import type { Snapshots } from './snapshots.js';

export interface RowChangeStatusParts {
  readonly stream: Pick<RowChangeStream, 'source'>;
  readonly changes: Pick<ChangeLog, 'bytes'>;
  readonly feeds: Pick<MemberFeeds, 'behindCount'>;
  readonly replays: Pick<Replays, 'size' | 'delayedCount'>;
  readonly resumeLog: Pick<ResumeLog, 'bytes'>;
  readonly snapshots: Pick<Snapshots, 'files' | 'reader'>;
  readonly subscriptions: { readonly size: number };
  readonly tables: { list(): readonly unknown[] };
  readonly tierCounts: Pick<TierCounts, 'list'>;
}

/** The state of row changes, for metrics, statistics and `/readyz`. */
export class RowChangeStatus {
  readonly #parts: RowChangeStatusParts;

  constructor(parts: RowChangeStatusParts) {
    this.#parts = parts;
  }

  numbers(): RowChangeNumbers {
    const { stream, changes, feeds, replays, resumeLog, snapshots, subscriptions, tables, tierCounts } =
      this.#parts;
    const { state, stats } = stream.source;
    return {
      isStreaming: state.status === 'streaming',
      lagBytes: stats.lagBytes,
      lagSeconds: stats.lagSeconds,
      retainedBytes: stats.retainedBytes,
      xminAge: stats.xminAge,
      logBytes: changes.bytes,
      membersBehind: feeds.behindCount,
      membersResuming: replays.size,
      membersDelayed: replays.delayedCount,
      windowMemoryBytes: resumeLog.bytes.memory,
      windowFileBytes: resumeLog.bytes.file,
      snapshotFiles: snapshots.files.count,
      snapshotFileBytes: snapshots.files.bytes,
      snapshotsWaiting: snapshots.reader.waitingCount,
      subscriptions: subscriptions.size,
      tables: tables.list().length,
      tiers: tierCounts.list(),
    };
  }

  /** Returns the state of the stream. The reason of a refused one is the codes and titles of its findings. */
  readiness(): { status: string; reason?: string } {
    const { state } = this.#parts.stream.source;
    if (state.status === 'down') return { status: state.status, reason: state.reason };
    if (state.status !== 'refused') return { status: state.status };
    const reason = state.findings.map(({ code, title }) => `${code} ${title}`).join('; ');
    return { status: state.status, reason };
  }
}
