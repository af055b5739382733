import { type ClientMessage, LIMITS, ProtocolError } from '@goforward/realtime-protocol';
import { ClientMessage as ClientMessageSchema } from '@goforward/realtime-protocol/schemas';
import { Compile } from 'typebox/compile';
import { JsonError, parseJson } from '../lib/json.js';
import { firstProblem } from '../lib/problem.js';

const validator = Compile(ClientMessageSchema);
const refValidator = Compile(ClientMessageSchema.properties.ref);

/** A client's message, or why it is none; with its `ref` where there is one, since a ref is always answered. */
export type Decoded =
  | { readonly message: ClientMessage }
  | { readonly error: ProtocolError; readonly ref: ClientMessage['ref'] };

/** Reads a frame's bytes by the protocol's schema. Never throws. */
export function decode(data: Buffer, isBinary: boolean): Decoded {
  if (isBinary) return refused('INVALID_JSON', 'Messages are JSON text; binary frames are not understood');
  let value: unknown;
  try {
    value = parseJson(data, LIMITS.jsonDepth);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    return refused('INVALID_JSON', error.message);
  }
  if (validator.Check(value)) return { message: value };
  const { field, details } = firstProblem(validator, value, 'message');
  return { error: new ProtocolError('VALIDATION_FAILED', { details, fields: { field } }), ref: refOf(value) };
}

function refused(code: 'INVALID_JSON', details: string): Decoded {
  return { error: new ProtocolError(code, { details }), ref: undefined };
}

function refOf(value: unknown): ClientMessage['ref'] {
  if (typeof value !== 'object' || value === null || !('ref' in value)) return undefined;
  return refValidator.Check(value.ref) ? value.ref : undefined;
}
