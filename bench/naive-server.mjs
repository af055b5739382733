// The server that fan-out compares ours with: a few lines with `ws`. It does only what every such server must
// do: parse, add the envelope, one JSON.stringify per message, and `ws.send(string)` to each member. It has
// no authentication, no presence and no limits.
import { randomInt } from 'node:crypto';
import { createRequire } from 'node:module';

// The same copy of `ws` that our server uses.
const { WebSocketServer } = createRequire(new URL('../packages/server/package.json', import.meta.url))('ws');

/** @type {Map<string, Set<import('ws').WebSocket>>} */
const channels = new Map();
const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  maxPayload: 64 * 1024,
  clientTracking: false,
});

server.on('connection', (socket, request) => {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
  const userId = searchParams.get('user');
  const members = channels.get(pathname) ?? new Set();
  channels.set(pathname, members.add(socket));
  socket.on('close', () => members.delete(socket));
  socket.on('error', () => undefined);
  socket.on('message', (data) => {
    const { event, payload } = JSON.parse(data.toString());
    const now = Date.now();
    const text = JSON.stringify({
      id: `msg_${now}_${randomInt(36 ** 9 - 1)
        .toString(36)
        .padStart(9, '0')}`,
      type: 'message',
      event,
      payload,
      user_id: userId,
      timestamp: new Date(now).toISOString(),
    });
    for (const member of members) member.send(text);
  });
});

server.on('listening', () => process.send?.({ port: server.address().port }));
process.on('disconnect', () => process.exit());
