/**
 * A zod schema as the structural OpenAPI schema that a CRD holds. Throws for what such a schema
 * cannot say, so that nothing is left out silently.
 */
import { z } from "zod";

/** A node of a structural schema; plain JSON. */
export type StructuralSchema = { [key: string]: unknown };

const EXTENSION = /^x-kubernetes-/u;
/** What is copied as it is. */
const KEPT: readonly string[] = [
  "type",
  "description",
  "format",
  "default",
  "enum",
  "pattern",
  "minLength",
  "maxLength",
  "minItems",
  "maxItems",
  "minProperties",
  "maxProperties",
  "required",
];
/** JSON Schema's frame, and what the API server implies. */
const DROPPED: readonly string[] = ["$schema", "propertyNames"];

/** The schema of what may be sent, with defaults. */
export function structuralSchema(schema: z.ZodType): StructuralSchema {
  return withWholeDefaults(
    convert(z.toJSONSchema(schema, { io: "input" }) as StructuralSchema, ""),
  );
}

/**
 * Each default with the defaults below it filled in: the API server runs a definition's rules over
 * each default as it stands, and refuses the definition where a rule misses a field.
 */
function withWholeDefaults(node: StructuralSchema): StructuralSchema {
  const whole = { ...node };
  const { properties, items, additionalProperties } = node;
  if (properties !== undefined) {
    whole["properties"] = mapValues(properties as StructuralSchema, withWholeDefaults);
  }
  if (items !== undefined) whole["items"] = withWholeDefaults(items as StructuralSchema);
  if (additionalProperties !== undefined) {
    whole["additionalProperties"] = withWholeDefaults(additionalProperties as StructuralSchema);
  }
  if ("default" in node) whole["default"] = filledIn(node, node["default"]);
  return whole;
}

/** The value with what the schema gives by default. */
function filledIn(schema: StructuralSchema, value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map((item) => filledIn((schema["items"] ?? {}) as StructuralSchema, item));
  }
  if (typeof value !== "object" || value === null) return value;
  const properties = (schema["properties"] ?? {}) as Record<string, StructuralSchema>;
  const filled: StructuralSchema = { ...value };
  for (const [name, child] of Object.entries(properties)) {
    const given = filled[name] ?? child["default"];
    if (given !== undefined) filled[name] = filledIn(child, given);
  }
  return filled;
}

function convert(node: StructuralSchema, path: string): StructuralSchema {
  const { nullable, inner } = withoutNull(node, path);
  const entries = Object.entries(inner).flatMap(([key, value]) => {
    const converted = convertKey(key, value, inner, path);
    return converted === undefined ? [] : [[key, converted] as const];
  });
  if (nullable) entries.push(["nullable", true]);
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function convertKey(key: string, value: unknown, node: StructuralSchema, path: string): unknown {
  if (KEPT.includes(key) || EXTENSION.test(key)) return value;
  if (DROPPED.includes(key)) return undefined;
  switch (key) {
    case "properties":
      return mapValues(value as StructuralSchema, (child, name) =>
        convert(child, `${path}.${name}`),
      );
    case "items":
      return convert(value as StructuralSchema, `${path}[]`);
    case "additionalProperties":
      // Only a map has a schema here; open and closed objects are told apart by an extension.
      return isMap(node) ? convert(value as StructuralSchema, `${path}[*]`) : undefined;
    case "minimum":
    case "maximum":
      return Math.abs(Number(value)) === Number.MAX_SAFE_INTEGER ? undefined : value;
    case "const":
      // The API server fills in and checks apiVersion and kind.
      return undefined;
    default:
      throw new Error(`${path || "(root)"}: ${key} has no place in a structural schema`);
  }
}

function isMap(node: StructuralSchema): boolean {
  const { additionalProperties } = node;
  if (typeof additionalProperties !== "object" || additionalProperties === null) return false;
  return Object.keys(additionalProperties).length > 0;
}

/** `anyOf: [X, null]` is how JSON Schema says nullable. */
function withoutNull(
  node: StructuralSchema,
  path: string,
): { readonly nullable: boolean; readonly inner: StructuralSchema } {
  const { anyOf, ...rest } = node;
  if (anyOf === undefined) return { nullable: false, inner: node };
  const [first, second, ...more] = anyOf as readonly StructuralSchema[];
  if (first === undefined || second?.["type"] !== "null" || more.length > 0) {
    throw new Error(`${path}: a structural schema knows no alternatives`);
  }
  return { nullable: true, inner: { ...first, ...rest } };
}

function mapValues(
  object: StructuralSchema,
  each: (child: StructuralSchema, name: string) => StructuralSchema,
): StructuralSchema {
  return Object.fromEntries(
    Object.entries(object).map(([name, child]) => [name, each(child as StructuralSchema, name)]),
  );
}
