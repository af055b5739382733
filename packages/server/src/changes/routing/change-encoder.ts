import type { ChangeEvent } from '@goforward/realtime-protocol';
import { SYSTEM_USER } from '../../auth/identity.js';
import type { Framer } from '../../channels/message-encoder.js';
import type { WalBegin, WalRelation } from '../../postgres/source/change-source.js';
import { formatLsn } from '../../postgres/sql/lsn.js';

/** What of a change is the same for all members. */
export interface ChangeFacts {
  readonly epoch: string;
  readonly transaction: WalBegin;
  readonly index: number;
  readonly relation: WalRelation;
  readonly event: ChangeEvent;
}

/** What of a change depends on who gets it. */
export interface ChangeForm {
  /** JSON texts; null: none, or not visible. */
  readonly oldRecord: string | null;
  readonly newRecord: string | null;
  readonly visibility?: 'gained' | 'lost';
  /** A JSON array, or empty where there are none. */
  readonly unchangedColumns: string;
  /** A JSON array. */
  readonly subscriptionIds: string;
}

/** The parts of a message that all changes of a transaction share, as JSON. */
interface Stamp {
  readonly transaction: WalBegin;
  readonly epoch: string;
  readonly milliseconds: string;
  readonly timestamp: string;
  readonly commitTimestamp: string;
  readonly idPrefix: string;
  readonly cursorPrefix: string;
}

/** Makes the messages of row changes: the same change has always the same id, time and cursor. */
export class ChangeEncoder {
  readonly #frame: Framer;
  readonly #names = new WeakMap<
    WalRelation,
    { readonly table: string; readonly schema: string; readonly name: string }
  >();
  #stamp: Stamp | undefined;

  constructor(frame: Framer) {
    this.#frame = frame;
  }

  /** The message as the bytes that a connection writes. */
  encode(facts: ChangeFacts, form: ChangeForm): Buffer {
    const { index, event, transaction } = facts;
    const stamp = this.#stampOf(facts);
    const { table, schema, name } = this.#namesOf(facts.relation);
    const id = `${stamp.milliseconds}_${stamp.idPrefix}${index.toString(36)}`;
    const more =
      (form.visibility === undefined ? '' : `,"visibility":"${form.visibility}"`) +
      (form.unchangedColumns === '' ? '' : `,"unchanged_columns":${form.unchangedColumns}`);
    return this.#frame(
      `{"id":"msg_${id}","type":"database_change","event":"${event}.${name}","payload":{"change":{` +
        `"id":"change_${id}","table":${table},"schema":${schema},"event":"${event}",` +
        `"old_record":${form.oldRecord},"new_record":${form.newRecord},` +
        `"timestamp":"${stamp.timestamp}","commit_timestamp":"${stamp.commitTimestamp}","xid":${transaction.xid}${more}},` +
        `"subscription_ids":${form.subscriptionIds}},"user_id":"${SYSTEM_USER}",` +
        `"timestamp":"${stamp.timestamp}","cursor":"${stamp.cursorPrefix}${index}"}`,
    );
  }

  #stampOf({ transaction, epoch }: ChangeFacts): Stamp {
    if (this.#stamp?.transaction === transaction && this.#stamp.epoch === epoch) return this.#stamp;
    const { commitLsn, commitTime } = transaction;
    const milliseconds = commitTime / 1000n;
    const date = new Date(Number(milliseconds)).toISOString();
    this.#stamp = {
      transaction,
      epoch,
      milliseconds: String(milliseconds),
      timestamp: date,
      commitTimestamp: `${date.slice(0, -1)}${String(commitTime % 1000n).padStart(3, '0')}Z`,
      idPrefix: `${epoch}${commitLsn.toString(36)}x`,
      cursorPrefix: `${epoch}:${formatLsn(commitLsn)}/`,
    };
    return this.#stamp;
  }

  #namesOf(relation: WalRelation): { table: string; schema: string; name: string } {
    let names = this.#names.get(relation);
    if (names === undefined) {
      const table = JSON.stringify(relation.name);
      names = { table, schema: JSON.stringify(relation.schema), name: table.slice(1, -1) };
      this.#names.set(relation, names);
    }
    return names;
  }
}
