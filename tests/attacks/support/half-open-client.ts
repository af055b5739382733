import { connect, type Socket } from 'node:net';
import type { Target } from './target.js';

/** A TCP client that never closes by itself, and reads only after `resume`. */
export function openClient({ port }: Target): Socket {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  socket.on('error', () => undefined);
  return socket.pause();
}
