import { Delivery } from '../../changes/delivery/delivery.js';
import { MemberFeeds } from '../../changes/delivery/member-feeds.js';
import { ReceivedCounts } from '../../changes/delivery/received-counts.js';
import { ChangeLog } from '../../changes/log/change-log.js';
import type { ResumeLog } from '../../changes/log/resume-log.js';
import { ConditionLimits } from '../../changes/stream/condition-limits.js';
import { OutcomeCounts } from '../../changes/stream/outcome-counts.js';
import { PersonalChanges } from '../../changes/stream/personal-changes.js';
import { Replays } from '../../changes/stream/replays.js';
import { RowChangeStream } from '../../changes/stream/row-change-stream.js';
import type { Channel } from '../../channels/channel.js';
import type { MessageEncoder } from '../../channels/message-encoder.js';
import type { Clock, WallClock } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';
import type { Counters } from '../../metrics/counters.js';
import type { ChangeSource } from '../../postgres/source/change-source.js';
import type { Routing } from './routing.js';
import type { Snapshots } from './snapshots.js';
import type { Subscriptions } from './subscriptions.js';
import type { Visibility } from './visibility.js';

export interface StreamOptions {
  readonly source: ChangeSource;
  readonly resumeLog: ResumeLog;
  readonly routing: Routing;
  readonly visibility: Visibility;
  readonly subscriptions: Subscriptions;
  readonly channel: (name: string) => Channel | undefined;
  readonly encoder: MessageEncoder;
  readonly counters: Counters;
  readonly clock: Clock;
  readonly wallClock: WallClock;
  readonly log: Log;
}

/** Bytes of changes that may wait for members; beyond that the source is paused. */
const CHANGE_LOG_BYTES = 64 * 1024 * 1024;

/** The stream from the source to members, with its buffers. */
type Stream = ReturnType<typeof createStream>;

export function createStream(options: StreamOptions) {
  const { source, resumeLog, routing, visibility, subscriptions, channel } = options;
  const { encoder, counters, clock, wallClock, log } = options;
  const { shared, personal, counts } = subscriptions;
  const isMembershipTable = (oid: number) => visibility.live.isMembershipTable(oid);
  const changes = new ChangeLog({
    maxBytes: CHANGE_LOG_BYTES,
    isSubscribed: (oid) => subscriptions.isSubscribed(oid) || isMembershipTable(oid),
    forget: (lsn) => stream.forget(lsn),
    counters,
  });
  const feeds = new MemberFeeds(clock);
  const received = new ReceivedCounts(wallClock);
  const delivery = new Delivery({ feeds, encoder, counters, received, clock });
  const recipients = routing.newRecipients();
  const conditionLimits = new ConditionLimits({
    clock,
    personal,
    subscriptions: shared,
    channel,
    delivery,
    log,
  });
  const outcomeCounts = new OutcomeCounts({ counts, subscriptions: shared });
  const replays = new Replays({
    conditionLimits,
    outcomeCounts,
    resumeLog,
    router: routing.replay,
    slowRouter: routing.slowReplay,
    newRecipients: routing.newRecipients,
    delivery,
    feeds,
    epoch: () => stream.epoch,
    isBehindCurrentBatch: (position) => stream.isBehindCurrentBatch(position),
    restartPosition: () => stream.restartPosition,
    goLive: (member, of) => stream.goLive(member, of),
    tablesOf: (of) => stream.tablesOf(of),
    ownTablesOf: (member) => personal.tablesOf(member),
    clock,
    log,
  });
  const stream: RowChangeStream = new RowChangeStream({
    source,
    changes,
    router: routing.live,
    recipients,
    isMembershipTable,
    feeds,
    delivery,
    received,
    resumeLog,
    replays,
    personal,
    subscriptions: shared,
    outcomeCounts,
    conditionLimits,
    channel,
    counters,
    clock,
    log,
  });
  personal.onChange((owner) => {
    recipients.update(owner);
    stream.prepare(personal.tablesOf(owner));
  });
  shared.onAdded((oid) => stream.prepare([oid]));
  return { changes, feeds, delivery, received, replays, stream };
}

export interface PersonalChangesOptions extends StreamOptions {
  readonly stream: Stream;
  readonly snapshots: Snapshots;
}

/** Constructs personal subscriptions. Their changes follow their snapshots on the same stream. */
export function createPersonalChanges(options: PersonalChangesOptions): PersonalChanges {
  const { visibility, subscriptions, stream, snapshots, encoder, wallClock } = options;
  const { personal, preparation, counts } = subscriptions;
  return new PersonalChanges({
    subscriptions: personal,
    preparation,
    counts,
    authorizer: visibility.live,
    viewers: visibility.viewers,
    reader: snapshots.reader,
    sender: snapshots.sender,
    delivery: stream.delivery,
    encoder,
    stream: stream.stream,
    wallClock,
  });
}
