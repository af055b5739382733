import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import type { PersonalChanges, PersonalRequest } from '../changes/stream/personal-changes.js';
import type { Channel } from '../channels/channel.js';
import { decode } from '../connections/decode.js';
import { PendingWork } from '../connections/pending-work.js';
import type { Session } from '../connections/session.js';
import { subscribe } from './database-changes.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

it('a subscription that waits keeps its condition in memory, but neither its message nor the frame', async () => {
  const asked: PersonalRequest[] = [];
  const changes = {
    subscribe: (_session: Session, _channel: Channel, request: PersonalRequest) => {
      asked.push(request);
      return new Promise<string>(() => undefined);
    },
  } as unknown as PersonalChanges;
  const pending = new PendingWork();
  const verb = subscribe(changes, pending);
  const session = { identity: { limitedAs: 'ann' } } as unknown as Session;
  const gone: WeakRef<object>[] = [];
  const receive = (n: number) => {
    const payload = { table: 'notes', condition: `id = ${n} AND body <> 'condition'` };
    const text = JSON.stringify({
      type: 'subscribe',
      event: 'database_changes',
      payload,
      ballast: 'x'.repeat(60_000),
    });
    const frame = Buffer.from(text);
    const decoded = decode(frame, false);
    if ('error' in decoded) throw decoded.error;
    gone.push(new WeakRef(frame), new WeakRef(decoded.message));
    void verb({ session, channel: {} as Channel, message: decoded.message, bytes: frame.length });
  };
  for (let n = 0; n < 4; n++) receive(n);
  await new Promise((resolve) => setImmediate(resolve));
  collectGarbage();
  expect(pending.size).toBe(4);
  expect(gone.filter((each) => each.deref() !== undefined)).toEqual([]);
  expect(asked.map(({ filter }) => filter.condition)).toEqual(["id = 0 AND body <> 'condition'"]);
});
