import { ProtocolError } from '@goforward/realtime-protocol';
import { Type } from 'typebox';
import type { ChannelRegistry } from '../../channels/channel-registry.js';
import type { ConnectionRegistry } from '../../connections/connection-registry.js';
import type { Metrics } from '../../metrics/metrics.js';
import type { PresenceTracker } from '../../presence/presence-tracker.js';
import { type App, route } from '../route.js';
import { type DatabaseStats, SystemStats } from '../schemas.js';
import { summaryOf } from './channels.js';

/** The state of each part, for `/readyz`. */
export interface Readiness {
  /** Whether clients can join: false until the channels are loaded, and while the server stops. */
  readonly ready: boolean;
  readonly parts: Readonly<Record<string, { readonly status: string; readonly reason?: string }>>;
}

export interface MonitoringRouteParts {
  readonly channels: ChannelRegistry;
  readonly connections: ConnectionRegistry;
  readonly presence: PresenceTracker;
  readonly metrics: Metrics | undefined;
  /** Undefined if row changes are turned off. */
  readonly database: (() => DatabaseStats) | undefined;
  readonly readiness: () => Readiness;
}

/** The maps of the statistics contain at most this number of users and channels: the largest. */
const MAX_LISTED = 100;

/** Statistics, metrics and health. */
export function monitoringRoutes(app: App, parts: MonitoringRouteParts): void {
  showStatistics(app, parts);
  exportMetrics(app, parts);
  checkLiveness(app);
  checkReadiness(app, parts);
}

function showStatistics(app: App, { channels, connections, presence, database }: MonitoringRouteParts): void {
  const facts = {
    access: 'server-admin',
    tag: 'Monitoring',
    summary: 'Show the statistics of the server',
  } as const;
  app.get('/realtime/stats', route(facts, {}, { 200: SystemStats }), async () => {
    const summaries = channels.list().map((channel) => summaryOf(channel, presence));
    return {
      total_channels: summaries.length,
      total_subscribers: sum(summaries.map((summary) => summary.subscriber_count)),
      total_presence: sum(summaries.map((summary) => summary.presence_count)),
      channels: summaries,
      connections: {
        active_connections: connections.size,
        connections_per_user: largest(connections.byUser),
        channel_connections: largest(summaries.map(({ name, subscriber_count }) => [name, subscriber_count])),
      },
      ...(database === undefined ? {} : { database: database() }),
    };
  });
}

function exportMetrics(app: App, { metrics }: MonitoringRouteParts): void {
  const facts = {
    access: 'server-admin',
    tag: 'Monitoring',
    summary: 'Export metrics for Prometheus',
  } as const;
  app.get('/metrics', route(facts, {}, { 200: Type.String() }), async (_request, reply) => {
    if (metrics === undefined)
      throw new ProtocolError('FEATURE_DISABLED', { fields: { feature: 'metrics' } });
    return reply.type(metrics.contentType).send(await metrics.text());
  });
}

function checkLiveness(app: App): void {
  const facts = { access: 'public', tag: 'Monitoring', summary: 'Check whether the process runs' } as const;
  const Alive = Type.Object({ status: Type.String() });
  app.get('/healthz', route(facts, {}, { 200: Alive }), async () => ({ status: 'ok' }));
}

function checkReadiness(app: App, { readiness }: MonitoringRouteParts): void {
  const State = Type.Object({ status: Type.String(), reason: Type.Optional(Type.String()) });
  const Ready = Type.Object({ status: Type.String(), parts: Type.Record(Type.String(), State) });
  const facts = {
    access: 'public',
    tag: 'Monitoring',
    summary: 'Check whether clients can join, and show the state of each part',
    description:
      'Answers 503 until the channels are loaded, and while the server stops. If the database is lost later, its part says so and the status stays 200: channels work without it.',
  } as const;
  app.get('/readyz', route(facts, {}, { 200: Ready, 503: Ready }), async (_request, reply) => {
    const { ready, parts } = readiness();
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not ready', parts });
  });
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function largest(counts: Iterable<readonly [string, number]>): Record<string, number> {
  const sorted = [...counts].sort(([, a], [, b]) => b - a);
  return Object.fromEntries(sorted.slice(0, MAX_LISTED));
}
