/**
 * What an API server does with an object of a custom resource, from the CRD's file alone: prunes,
 * fills in defaults, checks the structure, runs the rules. Written without the code that made the
 * file, so that the two can disagree.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import {
  celFunc,
  type CelInput,
  celMethod,
  CelScalar,
  isCelError,
  listType,
  run,
} from "@bufbuild/cel";
import { parse } from "yaml";

interface Rule {
  readonly rule: string;
  readonly message: string;
  readonly messageExpression?: string;
  readonly fieldPath?: string;
}

/** A node of a structural schema. */
export interface Schema {
  readonly type: "object" | "array" | "string" | "integer" | "boolean";
  readonly description?: string;
  readonly default?: unknown;
  readonly nullable?: boolean;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxProperties?: number;
  readonly "x-kubernetes-preserve-unknown-fields"?: boolean;
  readonly "x-kubernetes-list-type"?: "map" | "set" | "atomic";
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
  readonly "x-kubernetes-validations"?: readonly Rule[];
}

/** The parts of a CRD that tests look at. */
export interface Crd {
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly names: Readonly<Record<string, unknown>>;
    readonly versions: readonly {
      readonly schema: { readonly openAPIV3Schema: Schema };
      readonly subresources: Readonly<Record<string, unknown>>;
      readonly additionalPrinterColumns: readonly { name: string; jsonPath: string }[];
    }[];
  };
}

type Json = Record<string, unknown>;

/** Reads a file of `crds` by the plural name of its resource. */
export function readCrd(plural: string): Crd {
  const path = fileURLToPath(new URL(`../../crds/resilver.io_${plural}.yaml`, import.meta.url));
  return parse(readFileSync(path, "utf8")) as Crd;
}

/** The object as it would be stored, or what the API server would say. */
export interface Admission {
  readonly stored: Json;
  readonly errors: readonly string[];
}

/**
 * What the API server would say about a value that a schema gives by default: it is judged as it
 * stands, before any default below it is filled in.
 */
export function defaultErrors(schema: Schema): readonly string[] {
  if (schema.default === undefined) return [];
  const errors: string[] = [];
  checkNode(schema, schema.default, "default", errors);
  if (errors.length === 0) checkRules(schema, schema.default, undefined, "default", errors);
  return errors;
}

/** Creates (`old` absent) or updates an object. */
export function admit(crd: Crd, object: unknown, old?: unknown): Admission {
  const schema = crd.spec.versions[0]?.schema.openAPIV3Schema;
  if (schema === undefined) throw new Error(`${crd.metadata.name} has no version`);
  const stored = structuredClone(object) as Json;
  fillIn(schema, stored, true);
  const errors: string[] = [];
  checkNode(schema, stored, "", errors);
  // As the API server does: rules run only over what is sound in structure.
  if (errors.length === 0) checkRules(schema, stored, old, "", errors);
  return { stored, errors };
}

/** Prunes unknown fields and adds defaults, in place. The root's metadata stays as it is. */
function fillIn(schema: Schema, value: unknown, root = false): void {
  if (Array.isArray(value)) {
    if (schema.items !== undefined) for (const item of value) fillIn(schema.items, item);
    return;
  }
  if (typeof value !== "object" || value === null) return;
  const object = value as Json;
  prune(schema, object);
  const { properties = {}, additionalProperties } = schema;
  for (const [key, child] of Object.entries(properties)) {
    if (object[key] === undefined && child.default !== undefined) {
      object[key] = structuredClone(child.default);
    }
    if (!(root && key === "metadata")) fillIn(child, object[key]);
  }
  if (additionalProperties !== undefined) {
    for (const entry of Object.values(object)) fillIn(additionalProperties, entry);
  }
}

function prune(schema: Schema, object: Json): void {
  if (schema["x-kubernetes-preserve-unknown-fields"] === true) return;
  for (const key of Object.keys(object)) {
    const known = schema.properties?.[key] ?? schema.additionalProperties;
    if (known === undefined) delete object[key];
  }
}

function checkNode(schema: Schema, value: unknown, path: string, errors: string[]): void {
  const bad = (allowed: string): void => {
    errors.push(`${path}: ${JSON.stringify(value)}: ${allowed}`);
  };
  if (value === null && schema.nullable === true) return;
  if (!hasType(schema.type, value)) {
    bad(`must be ${schema.type}`);
    return;
  }
  if (typeof value === "string") checkString(schema, value, bad);
  if (typeof value === "number") {
    if (value < (schema.minimum ?? -Infinity)) bad(`must be at least ${schema.minimum}`);
    if (value > (schema.maximum ?? Infinity)) bad(`must be at most ${schema.maximum}`);
  }
  if (Array.isArray(value)) checkList(schema, value, path, bad, errors);
  else if (typeof value === "object") checkObject(schema, value as Json, path, bad, errors);
}

function hasType(type: Schema["type"], value: unknown): boolean {
  switch (type) {
    case "integer":
      return Number.isInteger(value);
    case "array":
      return Array.isArray(value);
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value);
    default:
      return typeof value === type;
  }
}

function checkString(schema: Schema, value: string, bad: (allowed: string) => void): void {
  if (schema.enum !== undefined && !schema.enum.includes(value)) bad(schema.enum.join(", "));
  if (value.length < (schema.minLength ?? 0)) bad(`at least ${schema.minLength} characters`);
  if (value.length > (schema.maxLength ?? Infinity)) bad(`at most ${schema.maxLength} characters`);
  if (schema.pattern !== undefined && !new RegExp(schema.pattern, "u").test(value)) {
    bad(`must match ${schema.pattern}`);
  }
}

function checkList(
  schema: Schema,
  list: readonly unknown[],
  path: string,
  bad: (allowed: string) => void,
  errors: string[],
): void {
  if (list.length < (schema.minItems ?? 0)) bad(`at least ${schema.minItems} entries`);
  if (list.length > (schema.maxItems ?? Infinity)) bad(`at most ${schema.maxItems} entries`);
  const keys = schema["x-kubernetes-list-map-keys"] ?? [];
  const seen = list.map((item) => keyOf(item, keys));
  if (keys.length > 0 && new Set(seen).size !== seen.length) bad(`each ${keys.join()} once`);
  for (const [index, item] of list.entries()) {
    if (schema.items !== undefined) checkNode(schema.items, item, `${path}[${index}]`, errors);
  }
}

function keyOf(item: unknown, keys: readonly string[]): string {
  return JSON.stringify(keys.map((key) => (item as Json)[key]));
}

function checkObject(
  schema: Schema,
  object: Json,
  path: string,
  bad: (allowed: string) => void,
  errors: string[],
): void {
  if (Object.keys(object).length > (schema.maxProperties ?? Infinity)) {
    bad(`at most ${schema.maxProperties} entries`);
  }
  for (const name of schema.required ?? []) {
    if (object[name] === undefined) errors.push(`${path}.${name}: must be set`);
  }
  for (const [key, value] of Object.entries(object)) {
    const child = schema.properties?.[key] ?? schema.additionalProperties;
    if (child !== undefined) checkNode(child, value, `${path}.${key}`, errors);
  }
}

function checkRules(
  schema: Schema,
  value: unknown,
  old: unknown,
  path: string,
  errors: string[],
): void {
  if (value === null || value === undefined) return;
  for (const rule of schema["x-kubernetes-validations"] ?? []) {
    if (rule.rule.includes("oldSelf") && old === undefined) continue;
    const bindings = { self: toCel(value), ...(old === undefined ? {} : { oldSelf: toCel(old) }) };
    if (evaluate(rule.rule, bindings) === true) continue;
    const message = evaluate(rule.messageExpression ?? JSON.stringify(rule.message), bindings);
    errors.push(`${path}${rule.fieldPath ?? ""}: ${String(message)}`);
  }
  if (Array.isArray(value)) {
    checkItemRules(schema, value, Array.isArray(old) ? old : [], path, errors);
  } else if (typeof value === "object") {
    for (const [key, child] of Object.entries(value)) {
      const childSchema = schema.properties?.[key] ?? schema.additionalProperties;
      const oldChild = typeof old === "object" && old !== null ? (old as Json)[key] : undefined;
      if (childSchema !== undefined) {
        checkRules(childSchema, child, oldChild, `${path}.${key}`, errors);
      }
    }
  }
}

/** An item has an old self only where its list has keys. */
function checkItemRules(
  schema: Schema,
  list: readonly unknown[],
  old: readonly unknown[],
  path: string,
  errors: string[],
): void {
  const keys = schema["x-kubernetes-list-map-keys"];
  for (const [index, item] of list.entries()) {
    if (schema.items === undefined) continue;
    const before =
      keys === undefined
        ? undefined
        : old.find((other) => keyOf(other, keys) === keyOf(item, keys));
    checkRules(schema.items, item, before, `${path}[${index}]`, errors);
  }
}

/** Whole numbers are int in CEL, not double. */
function toCel(value: unknown): CelInput {
  if (typeof value === "number") return BigInt(value);
  if (Array.isArray(value)) return value.map(toCel);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, child]) => [key, toCel(child)]));
  }
  return value as CelInput;
}

const UNITS: Readonly<Record<string, number>> = { k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15 };

function quantity(text: string): number {
  const [, digits = "", unit = "", binary = ""] = /^(\d+)([kMGTPK]?)(i?)$/u.exec(text) ?? [];
  if (digits === "") throw new Error(`${text} is no quantity`);
  const exponent = "kMGTP".indexOf(unit === "K" ? "k" : unit) + 1;
  return Number(digits) * (binary === "" ? (UNITS[unit] ?? 1) : 1024 ** exponent);
}

/** The functions beyond standard CEL that Kubernetes has and our rules use. */
const KUBERNETES = [
  celFunc("quantity", [CelScalar.STRING], CelScalar.DOUBLE, quantity),
  celMethod("compareTo", CelScalar.DOUBLE, [CelScalar.DOUBLE], CelScalar.INT, function (other) {
    return BigInt(Math.sign(this - other));
  }),
  celMethod("sum", listType(CelScalar.DYN), [], CelScalar.INT, function () {
    return [...this].reduce<bigint>((sum, item) => sum + (item as bigint), 0n);
  }),
  celMethod(
    "format",
    CelScalar.STRING,
    [listType(CelScalar.DYN)],
    CelScalar.STRING,
    function (given) {
      const values = [...given] as bigint[];
      return this.replaceAll("%d", () => (values.shift() ?? "").toString());
    },
  ),
];

function evaluate(expression: string, bindings: Record<string, CelInput>): unknown {
  const result = run(expression, bindings, { funcs: KUBERNETES });
  if (isCelError(result)) throw new Error(`${expression}: ${result.message}`);
  return result;
}
