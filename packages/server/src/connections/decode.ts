import { type ClientMessage, LIMITS, ProtocolError } from '@goforward/realtime-protocol';
import { ClientMessage as ClientMessageSchema } from '@goforward/realtime-protocol/schemas';
import { Compile } from 'typebox/compile';
import { JsonError, type ParsedJson, parseJson } from '../lib/json.js';
import { EMPTY_OBJECT, type JsonText } from '../lib/json-text.js';
import { firstProblem } from '../lib/schema-problem.js';

const validator = Compile(ClientMessageSchema);
const refValidator = Compile(ClientMessageSchema.properties.ref);

/** A client's message. */
export interface ReceivedMessage extends Omit<ClientMessage, 'ref'> {
  /** The payload as it was written; `{}` for a missing one. */
  readonly payloadText: JsonText;
  /** As it was written, for the reply. */
  readonly ref: JsonText | undefined;
}

/** A client's message, or an error with the message's `ref`, if any, since every `ref` gets a reply. */
export type Decoded =
  | { readonly message: ReceivedMessage }
  | { readonly error: ProtocolError; readonly ref: JsonText | undefined };

/** Parses a frame and checks it against the protocol's schema. Never throws for bad input. */
export function decode(data: Buffer, isBinary: boolean): Decoded {
  if (isBinary) return invalidJson('Messages must be JSON text; binary frames are not supported');
  let parsed: ParsedJson;
  try {
    parsed = parseJson(data, LIMITS.jsonDepth);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    return invalidJson(error.message);
  }
  const { value, members } = parsed;
  const ref = refOf(parsed);
  if (!validator.Check(value)) {
    const { field, details } = firstProblem(validator, value, 'message');
    return invalid(field, details, ref);
  }
  if (value.ref !== undefined && ref === undefined) {
    return invalid('ref', `ref: must have at most ${LIMITS.refLength} digits`, undefined);
  }
  const { type, event, payload } = value;
  return { message: { type, event, payload, payloadText: members.get('payload') ?? EMPTY_OBJECT, ref } };
}

function invalidJson(details: string): Decoded {
  return { error: new ProtocolError('INVALID_JSON', { details }), ref: undefined };
}

function invalid(field: string, details: string, ref: JsonText | undefined): Decoded {
  return { error: new ProtocolError('VALIDATION_FAILED', { details, fields: { field } }), ref };
}

/** Returns the `ref` as it was written; undefined for a missing one and one that cannot be echoed. */
function refOf({ value, members }: ParsedJson): JsonText | undefined {
  const ref = members.get('ref');
  if (ref === undefined || typeof value !== 'object' || value === null || !('ref' in value)) return undefined;
  if (!refValidator.Check(value.ref)) return undefined;
  // The schema limits a text. A number can be written with any number of digits.
  return typeof value.ref === 'number' && ref.text.length > LIMITS.refLength ? undefined : ref;
}
