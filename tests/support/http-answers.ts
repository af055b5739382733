/** An HTTP answer as it came over the wire. */
export interface WireAnswer {
  readonly status: number;
  readonly body: string;
}

/**
 * Splits the text of a connection into its answers. Throws unless it consists of whole answers, of which only
 * the last may be a 101, with the bytes of the WebSocket as its body.
 */
export function answersIn(text: string): WireAnswer[] {
  const answers: WireAnswer[] = [];
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf('\r\n\r\n', at);
    const head = text.slice(at, end < 0 ? undefined : end);
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1]);
    if (end < 0 || Number.isNaN(status)) throw new Error(`not an answer: ${text.slice(at, at + 300)}`);
    const start = end + 4;
    const length =
      status === 101 ? text.length - start : Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
    if (start + length > text.length) throw new Error(`cut after ${text.length - start} of ${length} bytes`);
    answers.push({ status, body: text.slice(start, start + length) });
    at = start + length;
  }
  return answers;
}
