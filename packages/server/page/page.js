import { Composer } from './composer.js';
import { ConnectForm } from './connect-form.js';
import { Connection } from './connection.js';
import { byId, make } from './elements.js';
import { localNote } from './entry.js';
import { LatencyMeter } from './latency.js';
import { clockTime } from './names.js';
import { OwnStatus } from './own-status.js';
import { PresenceList } from './presence.js';
import { ProblemBanner } from './problem-banner.js';
import { RowsPanel } from './rows-panel.js';
import { channelOfAddress, DemoSession, rememberChannel } from './session.js';
import { Stream } from './stream.js';
import { explainFault } from './words.js';

/** Users that the server lists one by one to a new connection. */
const LISTED_USERS = 200;
const DEFAULT_CHANNEL = 'general';
const PHASE_WORDS = { disconnected: 'Disconnected', connecting: 'Connecting', connected: 'Connected' };
const EMPTY_WORDS = {
  disconnected: 'Connect to a channel to see what happens in it.',
  connecting: 'Waiting for the connection.',
  connected: 'Nothing was said yet. Open this page in a second browser and say hello.',
};

/** The whole page: what the connection tells goes to the parts that show it, what people do goes to the connection. */
class Page {
  #session = new DemoSession();
  #banner = new ProblemBanner({
    banner: byId('banner'),
    text: byId('error'),
    retry: byId('retry'),
    dismiss: byId('dismiss'),
  });
  #stream = new Stream({
    list: byId('stream'),
    scroller: byId('scroller'),
    pauseButton: byId('pause'),
    latestButton: byId('latest'),
    empty: byId('empty'),
  });
  #people = new PresenceList({
    list: byId('presence'),
    more: byId('people-more'),
    counts: [byId('people-count'), byId('people-link-count')],
  });
  #connection = new Connection({
    onPhase: (phase, retryAt) => this.#showPhase(phase, retryAt),
    onMessage: (message) => this.#receive(message),
    onProblem: (problem, isNews) => {
      this.#banner.show(problem);
      if (isNews) this.#note(problem.title);
    },
    renewToken: async (refused) => {
      const fresh = await this.#session.renew(refused);
      if (fresh !== null) this.#form.replaceToken(fresh);
      return fresh;
    },
  });
  #form = new ConnectForm({
    form: byId('connect-form'),
    channel: byId('channel'),
    token: byId('token'),
    hint: byId('token-hint'),
    reveal: byId('reveal'),
    connect: byId('connect'),
    disconnect: byId('disconnect'),
    onConnect: (channel, token) => this.#connect(channel, token),
    onRetry: () => this.#connection.retryNow(),
    onDisconnect: () => {
      this.#connection.close();
      this.#banner.clear();
    },
    onInvalid: (code) => this.#showFault({ code }),
  });
  #latency = new LatencyMeter({
    meter: byId('meter'),
    text: byId('latency'),
    spark: byId('spark'),
    connection: this.#connection,
  });
  #ownStatus = new OwnStatus({
    form: byId('own-status'),
    status: byId('own-state'),
    text: byId('own-text'),
    button: byId('own-set'),
    connection: this.#connection,
    onFault: (fault) => this.#showFault(fault),
  });
  #composer = new Composer({
    chatForm: byId('compose-form'),
    message: byId('message'),
    eventForm: byId('advanced-form'),
    event: byId('event'),
    payload: byId('payload'),
    problem: byId('payload-problem'),
    buttons: [byId('send'), byId('send-event')],
    publish: (event, payload) => this.#connection.request('broadcast', event, payload),
    onFault: (fault) => this.#showFault(fault),
    onSent: () => this.#banner.clear(),
  });
  #rows = new RowsPanel({
    tableForm: byId('rows-form'),
    table: byId('rows-table'),
    subscribe: byId('rows-subscribe'),
    rowForm: byId('rows-insert-form'),
    content: byId('rows-content'),
    insert: byId('rows-insert'),
    state: byId('rows-state'),
    onFault: (fault) => this.#showFault(fault),
  });
  #ownUser = '';
  /** The last problem that the stream tells of. */
  #noted = '';

  /** Listens to the page, then connects at once where the server hands out a demo user. */
  async start() {
    /** @type {NodeListOf<HTMLInputElement>} */
    const boxes = document.querySelectorAll('.filters input');
    for (const box of boxes) {
      box.addEventListener('change', () => this.#stream.filter(box.name, box.checked));
    }
    byId('clear').addEventListener('click', () => this.#stream.clear());
    byId('people-link').addEventListener('click', (event) => {
      // Followed as a link, it would take the channel out of the address.
      event.preventDefault();
      byId('people-title').focus();
    });
    addEventListener('online', () => this.#connection.retryNow());
    addEventListener('hashchange', () => this.#followAddress());
    this.#showPhase('disconnected', null);
    this.#form.fill({ channel: channelOfAddress() ?? DEFAULT_CHANNEL });
    const session = await this.#session.start();
    this.#rows.offerExample(session?.example_table);
    // Somebody may have been quicker than the answer.
    if (this.#form.hasToken) return;
    if (session === null) {
      this.#form.hint('Paste a token of your server. On its machine, “npm run token” prints one.');
      byId('token').focus();
      return;
    }
    this.#form.fill({ token: session.token, channel: channelOfAddress() ?? session.channel });
    this.#form.submit();
  }

  /**
   * @param {string} channel
   * @param {string} token
   */
  #connect(channel, token) {
    this.#banner.clear();
    this.#noted = '';
    this.#form.hint('');
    rememberChannel(channel);
    this.#connection.open(channel, token);
  }

  #followAddress() {
    const channel = channelOfAddress();
    if (channel === null) return;
    this.#form.fill({ channel });
    if (this.#connection.phase !== 'disconnected') this.#form.submit();
  }

  /**
   * Puts a problem into the stream, once: a server that is away for a night must not push the messages out.
   *
   * @param {string} title
   */
  #note(title) {
    if (title === this.#noted) return;
    this.#noted = title;
    this.#stream.add(localNote(title));
  }

  /** @param {import('./words.js').Fault} fault */
  #showFault(fault) {
    this.#banner.show(explainFault(fault));
  }

  /**
   * @param {import('./connection.js').Phase} phase
   * @param {number | null} retryAt
   */
  #showPhase(phase, retryAt) {
    const status = byId('status');
    status.dataset.phase = phase;
    // Set only where it changes: a live region would be read out again.
    if (status.textContent !== PHASE_WORDS[phase]) status.textContent = PHASE_WORDS[phase];
    byId('empty').textContent = EMPTY_WORDS[phase];
    this.#banner.countDown(retryAt);
    this.#form.show(phase, retryAt !== null);
    this.#rows.follow(this.#connection.target);
    if (phase === 'connected') return;
    this.#latency.stop();
    this.#composer.setEnabled(false);
    this.#ownStatus.setEnabled(false);
    this.#people.reset('', 0);
    byId('facts').replaceChildren();
  }

  /** @param {import('./connection.js').Message} message */
  #receive(message) {
    if (message.type === 'system') this.#receiveSystem(message);
    if (message.type === 'presence') this.#receivePresence(message);
    this.#stream.add(message);
  }

  /** @param {import('./connection.js').Message} message */
  #receivePresence(message) {
    this.#people.apply(message);
    if (message.event === 'update' && message.payload.user_id === this.#ownUser) {
      this.#ownStatus.follow(message.payload.state);
    }
  }

  /** @param {import('./connection.js').Message} message */
  #receiveSystem({ event, payload, timestamp }) {
    if (event === 'error') this.#showFault(payload);
    if (event === 'token_expiring') {
      this.#banner.show({
        title: 'Your token is about to expire',
        advice: `This connection ends at ${clockTime(payload.expires_at)}. To stay, connect with a new token.`,
        technical: '',
      });
    }
    if (event !== 'connected') return;
    this.#ownUser = payload.user_id;
    this.#noted = '';
    this.#session.accepted();
    this.#banner.clear();
    this.#stream.setReader({ userId: payload.user_id, joinedAt: timestamp });
    this.#people.reset(payload.user_id, Math.max(0, payload.presence_count - LISTED_USERS));
    this.#composer.setEnabled(true, payload.limits?.max_message_size);
    this.#ownStatus.setEnabled(true);
    this.#ownStatus.restore();
    this.#latency.start();
    this.#showFacts(payload);
  }

  /** @param {any} connected payload of `system`/`connected` */
  #showFacts(connected) {
    const facts = [
      ['Channel', connected.channel],
      ['User', connected.user_id],
      ['Connection', connected.connection_id],
    ];
    if (connected.token_expires_at !== undefined) {
      facts.push(['Token until', new Date(connected.token_expires_at).toLocaleString()]);
    }
    const rows = facts.flatMap(([name, value]) => [
      make('dt', { text: name }),
      make('dd', { text: value, title: value }),
    ]);
    byId('facts').replaceChildren(...rows);
  }
}

await new Page().start();
