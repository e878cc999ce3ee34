import { z } from "zod";
import type { NodeEndpoint } from "../controller/ports.ts";
import { PORTS_PER_REPLICA } from "./free-ports.ts";

/** Default first port. */
export const DEFAULT_PORT = 6_648;
/** Most replicas of a local store. */
export const REPLICAS_MAX = 9;
/** Most shards of a local store. */
export const SHARDS_MAX = 64;

/** Most namespaces of a local store. */
export const NAMESPACES_MAX = 16;
/** What a namespace may be called; sidecars take it for a directory's name. */
export const NAMESPACE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

const settingsSchema = z.strictObject({
  storeId: z.string().min(1),
  replicas: z.int().min(1).max(REPLICAS_MAX),
  /** Of each namespace. */
  shards: z.int().min(1).max(SHARDS_MAX),
  namespaces: z.array(z.string().regex(NAMESPACE)).min(1).max(NAMESPACES_MAX).default(["default"]),
  /** First port of the block. */
  port: z.int().min(1).max(65_535),
});

/**
 * What a local store was made with; kept in its directory, so that the next `up` is the same store.
 */
export type StoreSettings = z.infer<typeof settingsSchema>;

/** What addresses follow from. */
export type StoreAddressing = Pick<StoreSettings, "replicas" | "port">;

/** Addresses of one replica, all on the loopback interface. */
export interface ReplicaEndpoint extends NodeEndpoint {
  readonly metricsAddress: string;
}

/** Checks a settings file. Throws an Error that names file and field. */
export function parseSettings(value: unknown, path: string): StoreSettings {
  const parsed = settingsSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const field = issue?.path.join(".") || "(file)";
  throw new Error(`${path}: ${field}: ${issue?.message ?? "not a settings file"}`);
}

/** Names of the replicas: resilver-0, resilver-1, ... as a StatefulSet would name its pods. */
function replicaNames(replicas: number): readonly string[] {
  return Array.from({ length: replicas }, (_, ordinal) => `resilver-${ordinal}`);
}

/** Where each replica listens. */
export function replicaEndpoints(settings: StoreAddressing): readonly ReplicaEndpoint[] {
  return replicaNames(settings.replicas).map((node, ordinal) => {
    const first = settings.port + ordinal * PORTS_PER_REPLICA;
    return {
      node,
      publicAddress: `127.0.0.1:${first}`,
      internalAddress: `127.0.0.1:${first + 1}`,
      metricsAddress: `127.0.0.1:${first + 2}`,
    };
  });
}

/**
 * How many neighbouring ports a store takes: those of its replicas, then the coordinator's metrics.
 */
export function portsOf(replicas: number): number {
  return replicas * PORTS_PER_REPLICA + 1;
}

/** Where the coordinator's metrics are. */
export function coordinatorMetricsPort(settings: StoreAddressing): number {
  return settings.port + settings.replicas * PORTS_PER_REPLICA;
}
