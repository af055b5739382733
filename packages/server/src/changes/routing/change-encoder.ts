import type { ChangeEvent } from '@goforward/realtime-protocol';
import { SYSTEM_USER } from '../../auth/identity.js';
import type { Framer } from '../../channels/message-encoder.js';
import type { WalBegin, WalRelation } from '../../postgres/source/change-source.js';
import { formatLsn } from '../../postgres/sql/lsn.js';

/** The fields of a change that are the same for all members. */
export interface ChangeHeader {
  readonly epoch: string;
  readonly transaction: WalBegin;
  readonly index: number;
  readonly relation: WalRelation;
  readonly event: ChangeEvent;
}

/** The fields of a change that depend on the recipient. */
export interface ChangeBody {
  /** JSON texts; null: there is no such version, or it is not visible. */
  readonly oldRecord: string | null;
  readonly newRecord: string | null;
  readonly visibility?: 'gained' | 'lost';
  /** The column names as a JSON array; empty if there are none. */
  readonly unchangedColumns: string;
  /** The ids as a JSON array. */
  readonly subscriptionIds: string;
}

/** The fields that all changes of a transaction share, as parts of JSON texts. */
interface TransactionFields {
  readonly transaction: WalBegin;
  readonly epoch: string;
  readonly milliseconds: string;
  readonly timestamp: string;
  readonly commitTimestamp: string;
  readonly idPrefix: string;
  readonly cursorPrefix: string;
}

/**
 * Encodes row changes as messages. The same change always has the same id, time and cursor, also in a replay.
 */
export class ChangeEncoder {
  readonly #frame: Framer;
  readonly #names = new WeakMap<
    WalRelation,
    { readonly table: string; readonly schema: string; readonly name: string }
  >();
  #transactionFields: TransactionFields | undefined;

  constructor(frame: Framer) {
    this.#frame = frame;
  }

  /** Returns the framed bytes that a connection writes. */
  encode(header: ChangeHeader, body: ChangeBody): Buffer {
    const { index, event, transaction } = header;
    const shared = this.#transactionFieldsOf(header);
    const { table, schema, name } = this.#namesOf(header.relation);
    const id = idOf(shared, index);
    const more =
      (body.visibility === undefined ? '' : `,"visibility":"${body.visibility}"`) +
      (body.unchangedColumns === '' ? '' : `,"unchanged_columns":${body.unchangedColumns}`);
    return this.#frame(
      `{"id":"msg_${id}","type":"database_change","event":"${event}.${name}","payload":{"change":{` +
        `"id":"change_${id}","table":${table},"schema":${schema},"event":"${event}",` +
        `"old_record":${body.oldRecord},"new_record":${body.newRecord},` +
        `"timestamp":"${shared.timestamp}","commit_timestamp":"${shared.commitTimestamp}","xid":${transaction.xid}${more}},` +
        `"subscription_ids":${body.subscriptionIds}},"user_id":"${SYSTEM_USER}",` +
        `"timestamp":"${shared.timestamp}","cursor":"${shared.cursorPrefix}${index}"}`,
    );
  }

  /** Encodes the `gap` that is sent in place of a change. It has the cursor of the change. */
  encodeGap(header: ChangeHeader, reason: string, subscriptionIds: string): Buffer {
    const { index } = header;
    const shared = this.#transactionFieldsOf(header);
    return this.#frame(
      `{"id":"msg_${idOf(shared, index)}","type":"system","event":"gap","payload":{"scope":"changes",` +
        `"reason":${JSON.stringify(reason)},"subscription_ids":${subscriptionIds}},"user_id":"${SYSTEM_USER}",` +
        `"timestamp":"${shared.timestamp}","cursor":"${shared.cursorPrefix}${index}"}`,
    );
  }

  #transactionFieldsOf({ transaction, epoch }: ChangeHeader): TransactionFields {
    if (this.#transactionFields?.transaction === transaction && this.#transactionFields.epoch === epoch)
      return this.#transactionFields;
    const { commitLsn, commitTime } = transaction;
    const milliseconds = commitTime / 1000n;
    const date = new Date(Number(milliseconds)).toISOString();
    this.#transactionFields = {
      transaction,
      epoch,
      milliseconds: String(milliseconds),
      timestamp: date,
      commitTimestamp: `${date.slice(0, -1)}${String(commitTime % 1000n).padStart(3, '0')}Z`,
      idPrefix: `${epoch}${commitLsn.toString(36)}x`,
      cursorPrefix: `${epoch}:${formatLsn(commitLsn)}/`,
    };
    return this.#transactionFields;
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

function idOf({ milliseconds, idPrefix }: TransactionFields, index: number): string {
  return `${milliseconds}_${idPrefix}${index.toString(36)}`;
}
