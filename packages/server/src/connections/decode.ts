import { type ClientMessage, LIMITS, ProtocolError } from '@goforward/realtime-protocol';
import { ClientMessage as ClientMessageSchema } from '@goforward/realtime-protocol/schemas';
import { Compile } from 'typebox/compile';
import { JsonError, parseJson } from '../lib/json.js';
import { firstProblem } from '../lib/schema-problem.js';

const validator = Compile(ClientMessageSchema);
const refValidator = Compile(ClientMessageSchema.properties.ref);

/** A client's message, or an error with the message's `ref`, if any, since every `ref` gets a reply. */
export type Decoded =
  | { readonly message: ClientMessage }
  | { readonly error: ProtocolError; readonly ref: ClientMessage['ref'] };

/** Parses a frame and checks it against the protocol's schema. Never throws for bad input. */
export function decode(data: Buffer, isBinary: boolean): Decoded {
  if (isBinary) return invalidJson('Messages must be JSON text; binary frames are not supported');
  let value: unknown;
  try {
    value = parseJson(data, LIMITS.jsonDepth);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    return invalidJson(error.message);
  }
  if (validator.Check(value)) return { message: value };
  const { field, details } = firstProblem(validator, value, 'message');
  return { error: new ProtocolError('VALIDATION_FAILED', { details, fields: { field } }), ref: refOf(value) };
}

function invalidJson(details: string): Decoded {
  return { error: new ProtocolError('INVALID_JSON', { details }), ref: undefined };
}

function refOf(value: unknown): ClientMessage['ref'] {
  if (typeof value !== 'object' || value === null || !('ref' in value)) return undefined;
  return refValidator.Check(value.ref) ? value.ref : undefined;
}
