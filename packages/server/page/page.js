import { Composer } from './composer.js';
import { ConnectForm } from './connect-form.js';
import { Connection } from './connection.js';
import { byId, make } from './elements.js';
import { localNote } from './entry.js';
import { explainFault, PRINTED_ADMIN_TOKEN } from './error-texts.js';
import { clockTime } from './format.js';
import { LatencyMeter } from './latency.js';
import { OwnStatus } from './own-status.js';
import { PresenceList } from './presence.js';
import { ProblemBanner } from './problem-banner.js';
import { RowsPanel } from './rows-panel.js';
import { channelOfAddress, DemoSession, rememberChannel } from './session.js';
import { Stream } from './stream.js';

/** The maximum number of users that the server lists to a new connection. */
const LISTED_USERS = 200;
const DEFAULT_CHANNEL = 'lobby';
const PHASE_TEXTS = { disconnected: 'Disconnected', connecting: 'Connecting', connected: 'Connected' };
const EMPTY_TEXTS = {
  disconnected: 'Connect to a channel to see its messages.',
  connecting: 'Connecting to the channel.',
  connected: 'No messages yet. Open this page in a second browser and send one.',
};

/** The page: passes messages from the connection to the parts that show them, and user actions to the connection. */
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
    onSuccess: () => this.#banner.succeeded(),
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
    onSuccess: () => this.#banner.succeeded(),
  });
  #rows = new RowsPanel({
    tableForm: byId('rows-form'),
    table: byId('rows-table'),
    follow: byId('rows-follow'),
    tokenHint: byId('rows-token-hint'),
    followed: byId('rows-followed'),
    followedNote: byId('rows-followed-note'),
    rowForm: byId('rows-insert-form'),
    content: byId('rows-content'),
    insert: byId('rows-insert'),
    state: byId('rows-state'),
    onFault: (fault) => this.#showFault(fault),
    onSuccess: () => this.#banner.succeeded(),
  });
  #ownUser = '';
  #isUnconfigured = false;
  /** The last problem that was added to the list of messages. */
  #noted = '';

  /** Listens to the page, then connects if the server gives a demo user. */
  async start() {
    /** @type {NodeListOf<HTMLInputElement>} */
    const boxes = document.querySelectorAll('.filters input');
    for (const box of boxes) {
      box.addEventListener('change', () => this.#stream.filter(box.name, box.checked));
    }
    byId('clear').addEventListener('click', () => this.#stream.clear());
    byId('people-link').addEventListener('click', (event) => {
      // The link would replace the channel in the address.
      event.preventDefault();
      byId('people-title').focus();
    });
    addEventListener('online', () => this.#connection.retryNow());
    addEventListener('hashchange', () => this.#followAddress());
    this.#showPhase('disconnected', null);
    this.#form.fill({ channel: channelOfAddress() ?? DEFAULT_CHANNEL });
    const session = await this.#session.start();
    this.#isUnconfigured = session !== null;
    this.#rows.setServer({
      exampleTable: session?.example_table,
      adminToken: this.#isUnconfigured ? PRINTED_ADMIN_TOKEN : 'admin permission on the channel',
    });
    // A token may have been pasted in the meantime.
    if (this.#form.hasToken) return;
    if (session === null) {
      this.#form.hint('Paste a token. On the server, “npx goforward-realtime token” prints one.');
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
   * Adds a problem to the list of messages, but only once: retries must not push the messages out.
   *
   * @param {string} title
   */
  #note(title) {
    if (title === this.#noted) return;
    this.#noted = title;
    this.#stream.add(localNote(title));
  }

  /** @param {import('./error-texts.js').Fault} fault */
  #showFault(fault) {
    this.#banner.show(explainFault(fault, { isUnconfigured: this.#isUnconfigured }));
  }

  /**
   * @param {import('./connection.js').Phase} phase
   * @param {number | null} retryAt
   */
  #showPhase(phase, retryAt) {
    const status = byId('status');
    status.dataset.phase = phase;
    // Only on a change: a live region would be read aloud again.
    if (status.textContent !== PHASE_TEXTS[phase]) status.textContent = PHASE_TEXTS[phase];
    byId('empty').textContent = EMPTY_TEXTS[phase];
    this.#banner.countDown(retryAt);
    this.#form.show(phase, retryAt !== null);
    this.#rows.setTarget(this.#connection.target);
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
      this.#ownStatus.show(message.payload.state);
    }
  }

  /** @param {import('./connection.js').Message} message */
  #receiveSystem({ event, payload, timestamp }) {
    if (event === 'error') this.#showFault(payload);
    if (event === 'token_expiring') {
      const advice = `The connection ends at ${clockTime(payload.expires_at)}. Connect with a new token to stay.`;
      this.#banner.show({ title: 'Your token expires soon', advice, technical: '' }, { isNotice: true });
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
    // Without a cursor the server streams no row changes.
    if (payload.cursor !== undefined) this.#rows.load();
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
      facts.push(['Token expires', new Date(connected.token_expires_at).toLocaleString()]);
    }
    const rows = facts.flatMap(([name, value]) => [
      make('dt', { text: name }),
      make('dd', { text: value, title: value }),
    ]);
    byId('facts').replaceChildren(...rows);
  }
}

await new Page().start();
