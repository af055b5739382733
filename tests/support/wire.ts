import { SERVER_MESSAGES } from '@goforward/realtime-protocol/schemas';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';

const validators = new Map(
  Object.entries(SERVER_MESSAGES).map(([name, schema]) => [name, Compile(withoutOtherFields(schema))]),
);

/** How a message from the server departs from the protocol's schemas, fields that they do not know included; undefined if it does not. */
export function problemOnTheWire(message: {
  readonly type: string;
  readonly event: string;
}): string | undefined {
  const validator = validators.get(`${message.type}/${message.event}`) ?? validators.get(`${message.type}/*`);
  if (validator === undefined) return `there is no message ${message.type}/${message.event}`;
  if (validator.Check(message)) return undefined;
  return `${JSON.stringify(message)}: ${JSON.stringify(validator.Errors(message))}`;
}

/** The schema with every object closed that does not say it is open. */
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
