import { join, resolve } from 'node:path';
import { SnapshotBudget } from '../../changes/stream/snapshot-budget.js';
import { SnapshotFiles } from '../../changes/stream/snapshot-files.js';
import { SnapshotReader, type SnapshotReaderParts } from '../../changes/stream/snapshot-reader.js';
import { SnapshotSender, type SnapshotSenderParts } from '../../changes/stream/snapshot-sender.js';
import type { Settings } from '../../config/settings-table.js';
import type { IdSource } from '../../lib/ids.js';

export interface SnapshotOptions
  extends Pick<SnapshotReaderParts, 'database' | 'errorLog' | 'isRead'>,
    SnapshotSenderParts {
  readonly settings: Pick<Settings, 'enableRls' | 'dataDir'>;
  readonly ids: IdSource;
}

const TRANSACTION_MS = 10_000;

/** The snapshots of personal subscriptions: reading them to files, and sending them from there. */
export type Snapshots = ReturnType<typeof createSnapshots>;

export function createSnapshots(options: SnapshotOptions) {
  const { settings, ids, log } = options;
  const files = new SnapshotFiles({ folder: join(resolve(settings.dataDir), 'snapshots'), ids, log });
  const { enableRls } = settings;
  return {
    files,
    reader: new SnapshotReader({
      ...options,
      enableRls,
      files,
      budget: new SnapshotBudget(),
      transactionMs: TRANSACTION_MS,
    }),
    sender: new SnapshotSender(options),
  };
}
