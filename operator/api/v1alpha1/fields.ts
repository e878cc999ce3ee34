/**
 * What the resources are described with: zod schemas that carry, beside the check, everything the
 * CRD says of a field. From one such schema come the TypeScript type, the defaults, the operator's
 * own validation and the file in `crds`.
 */
import { z } from "zod";
import { BOUNDS } from "./bounds.ts";

/**
 * A rule that JSON Schema cannot say. The API server runs `rule` (CEL), the operator `holds`; a
 * rule about a change has only the first, since only the API server sees both states.
 */
export interface Rule<T> {
  readonly rule: string;
  /** What is allowed. */
  readonly message: string;
  /** CEL that gives the message with the value in it. */
  readonly messageExpression?: string;
  /** Where the fault is, below this value: `.replicas`. */
  readonly fieldPath?: string;
  /** Absent for a rule that compares with `oldSelf`. */
  readonly holds?: (self: T) => boolean;
  /** `oldSelf` may be absent: the rule runs at creation as well. */
  readonly optionalOldSelf?: true;
}

/** The key under which a schema's rules go into the CRD. */
const VALIDATIONS = "x-kubernetes-validations";

/** Adds rules to a schema. Order: ruled first, defaulted or made optional afterwards. */
export function ruled<S extends z.ZodType>(schema: S, ...rules: readonly Rule<z.output<S>>[]): S {
  const checks = rules.flatMap(({ holds, message, fieldPath }) => {
    if (holds === undefined) return [];
    const path = fieldPath === undefined ? [] : fieldPath.split(".").filter(Boolean);
    return [
      z.superRefine<z.output<S>>((value, context) => {
        if (!holds(value)) {
          context.addIssue({ code: "custom", message, path, input: at(value, path) });
        }
      }),
    ];
  });
  const published = rules.map(({ holds: _holds, ...rule }) => rule);
  return schema.check(...checks).meta({ ...schema.meta(), [VALIDATIONS]: published }) as S;
}

function at(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((part, key) => {
    return typeof part === "object" && part !== null ? Reflect.get(part, key) : undefined;
  }, value);
}

/** A text that must match. `allowed` completes "allowed: ". */
export function text(options: {
  readonly description: string;
  readonly allowed: string;
  readonly lengthMax: number;
  readonly lengthMin?: number;
  readonly pattern?: RegExp;
  readonly format?: string;
}): z.ZodString {
  const { description, allowed, lengthMax, lengthMin, pattern, format } = options;
  let schema = z.string({ error: allowed }).max(lengthMax, { error: allowed });
  if (lengthMin !== undefined) schema = schema.min(lengthMin, { error: allowed });
  if (pattern !== undefined) schema = schema.regex(pattern, { error: allowed });
  return schema.meta({ description, ...(format === undefined ? {} : { format }) });
}

/** A text written by the operator: only bounded. */
export function note(description: string, lengthMax: number = BOUNDS.messageLengthMax) {
  return text({ description, allowed: `at most ${lengthMax} characters`, lengthMax });
}

/** A moment, as Kubernetes writes it. */
export function time(description: string): z.ZodString {
  return text({
    description,
    allowed: "a time such as 2026-01-02T03:04:05Z",
    lengthMax: 40,
    format: "date-time",
  });
}

/** A whole number. Numbers of the log have 53 bits, hence `format: int64` where max is absent. */
export function integer(description: string, min: number, max?: number): z.ZodInt {
  const allowed =
    max === undefined ? `a whole number from ${min}` : `a whole number from ${min} to ${max}`;
  const schema = z.int({ error: allowed }).min(min, { error: allowed });
  const bounded = max === undefined ? schema : schema.max(max, { error: allowed });
  const small = max !== undefined && max <= 0x7fff_ffff;
  return bounded.meta({ description, format: small ? "int32" : "int64" });
}

/** One of a closed set of words. */
export function choice<const W extends readonly [string, ...string[]]>(
  description: string,
  words: W,
) {
  return z.enum(words, { error: words.join(", ") }).meta({ description });
}

/** Yes or no. */
export function flag(description: string): z.ZodBoolean {
  return z.boolean({ error: "true or false" }).meta({ description });
}

/** An object with described fields; others are dropped, as the API server drops them. */
export function fields<S extends z.ZodRawShape>(description: string, shape: S) {
  return z.object(shape, { error: "an object" }).meta({ description });
}

/** A list. With `keys` entries are told apart by them, so that several writers can share it. */
export function list<S extends z.ZodType>(
  description: string,
  item: S,
  options: {
    readonly max: number;
    readonly min?: number;
    readonly keys?: readonly [string, ...string[]];
    readonly kind?: "set" | "atomic";
  },
) {
  const { max, min = 0, keys, kind = "atomic" } = options;
  const allowed = min > 0 ? `a list of ${min} to ${max} entries` : `at most ${max} entries`;
  const schema = z
    .array(item, { error: allowed })
    .min(min, { error: allowed })
    .max(max, { error: allowed });
  const checked = keys === undefined ? schema : schema.check(uniqueBy(keys));
  return checked.meta({
    description,
    "x-kubernetes-list-type": keys === undefined ? kind : "map",
    ...(keys === undefined ? {} : { "x-kubernetes-list-map-keys": [...keys] }),
  });
}

/** What the API server checks of a list of type map. */
function uniqueBy(keys: readonly string[]) {
  return z.superRefine<readonly unknown[]>((entries, context) => {
    const seen = new Set<string>();
    for (const [index, entry] of entries.entries()) {
      const key = JSON.stringify(keys.map((name) => at(entry, [name])));
      if (seen.has(key)) {
        const message = `each ${keys.join(" and ")} once`;
        const path = [index, ...keys.slice(0, 1)];
        context.addIssue({ code: "custom", message, path, input: entry });
      }
      seen.add(key);
    }
  });
}

/** A map from short texts to texts; `each` says what each text must be, beside its length. */
export function textMap(
  description: string,
  max: number,
  valueLengthMax: number,
  each?: { readonly allowed: string; readonly pattern: RegExp },
) {
  const allowed = `at most ${max} entries of at most ${valueLengthMax} characters`;
  const error = each?.allowed ?? allowed;
  const bounded = z.string({ error }).max(valueLengthMax, { error });
  return z
    .record(z.string(), each === undefined ? bounded : bounded.regex(each.pattern, { error }), {
      error: allowed,
    })
    .refine((map) => Object.keys(map).length <= max, { error: allowed })
    .meta({ description, maxProperties: max });
}

/** A part that is Kubernetes' own, and checked by it when the pod is made; `known` fields by us. */
export function foreign<S extends z.ZodRawShape>(description: string, known: S) {
  return z
    .looseObject(known, { error: "an object" })
    .meta({ description, "x-kubernetes-preserve-unknown-fields": true });
}

/** Node names are pod names. */
export function nodeName(description: string): z.ZodString {
  return text({
    description,
    allowed: "the name of a pod: a-z, 0-9 and '-', beginning and ending with a letter or digit",
    lengthMin: 1,
    lengthMax: BOUNDS.nameLengthMax,
    pattern: /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/u,
  });
}

/** A name that can be part of a host name. */
export function label(description: string, lengthMax: number = BOUNDS.labelLengthMax): z.ZodString {
  return text({
    description,
    allowed: `1 to ${lengthMax} of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
    lengthMin: 1,
    lengthMax,
    pattern: /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/u,
  });
}

/** An object by its namespace and name. */
export function namespacedName(description: string): z.ZodString {
  return text({
    description,
    allowed: "a namespace and a name with '/' between them",
    lengthMin: 3,
    lengthMax: BOUNDS.namespacedNameLengthMax,
    pattern: /^[a-z0-9]([-a-z0-9]*[a-z0-9])?\/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/u,
  });
}

/** An identity that somebody else made. */
export function identity(description: string): z.ZodString {
  return text({
    description,
    allowed: `1 to ${BOUNDS.uidLengthMax} characters`,
    lengthMin: 1,
    lengthMax: BOUNDS.uidLengthMax,
  });
}
