/** Checks resources as they come from the API server, and fills in defaults. Pure. */
import type { z } from "zod";
import { replicaRecoverySchema, type ReplicaRecovery } from "./replica-recovery.ts";
import { replicatedStoreSchema, type ReplicatedStore } from "./replicated-store.ts";
import { storeShardSchema, type StoreShard } from "./store-shard.ts";

/** One thing wrong with a resource. */
export interface Refusal {
  /** Path such as `spec.namespaces[0].shards`. */
  readonly field: string;
  /** As JSON, shortened. */
  readonly value: string;
  readonly allowed: string;
}

/** A resource that cannot be used. The message has a line per refusal. */
export class ResourceInvalid extends Error {
  override readonly name = "ResourceInvalid";
  readonly refusals: readonly Refusal[];
  constructor(kind: string, name: string, refusals: readonly Refusal[]) {
    const lines = refusals.map(
      ({ field, value, allowed }) => `${field} is ${value}; allowed: ${allowed}`,
    );
    super(`${kind} ${name}: ${lines.join("\n")}`);
    this.refusals = refusals;
  }
}

/** Throws {@link ResourceInvalid}. */
export function parseReplicatedStore(value: unknown): ReplicatedStore {
  return parse(replicatedStoreSchema, "ReplicatedStore", value);
}

/** Throws {@link ResourceInvalid}. The record in it has rules of its own: see `parseRecord`. */
export function parseStoreShard(value: unknown): StoreShard {
  return parse(storeShardSchema, "StoreShard", value);
}

/** Throws {@link ResourceInvalid}. */
export function parseReplicaRecovery(value: unknown): ReplicaRecovery {
  return parse(replicaRecoverySchema, "ReplicaRecovery", value);
}

function parse<S extends z.ZodType>(schema: S, kind: string, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value, { reportInput: true });
  if (parsed.success) return parsed.data;
  const refusals = parsed.error.issues.map((issue) => refusal(issue, value));
  throw new ResourceInvalid(kind, nameOf(value), refusals);
}

function refusal(issue: z.core.$ZodIssue, resource: unknown): Refusal {
  // A rule sees the defaults too, and says which value it means.
  const value = issue.input ?? issue.path.reduce<unknown>((part, key) => at(part, key), resource);
  return { field: fieldPath(issue.path), value: show(value), allowed: issue.message };
}

function fieldPath(path: readonly PropertyKey[]): string {
  const text = path.map((key) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`));
  return text.join("").replace(/^\./u, "") || "(resource)";
}

function nameOf(value: unknown): string {
  const metadata: unknown = at(value, "metadata");
  const name = at(metadata, "name");
  return typeof name === "string" ? name : "(without a name)";
}

function at(value: unknown, key: PropertyKey): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
}

const SHOWN_CHARACTERS_MAX = 200;

function show(value: unknown): string {
  if (value === undefined) return "not set";
  return JSON.stringify(value).slice(0, SHOWN_CHARACTERS_MAX);
}
