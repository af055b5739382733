import pg from 'pg';

/** What a cancel request needs of a client; missing in the driver's types. */
interface Backend {
  readonly host: string;
  readonly port: number;
  readonly ssl: boolean | object;
  readonly sslNegotiation: string;
  readonly processID: number;
  readonly secretKey: number;
}

/** The parts of pg's connection that are missing in its types. */
interface Wire {
  connect(portOrPath: number | string, host?: string): void;
  requestSsl(): void;
  cancel(processId: number, secretKey: number): void;
}

/** How long a cancel request may take, in ms. */
const TIMEOUT_MS = 2_000;

/**
 * Asks PostgreSQL to cancel the running statement of a client (PostgreSQL manual, "Canceling Requests in
 * Progress"), on a connection of its own with the same address and TLS. Resolves when PostgreSQL has closed that
 * connection: by then it has signaled the backend. Never rejects: whether the statement ends shows on the client.
 */
export function sendCancelRequest(client: pg.ClientBase): Promise<void> {
  const { host, port, ssl, sslNegotiation, processID, secretKey } = client as unknown as Backend;
  // `pg.Client.cancel` does not speak TLS, and does not report the end.
  const connection = new pg.Connection({ ssl, sslNegotiation } as pg.ConnectionConfig);
  const wire = connection as unknown as Wire;
  const cancel = () => wire.cancel(processID, secretKey);
  connection.on('connect', () => {
    if (ssl === false) cancel();
    else if (sslNegotiation !== 'direct') wire.requestSsl();
  });
  connection.on('sslconnect', cancel);
  return new Promise((resolve) => {
    const end = () => connection.stream.destroy();
    const timer = setTimeout(end, TIMEOUT_MS);
    connection.on('error', end);
    connection.on('end', () => {
      clearTimeout(timer);
      resolve();
    });
    if (host.startsWith('/')) wire.connect(`${host}/.s.PGSQL.${port}`);
    else wire.connect(port, host);
  });
}
