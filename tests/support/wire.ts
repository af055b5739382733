import { SERVER_MESSAGES } from '@goforward/realtime-protocol/schemas';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';

const validators = new Map(
  Object.entries(SERVER_MESSAGES).map(([name, schema]) => [name, Compile(withoutOtherFields(schema))]),
);

/**
 * Returns how a server message violates the protocol's schemas, including unknown fields; undefined if it
 * does not.
 */
export function problemOnTheWire(message: {
  readonly type: string;
  readonly event: string;
}): string | undefined {
  const validator = validators.get(`${message.type}/${message.event}`) ?? validators.get(`${message.type}/*`);
  if (validator === undefined) return `unknown message ${message.type}/${message.event}`;
  if (validator.Check(message)) return undefined;
  return `${JSON.stringify(message)}: ${JSON.stringify(validator.Errors(message))}`;
}

/** Returns the schema with unknown fields forbidden in every object that does not allow them explicitly. */
function withoutOtherFields(schema: TSchema): TSchema {
  const close = (_key: string, value: unknown): unknown =>
    isObjectSchema(value) && !('additionalProperties' in value)
      ? { ...value, additionalProperties: false }
      : value;
  return JSON.parse(JSON.stringify(schema), close) as TSchema;
}

function isObjectSchema(value: unknown): value is object {
  return (
    typeof value === 'object' &&
    value !== null &&
    'type' in value &&
    value.type === 'object' &&
    'properties' in value
  );
}
