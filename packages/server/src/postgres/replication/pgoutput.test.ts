import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { WalRelation } from '../source/change-source.js';
import { readChange, readMessage } from './pgoutput.js';

/** A value as the WAL has it: text, NULL, or undefined for an unchanged TOAST value. */
type Value = string | null | undefined;

const EPOCH_US = 946_684_800_000_000n;

const byte = (letter: string) => Buffer.from(letter, 'latin1');
const cString = (text: string) => Buffer.from(`${text}\0`);
function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
function int64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt.asIntN(64, value));
  return bytes;
}
function tuple(values: readonly Value[]): Buffer {
  const columns = values.flatMap((value) => {
    if (value === null) return [byte('n')];
    if (value === undefined) return [byte('u')];
    const text = Buffer.from(value);
    return [byte('t'), int32(text.length), text];
  });
  return Buffer.concat([int16(values.length), ...columns]);
}
function change(letter: string, oid: number, ...tuples: (readonly [string, readonly Value[]])[]): Buffer {
  return Buffer.concat([
    byte(letter),
    int32(oid),
    ...tuples.flatMap(([tag, values]) => [byte(tag), tuple(values)]),
  ]);
}
function relationMessage({ oid, schema, name, identity, columns }: WalRelation): Buffer {
  return Buffer.concat([
    byte('R'),
    int32(oid),
    cString(schema === 'pg_catalog' ? '' : schema),
    cString(name),
    byte(identity),
    int16(columns.length),
    ...columns.flatMap((column) => [
      Buffer.from([column.isKey ? 1 : 0]),
      cString(column.name),
      int32(column.typeOid),
      int32(column.typeModifier >>> 0),
    ]),
  ]);
}

const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
const lsn = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const name = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
  .filter((text) => !text.includes('\0'));
const text = fc.string({ unit: 'grapheme', maxLength: 40 });
const value: fc.Arbitrary<Value> = fc.oneof(text, fc.constant(null), fc.constant(undefined));
const known = fc.oneof(text, fc.constant(null));
const relation: fc.Arbitrary<WalRelation> = fc.record({
  oid: uint32,
  schema: name,
  name,
  identity: fc.constantFrom('d' as const, 'f' as const, 'i' as const, 'n' as const),
  columns: fc.array(
    fc.record({
      name,
      typeOid: uint32,
      typeModifier: fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }),
      isKey: fc.boolean(),
    }),
    { minLength: 1, maxLength: 12 },
  ),
});
/** A relation with an old and a new row version. */
const table = relation.chain((of) => {
  const { length } = of.columns;
  const row = <T>(values: fc.Arbitrary<T>) => fc.array(values, { minLength: length, maxLength: length });
  return fc.record({ of: fc.constant(of), old: row(known), now: row(value) });
});

describe('pgoutput messages', () => {
  it('of the begin and commit of a transaction are decoded', () => {
    fc.assert(
      fc.property(
        lsn,
        fc.bigInt({ min: -(1n << 50n), max: 1n << 60n }),
        uint32,
        lsn,
        (at, time, xid, end) => {
          expect(readMessage(Buffer.concat([byte('B'), int64(at), int64(time), int32(xid)]))).toEqual({
            kind: 'begin',
            begin: { commitLsn: at, commitTime: time + EPOCH_US, xid },
          });
          const commit = Buffer.concat([byte('C'), Buffer.from([0]), int64(at), int64(end), int64(time)]);
          expect(readMessage(commit)).toEqual({ kind: 'commit', commitLsn: at, endLsn: end });
        },
      ),
    );
  });

  it('of relations are decoded, whatever their names', () => {
    fc.assert(
      fc.property(relation, (of) => {
        expect(readMessage(relationMessage(of))).toEqual({ kind: 'relation', relation: of });
      }),
    );
  });

  it('of truncations and logical messages are decoded', () => {
    fc.assert(
      fc.property(
        fc.array(uint32, { maxLength: 9 }),
        name,
        fc.uint8Array(),
        lsn,
        (oids, prefix, body, at) => {
          const truncate = Buffer.concat([
            byte('T'),
            int32(oids.length),
            Buffer.from([0]),
            ...oids.map(int32),
          ]);
          expect(readMessage(truncate)).toEqual({ kind: 'truncate', relationOids: oids });
          const content = Buffer.from(body);
          const message = Buffer.concat([
            byte('M'),
            Buffer.from([1]),
            int64(at),
            cString(prefix),
            int32(content.length),
            content,
          ]);
          expect(readMessage(message)).toEqual({ kind: 'message', prefix, content });
        },
      ),
    );
  });

  it('of an insert have a new row, and of a delete an old row', () => {
    fc.assert(
      fc.property(table, ({ of, old, now }) => {
        const insert = change('I', of.oid, ['N', now]);
        expect(readMessage(insert)).toEqual({ kind: 'insert', relationOid: of.oid });
        expect(readChange(insert, of)).toEqual({ old: undefined, new: now });
        expect(readChange(change('D', of.oid, ['O', old]), of)).toEqual({ old, new: undefined });
      }),
    );
  });

  it('take an unchanged TOAST value from a full old row, and leave it unknown without one', () => {
    fc.assert(
      fc.property(table, ({ of, old, now }) => {
        const filled = now.map((one, n) => (one === undefined ? old[n] : one));
        expect(readChange(change('U', of.oid, ['O', old], ['N', now]), of)).toEqual({ old, new: filled });
        expect(readChange(change('U', of.oid, ['N', now]), of)).toEqual({ old: undefined, new: now });
      }),
    );
  });

  it('leave the columns outside the key unknown in a key-only old row, although the WAL has NULL', () => {
    fc.assert(
      fc.property(table, ({ of, old, now }) => {
        const key = old.map((one, n) => (of.columns[n]?.isKey ? one : undefined));
        const written = old.map((one, n) => (of.columns[n]?.isKey ? one : null));
        expect(readChange(change('U', of.oid, ['K', written], ['N', now]), of)).toEqual({
          old: key,
          new: now,
        });
        expect(readChange(change('D', of.oid, ['K', written]), of)).toEqual({ old: key, new: undefined });
      }),
    );
  });
  it('leave values unknown, and name their columns, beyond 64 MB of a row version', () => {
    const large = 'a'.repeat(40 * 1024 * 1024);
    const column = { typeOid: 25, typeModifier: -1, isKey: false };
    const of: WalRelation = {
      oid: 1,
      schema: 'public',
      name: 'notes',
      identity: 'f',
      columns: ['a', 'b', 'c'].map((named) => ({ ...column, name: named })),
    };
    expect(readChange(change('U', 1, ['O', [large, large, 'x']], ['N', ['y', undefined, 'z']]), of)).toEqual({
      old: [large, undefined, 'x'],
      new: ['y', undefined, 'z'],
      tooLarge: { old: new Set([1]), new: new Set([1]) },
    });
  });
});

describe('invalid pgoutput messages', () => {
  it('are rejected when a change is truncated at any byte', () => {
    fc.assert(
      fc.property(table, ({ of, old, now }) => {
        const whole = change('U', of.oid, ['O', old], ['N', now]);
        for (let end = 5; end < whole.length; end++) {
          expect(() => readChange(whole.subarray(0, end), of), `cut at ${end}`).toThrow();
        }
      }),
      { numRuns: 50 },
    );
  });

  it('of random bytes are decoded or rejected, and never read beyond their end', () => {
    const of: WalRelation = {
      oid: 1,
      schema: 'public',
      name: 't',
      identity: 'f',
      columns: [{ name: 'a', typeOid: 25, typeModifier: -1, isKey: true }],
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.integer({ min: 0x3f, max: 0x5a }), (raw, kind) => {
        const bytes = Buffer.from([kind, ...raw]);
        for (const read of [() => readMessage(bytes), () => readChange(bytes, of)]) {
          try {
            read();
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
          }
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('are rejected when the number of columns differs from the relation or the type is unknown', () => {
    const of: WalRelation = { oid: 1, schema: 'public', name: 't', identity: 'f', columns: [] };
    expect(() => readChange(change('I', 1, ['N', ['a']]), of)).toThrow(
      'the row has 1 columns, its relation 0',
    );
    expect(() => readMessage(byte('?'))).toThrow('unknown pgoutput message');
  });
});
