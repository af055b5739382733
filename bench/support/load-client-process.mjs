import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { VoidRun } from './void-run.mjs';

/** Runs the load client in a child process and sends it one command at a time. Throws VoidRun. */
export class LoadClient {
  #child = fork(fileURLToPath(new URL('../load-client.mjs', import.meta.url)), {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });

  /**
   * Opens a member per path and waits until no more messages arrive.
   * @param {number} port
   * @param {readonly string[]} paths
   * @param {string} userId of the first member, which publishes
   */
  async open(port, paths, userId) {
    const { members } = await this.#ask({ command: 'open', port, paths, userId });
    if (members !== paths.length) throw new VoidRun(`${members} of ${paths.length} members connected`);
  }

  /**
   * @param {number} perTick
   * @param {number} ms
   * @returns {Promise<{ deliveries: number, tickMs: number[] }>}
   */
  publish(perTick, ms) {
    return this.#ask({ command: 'publish', perTick, ms });
  }

  settle() {
    return this.#ask({ command: 'settle' });
  }

  close() {
    return this.#ask({ command: 'close' });
  }

  stop() {
    this.#child.kill();
  }

  #ask(command) {
    return new Promise((resolve, reject) => {
      const ended = () => reject(new VoidRun('The load client exited'));
      this.#child.once('exit', ended);
      this.#child.once('message', (answer) => {
        this.#child.off('exit', ended);
        if (answer.failed === undefined) resolve(answer);
        else reject(new VoidRun(answer.failed));
      });
      this.#child.send(command);
    });
  }
}
