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
  /** False while nobody can join: the channels are not loaded yet, or the server is stopping. */
  readonly ready: boolean;
  readonly parts: Readonly<Record<string, { readonly status: string; readonly reason?: string }>>;
}

export interface MonitoringRouteParts {
  readonly channels: ChannelRegistry;
  readonly connections: ConnectionRegistry;
  readonly presence: PresenceTracker;
  readonly metrics: Metrics | undefined;
  /** Undefined where row changes are not streamed. */
  readonly database: (() => DatabaseStats) | undefined;
  readonly readiness: () => Readiness;
}

/** How many users and channels the maps of the statistics name. */
const LARGEST = 100;

/** Statistics, metrics and health. */
export function monitoringRoutes(app: App, parts: MonitoringRouteParts): void {
  const { channels, connections, presence, metrics, database, readiness } = parts;

  const statistics = {
    access: 'server-admin',
    tag: 'Monitoring',
    summary: 'Statistics of the server',
  } as const;
  app.get('/realtime/stats', route(statistics, {}, { 200: SystemStats }), async () => {
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

  const scrape = {
    access: 'server-admin',
    tag: 'Monitoring',
    summary: 'Metrics for Prometheus',
  } as const;
  app.get('/metrics', route(scrape, {}, { 200: Type.String() }), async (_request, reply) => {
    if (metrics === undefined)
      throw new ProtocolError('FEATURE_DISABLED', { fields: { feature: 'metrics' } });
    return reply.type(metrics.contentType).send(await metrics.text());
  });

  const health = { access: 'public', tag: 'Monitoring', summary: 'Whether the process lives' } as const;
  app.get('/healthz', route(health, {}, { 200: Type.Object({ status: Type.String() }) }), async () => ({
    status: 'ok',
  }));

  const State = Type.Object({ status: Type.String(), reason: Type.Optional(Type.String()) });
  const Ready = Type.Object({ status: Type.String(), parts: Type.Record(Type.String(), State) });
  const readyz = {
    access: 'public',
    tag: 'Monitoring',
    summary: 'Whether clients can join, with the state of each part',
    description:
      '503 until the channels are loaded, and while the server stops. A database that is lost later shows here too, but chat goes on.',
  } as const;
  app.get('/readyz', route(readyz, {}, { 200: Ready, 503: Ready }), async (_request, reply) => {
    const { ready, parts: states } = readiness();
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not ready', parts: states });
  });
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function largest(counts: Iterable<readonly [string, number]>): Record<string, number> {
  const sorted = [...counts].sort(([, a], [, b]) => b - a);
  return Object.fromEntries(sorted.slice(0, LARGEST));
}
