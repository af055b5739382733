import { randomFillSync } from 'node:crypto';

const ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz';
const POOL_BYTES = 8192;

/** Generates short random ids from large blocks of entropy, since one system call per id is slow. */
export class IdSource {
  readonly #pool = Buffer.alloc(POOL_BYTES);
  #used = POOL_BYTES;

  /** Returns a message id: `msg_<ms>_<9 random letters and digits>`. */
  message(now: number): string {
    return `msg_${now}_${this.random(9)}`;
  }

  /** Returns `length` random letters and digits, each almost equally likely. */
  random(length: number): string {
    let text = '';
    for (let i = 0; i < length; i++) {
      if (this.#used === POOL_BYTES) {
        randomFillSync(this.#pool);
        this.#used = 0;
      }
      text += ALPHABET[(this.#pool[this.#used++] ?? 0) % ALPHABET.length];
    }
    return text;
  }
}
