import cors from '@fastify/cors';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import { ProtocolError } from '@goforward/realtime-protocol';
import fastify, { type FastifyReply } from 'fastify';
import { Compile } from 'typebox/compile';
import type { RefusalLog } from '../auth/refusal-log.js';
import type { PendingWork } from '../connections/pending-work.js';
import { stringify } from '../lib/json-text.js';
import type { Log } from '../lib/log.js';
import { firstProblem } from '../lib/schema-problem.js';
import type { Metrics } from '../metrics/metrics.js';
import { type AccessParts, channelNameOf, guardRoutes } from './access.js';
import { collectMethods } from './allowed-methods.js';
import { answerBrokenRequests } from './broken-requests.js';
import { clientAddress } from './client-address.js';
import { errorReply, invalid, protocolErrorOf } from './error-reply.js';
import type { HttpSockets } from './http-sockets.js';
import { readJsonBodies } from './json-body.js';
import { collectOpenApi, docsRoutes, openApiRoute } from './openapi.js';
import type { OriginRule } from './origin-rule.js';
import { pageRoutes } from './page.js';
import { boundPendingRequests } from './pending-requests.js';
import type { RequestRate } from './request-rate.js';
import type { App } from './route.js';
import { type ChannelRouteParts, channelRoutes } from './routes/channels.js';
import { type Demo, demoRoutes } from './routes/demo.js';
import { explainRoute } from './routes/explain.js';
import { type MessageRouteParts, messageRoutes } from './routes/messages.js';
import { type MonitoringRouteParts, monitoringRoutes } from './routes/monitoring.js';
import type { ChangeRouteParts } from './routes/row-change-parts.js';
import { subscriptionRoutes } from './routes/subscriptions.js';
import { tableRoutes } from './routes/tables.js';
import { webSocketRoute } from './routes/websocket-documentation.js';

export interface HttpParts
  extends AccessParts,
    ChannelRouteParts,
    ChangeRouteParts,
    MessageRouteParts,
    MonitoringRouteParts {
  readonly sockets: HttpSockets;
  readonly origins: OriginRule;
  readonly requestRate: RequestRate;
  /** Bounds the requests that wait for PostgreSQL, of connections and HTTP together. */
  readonly pending: PendingWork;
  readonly refusalLog: RefusalLog;
  readonly counters: { refused(code: string): void };
  readonly metrics: Metrics | undefined;
  readonly log: Log;
  readonly version: string;
  readonly maxBodyBytes: number;
  /** Whether the page, `/docs` and `/openapi.json` are served. */
  readonly enableConsole: boolean;
  /** Present only on an unconfigured server. */
  readonly demo: Demo | undefined;
}

/** Characters. Longer than any channel name, so that a name that is too long is rejected as a name. */
const MAX_PATH_PART = 8_192;

/** Headers of every response. */
const HEADERS = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
};

/** Creates the HTTP server with all its routes; it does not listen yet. */
export async function createApp(parts: HttpParts): Promise<App> {
  const app = createFastify(parts);
  compileSchemas(app);
  answerErrors(app, parts);
  observeResponses(app, parts);
  closeIdleConnectionsOnStop(app);
  await checkOrigins(app, parts);
  limitRate(app, parts);
  guardRoutes(app, parts);
  readJsonBodies(app);
  boundPendingRequests(app, parts.pending);
  await registerRoutes(app, parts);
  await app.ready();
  return app;
}

function createFastify(parts: HttpParts): App {
  return fastify({
    bodyLimit: parts.maxBodyBytes,
    serverFactory: (handle) => parts.sockets.createServer(handle),
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    routerOptions: { maxParamLength: MAX_PATH_PART },
    frameworkErrors: (error, _request, reply) => {
      void sendError(error, reply.headers(HEADERS), parts);
    },
    clientErrorHandler: answerBrokenRequests(parts.sockets, parts.counters),
  }).withTypeProvider<TypeBoxTypeProvider>();
}

function compileSchemas(app: App): void {
  // Values are not converted: "5" is not 5.
  app.setValidatorCompiler(({ schema, httpPart }) => {
    const validator = Compile(schema);
    return (value) => {
      if (validator.Check(value)) return { value };
      const { field, details } = firstProblem(validator, value, httpPart ?? 'request');
      return { error: new ProtocolError('VALIDATION_FAILED', { details, fields: { field } }) };
    };
  });
  // The compiler has checked the types of responses: a second pass by schema would add nothing.
  app.setSerializerCompiler(() => stringify);
}

/** Rejects origins that are not allowed, and answers CORS requests of the others. */
async function checkOrigins(app: App, { origins }: HttpParts): Promise<void> {
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(HEADERS);
    origins.require(request.headers.origin, request.headers.host);
  });
  await app.register(cors, {
    // The hook above has checked the origin.
    origin: true,
    methods: ['GET', 'HEAD', 'POST', 'DELETE'],
    allowedHeaders: ['authorization', 'content-type'],
    exposedHeaders: ['retry-after'],
    maxAge: 600,
    strictPreflight: false,
  });
}

/** Behind CORS, so that pages of allowed origins can read the refusal. */
function limitRate(app: App, { requestRate }: HttpParts): void {
  app.addHook('onRequest', async ({ raw }) => {
    requestRate.require(raw);
    if (raw.headers.host === undefined && raw.httpVersion !== '1.0') throw invalid('host', 'is missing');
  });
}

async function registerRoutes(app: App, parts: HttpParts): Promise<void> {
  if (parts.enableConsole) await collectOpenApi(app, parts.version);
  const rejectOtherMethods = collectMethods(app);
  channelRoutes(app, parts);
  messageRoutes(app, parts);
  tableRoutes(app, parts);
  explainRoute(app, parts);
  subscriptionRoutes(app, parts);
  monitoringRoutes(app, parts);
  webSocketRoute(app);
  if (parts.enableConsole) await consoleRoutes(app, parts);
  rejectOtherMethods();
}

/** The page with the routes that only it uses, and the documentation of the API. */
async function consoleRoutes(app: App, parts: HttpParts): Promise<void> {
  pageRoutes(app);
  demoRoutes(app, parts);
  openApiRoute(app);
  await docsRoutes(app);
}

function answerErrors(app: App, parts: HttpParts): void {
  app.setErrorHandler(async (thrown, request, reply) => {
    const error = protocolErrorOf(thrown, parts.maxBodyBytes);
    const address = clientAddress(request.raw, parts.trustedProxies);
    parts.refusalLog.report(error, { address, channel: channelNameOf(request) });
    if (error.code === 'INTERNAL') {
      parts.log.error({ err: thrown, route: request.routeOptions.url }, 'Request failed');
    }
    return sendError(error, reply, parts);
  });
  app.setNotFoundHandler(async () => {
    throw new ProtocolError('NOT_FOUND');
  });
}

/**
 * Sends an error. Every error takes this way, also those of Fastify's router, which no hook and no handler
 * sees.
 */
function sendError(
  thrown: unknown,
  reply: FastifyReply,
  { maxBodyBytes, counters }: HttpParts,
): FastifyReply {
  const { status, headers, error } = errorReply(protocolErrorOf(thrown, maxBodyBytes));
  counters.refused(error.code);
  return reply.code(status).headers(headers).send(error.body);
}

/**
 * Closes each connection after its present request once the server stops: a stop must not wait for the next
 * one.
 */
function closeIdleConnectionsOnStop(app: App): void {
  let closing = false;
  app.addHook('preClose', async () => {
    closing = true;
  });
  app.addHook('onSend', async (_request, reply) => {
    if (closing) reply.header('connection', 'close');
  });
}

/**
 * Counts and logs responses by route, never by path: a path contains channel names, and a query can contain a
 * token.
 */
function observeResponses(app: App, { metrics, log }: HttpParts): void {
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'none';
    metrics?.answered(request.method, route, reply.statusCode);
    const ms = Math.round(reply.elapsedTime);
    log.debug({ method: request.method, route, status: reply.statusCode, ms }, 'Request answered');
  });
}
