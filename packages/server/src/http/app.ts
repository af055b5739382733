import cors from '@fastify/cors';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import { ProtocolError } from '@goforward/realtime-protocol';
import fastify, { type FastifyReply } from 'fastify';
import { Compile } from 'typebox/compile';
import type { RefusalLog } from '../auth/refusal-log.js';
import type { Log } from '../lib/log.js';
import { firstProblem } from '../lib/problem.js';
import type { Metrics } from '../metrics/metrics.js';
import { type AccessParts, channelNameOf, guardRoutes } from './access.js';
import { collectMethods } from './allowed-methods.js';
import { refuseBrokenRequests } from './broken-requests.js';
import { clientAddress } from './client-address.js';
import { errorReply, protocolErrorOf } from './error-reply.js';
import { readJsonBodies } from './json-body.js';
import { docsRoutes, gatherOpenApi, openApiRoute } from './openapi.js';
import type { OriginRule } from './origin-rule.js';
import { pageRoutes } from './page.js';
import type { App } from './route.js';
import { type ChangeRouteParts, changeRoutes } from './routes/changes.js';
import { type ChannelRouteParts, channelRoutes } from './routes/channels.js';
import { type Demo, demoRoutes } from './routes/demo.js';
import { type MessageRouteParts, messageRoutes } from './routes/messages.js';
import { type MonitoringRouteParts, monitoringRoutes } from './routes/monitoring.js';
import { webSocketRoute } from './routes/websocket.js';
import { UpgradeRequest } from './upgrade-request.js';

export interface HttpParts
  extends AccessParts,
    ChannelRouteParts,
    ChangeRouteParts,
    MessageRouteParts,
    MonitoringRouteParts {
  readonly origins: OriginRule;
  readonly refusalLog: RefusalLog;
  readonly counters: { refused(code: string): void };
  readonly metrics: Metrics | undefined;
  readonly log: Log;
  readonly version: string;
  readonly maxBodyBytes: number;
  /** Whether the page and the documents of the API are served. */
  readonly enableConsole: boolean;
  /** Present only on an unconfigured server. */
  readonly demo: Demo | undefined;
}

/** How long a client may take to send its request's head: what begins and never ends must not hold a socket. */
const HEAD_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
const MAX_PATH_PART = 8_192;

/** What every answer says. */
const HEADERS = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
};

/** The HTTP side of the server with all its routes; it does not listen yet. */
export async function createApp(parts: HttpParts): Promise<App> {
  const app = fastify({
    bodyLimit: parts.maxBodyBytes,
    requestTimeout: REQUEST_TIMEOUT_MS,
    http: {
      headersTimeout: HEAD_TIMEOUT_MS,
      connectionsCheckingInterval: 1_000,
      IncomingMessage: UpgradeRequest,
    },
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    // Longer than any name that is one, so that a name that is too long is refused as a name.
    routerOptions: { maxParamLength: MAX_PATH_PART },
    frameworkErrors: (error, _request, reply) => {
      void answerError(error, reply.headers(HEADERS), parts);
    },
    clientErrorHandler: refuseBrokenRequests(parts.counters),
  }).withTypeProvider<TypeBoxTypeProvider>();
  // Nothing is converted: "5" is not 5. Answers are made of typed values and need no second schema pass.
  app.setValidatorCompiler(({ schema, httpPart }) => {
    const validator = Compile(schema);
    return (value) => {
      if (validator.Check(value)) return { value };
      const { field, details } = firstProblem(validator, value, httpPart ?? 'request');
      return { error: new ProtocolError('VALIDATION_FAILED', { details, fields: { field } }) };
    };
  });
  app.setSerializerCompiler(() => (answer) => JSON.stringify(answer));

  answerErrors(app, parts);
  observeAnswers(app, parts);
  keepNoConnectionWhenClosing(app);
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(HEADERS);
    parts.origins.require(request.headers.origin, request.headers.host);
  });
  // Whoever comes here has passed the origin rule, so the origin is given back as it is.
  await app.register(cors, {
    origin: true,
    methods: ['GET', 'HEAD', 'POST', 'DELETE'],
    allowedHeaders: ['authorization', 'content-type'],
    exposedHeaders: ['retry-after'],
    maxAge: 600,
    strictPreflight: false,
  });
  guardRoutes(app, parts);
  readJsonBodies(app);
  if (parts.enableConsole) await gatherOpenApi(app, parts.version);
  const refuseOtherMethods = collectMethods(app);
  channelRoutes(app, parts);
  messageRoutes(app, parts);
  changeRoutes(app, parts);
  monitoringRoutes(app, parts);
  webSocketRoute(app);
  if (parts.enableConsole) await consoleRoutes(app, parts);
  refuseOtherMethods();
  await app.ready();
  return app;
}

/** The page with what only it uses, and the documents of the API. */
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
    parts.refusalLog.refused(error, { address, channel: channelNameOf(request) });
    if (error.code === 'INTERNAL') {
      parts.log.error({ err: thrown, route: request.routeOptions.url }, 'A request could not be answered');
    }
    return answerError(error, reply, parts);
  });
  app.setNotFoundHandler(async () => {
    throw new ProtocolError('NOT_FOUND');
  });
}

/** The one form in which every error leaves, those of Fastify's router included, which no hook and no handler sees. */
function answerError(
  thrown: unknown,
  reply: FastifyReply,
  { maxBodyBytes, counters }: HttpParts,
): FastifyReply {
  const { status, headers, error } = errorReply(protocolErrorOf(thrown, maxBodyBytes));
  counters.refused(error.code);
  return reply.code(status).headers(headers).send(error.body);
}

/** A stop waits for requests that are under way, and must not wait for what their connections would bring next. */
function keepNoConnectionWhenClosing(app: App): void {
  let closing = false;
  app.addHook('preClose', async () => {
    closing = true;
  });
  app.addHook('onSend', async (_request, reply) => {
    if (closing) reply.header('connection', 'close');
  });
}

/** Counts and logs answers by route: a path holds channel names, its query may hold a token. */
function observeAnswers(app: App, { metrics, log }: HttpParts): void {
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'none';
    metrics?.answered(request.method, route, reply.statusCode);
    const ms = Math.round(reply.elapsedTime);
    log.debug({ method: request.method, route, status: reply.statusCode, ms }, 'Request answered');
  });
}
