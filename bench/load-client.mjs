// The load client, a child process: it opens the members of one server, publishes, and checks what every
// member receives. Its parent sends it commands (support/load-client-process.mjs).
import { isDelivered, published } from './support/bench-message.mjs';
import { Member } from './support/member.mjs';

const OPENING_AT_ONCE = 32;
/** A tick that takes longer counts as lost. */
const TICK_TIMEOUT_MS = 30_000;
/** One in this many messages is checked completely. */
const SAMPLE = 997;
/** Without messages for this long, the traffic after connecting is over. */
const QUIET_MS = 500;

/** @type {Member[]} */
let members = [];
let publisherId = '';
let sequence = 0;
let outstanding = 0;
let sinceSample = 0;
/** @type {string | undefined} */
let fault;
/** @type {(() => void) | undefined} */
let tickEnded;

/** @type {import('./support/member.mjs').Listener} */
const listener = {
  message(json, number) {
    outstanding -= 1;
    if (outstanding < 0) listener.fault(`message ${number} was delivered once too often`);
    if (++sinceSample === SAMPLE) {
      sinceSample = 0;
      if (!isDelivered(json(), number, publisherId))
        listener.fault(`message ${number} is not what was published: ${json()}`);
    }
    if (outstanding === 0) tickEnded?.();
  },
  fault(text) {
    fault ??= text;
    tickEnded?.();
  },
};

const commands = {
  /** Opens one member per path; the first one publishes. */
  async open({ port, paths, userId }) {
    publisherId = userId;
    const waiting = [...paths].reverse();
    const openOne = async () => {
      for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
        const index = members.push(/** @type {any} */ (undefined)) - 1;
        members[index] = await Member.open({ port, path }, listener);
      }
    };
    await Promise.all(Array.from({ length: OPENING_AT_ONCE }, openOne));
    await quiet();
    return { members: members.length };
  },

  /**
   * For `ms`, repeatedly publishes `perTick` messages in one write and waits until all members have all of
   * them.
   */
  async publish({ perTick, ms }) {
    const started = performance.now();
    const tickMs = [];
    while (performance.now() - started < ms) tickMs.push(await tick(perTick));
    return { deliveries: tickMs.length * perTick * members.length, tickMs };
  },

  /** Waits until no messages arrive, and fails if an unpublished one did. */
  async settle() {
    await quiet();
    return {};
  },

  async close() {
    for (const member of members) member.leave();
    members = [];
    sequence = 0;
    return {};
  },
};

async function tick(perTick) {
  const messages = Array.from({ length: perTick }, (_, i) => published(sequence + i));
  sequence += perTick;
  outstanding = perTick * members.length;
  const started = performance.now();
  let timer;
  const ended = new Promise((resolve) => {
    tickEnded = () => resolve(undefined);
    timer = setTimeout(() => listener.fault(`${outstanding} deliveries are missing`), TICK_TIMEOUT_MS);
  });
  members[0].publish(messages);
  await ended;
  clearTimeout(timer);
  tickEnded = undefined;
  requireNoFault();
  return performance.now() - started;
}

async function quiet() {
  const received = () => members.reduce((sum, member) => sum + member.received, 0);
  for (let before = -1; before !== received(); ) {
    before = received();
    await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
  }
  requireNoFault();
}

function requireNoFault() {
  if (fault !== undefined) throw new Error(fault);
}

process.on('disconnect', () => process.exit());
process.on('message', (message) => void answer(message));

async function answer({ command, ...options }) {
  try {
    const result = await commands[command](options);
    requireNoFault();
    process.send?.(result);
  } catch (error) {
    process.send?.({ failed: error.message });
  }
}
