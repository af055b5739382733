/** Describes how a value violates its schema, in words for the sender. */
export interface Problem {
  /** Path of the invalid part: `permissions.read.0`; the `whole` of `firstProblem` for the value itself. */
  readonly field: string;
  readonly details: string;
}

interface SchemaError {
  readonly keyword: string;
  readonly instancePath: string;
  readonly params: object;
  readonly message: string;
}

/** The part of a compiled TypeBox schema that is used here. */
interface SchemaValidator {
  Errors(value: unknown): readonly SchemaError[];
}

/** Returns the first problem of a rejected value. `whole` is the name of the value itself. */
export function firstProblem(validator: SchemaValidator, value: unknown, whole: string): Problem {
  const errors = validator.Errors(value);
  const error =
    errors.find(({ keyword }) => keyword === 'additionalProperties' || keyword === 'anyOf') ?? errors[0];
  if (error === undefined) return { field: whole, details: `${whole}: has the wrong shape` };
  const path = error.instancePath.split('/').slice(1).map(unescaped);
  const field = (names: readonly string[]) => [...path, ...names].join('.') || whole;
  switch (error.keyword) {
    case 'required': {
      const missing = field(namesOf(error.params, 'requiredProperties'));
      return { field: missing, details: `${missing}: is required` };
    }
    case 'additionalProperties': {
      const unknown = field(namesOf(error.params, 'additionalProperties'));
      return { field: unknown, details: `${unknown}: is not a known field` };
    }
    case 'anyOf': {
      const words = errors.flatMap(({ params }) =>
        'allowedValue' in params ? [String(params.allowedValue)] : [],
      );
      const what = words.length > 0 ? `must be one of ${words.join(', ')}` : 'has the wrong type';
      return { field: field([]), details: `${field([])}: ${what}` };
    }
    default:
      return { field: field([]), details: `${field([])}: ${error.message}` };
  }
}

/** Returns at most the first name: an answer must not repeat an object full of unknown names. */
function namesOf(params: object, key: string): string[] {
  const names: unknown = (params as Record<string, unknown>)[key];
  return Array.isArray(names) && typeof names[0] === 'string' ? [names[0].slice(0, 100)] : [];
}

/** Decodes the escapes of a name in a JSON pointer (RFC 6901). */
function unescaped(name: string): string {
  return name.replaceAll('~1', '/').replaceAll('~0', '~').slice(0, 100);
}
