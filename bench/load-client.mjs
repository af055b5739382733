// The load client, a process of its own: it opens the members of one server, publishes, and checks what
// every member gets. Its parent tells it what to do (support/load-client-process.mjs).
import { isDelivered, published } from './support/bench-message.mjs';
import { Member } from './support/member.mjs';

const OPENING_AT_ONCE = 32;
/** A tick that has not reached everybody by then has lost something. */
const TICK_TIMEOUT_MS = 30_000;
/** One of so many messages is compared word for word. */
const SAMPLE = 997;
/** Nothing comes for so long: what the connecting set off is over. */
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
    if (outstanding < 0) listener.fault(`message ${number} came once too often`);
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
  /** Opens one member for each path; the first one publishes. */
  async open({ port, paths, userId }) {
    publisherId = userId;
    const waiting = [...paths].reverse();
    const openOne = async () => {
      for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
        const place = members.push(/** @type {any} */ (undefined)) - 1;
        members[place] = await Member.open({ port, path }, listener);
      }
    };
    await Promise.all(Array.from({ length: OPENING_AT_ONCE }, openOne));
    await quiet();
    return { members: members.length };
  },

  /** Publishes `perTick` messages in one write, waits until all members have all of them, and so on for `ms`. */
  async publish({ perTick, ms }) {
    const started = performance.now();
    const tickMs = [];
    while (performance.now() - started < ms) tickMs.push(await tick(perTick));
    return { deliveries: tickMs.length * perTick * members.length, tickMs };
  },

  /** Nothing may still come that nobody published. */
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
