import type { App } from '../route.js';

/** A fresh user for the page of an unconfigured server. */
export interface DemoSession {
  readonly user_id: string;
  readonly token: string;
  readonly channel: string;
}

/**
 * `/demo-session`: how the page connects at once. Only an unconfigured server has any; on another one it
 * answers 204, because a 404 would stand in the console of every browser as an error of the page.
 */
export function demoSessionRoute(app: App, newSession: (() => Promise<DemoSession>) | undefined): void {
  const options = { schema: { hide: true }, config: { access: 'public' } } as const;
  app.get('/demo-session', options, async (_request, reply) =>
    newSession === undefined ? reply.code(204).send() : reply.send(await newSession()),
  );
}
