import pg from 'pg';
import { connectionOptions } from './connection-target.js';
import { PooledSession } from './pooled-session.js';
import { PIN_SESSION } from './session-settings.js';
import { SESSION_LIMIT_MS, SqlSession, type TranslateError } from './sql-session.js';

/** The session bounds its statements itself. */
const NO_QUERY_TIMEOUT = 0;

/** Opens a session outside the pools, so that no other work delays or ends it. */
export async function openReaderSession(
  url: string,
  applicationName: string,
  translate: TranslateError,
): Promise<SqlSession> {
  const client = new pg.Client(connectionOptions(url, applicationName, NO_QUERY_TIMEOUT));
  client.on('error', () => undefined);
  const close = () => {
    client.end().catch(() => undefined);
    client.connection.stream.destroy();
  };
  try {
    await client.connect();
    await client.query(PIN_SESSION);
  } catch (error) {
    close();
    throw translate(error);
  }
  // The session learns that a dead network does not answer when its own statement takes too long.
  const observer = { silent: () => undefined, abandoned: () => close() };
  const session = new PooledSession(client, close, { limitMs: SESSION_LIMIT_MS }, observer);
  return SqlSession.open(client, session, applicationName, translate);
}
