/** The sidecars' settings as a ConfigMap. Names are those of the sidecar's configuration. */
import type { ReplicatedStore } from "../api/v1alpha1/replicated-store.ts";
import { parseQuantity } from "../api/v1alpha1/quantity.ts";
import { crcOf } from "../../sidecar/lib/crc.ts";
import { objectNames, ownedMetadata } from "./labels.ts";
import type { Manifest } from "./manifest.ts";
import { PORTS } from "./ports.ts";

/** Where the volumes are in the sidecar's container, and the directories on them. */
export const DIRECTORIES = Object.freeze({
  data: "/var/lib/resilver/data",
  wal: "/var/lib/resilver/wal",
  config: "/etc/resilver",
});

/** Name of the file in {@link DIRECTORIES}.config. */
export const CONFIG_FILE = "sidecar.json";

const GIBIBYTE = 2 ** 30;
/** More log than this helps no follower: a snapshot is quicker by then. */
const WAL_RETENTION_BYTES_MAX = 4 * GIBIBYTE;

/** What every sidecar of a store is set to; the rest is per pod, or default. */
export function sidecarSettings(
  store: ReplicatedStore,
  storeId: string,
): Readonly<Record<string, string | number>> {
  const { storage, recovery, reads } = store.spec;
  const walBytes = parseQuantity(storage.wal.size) ?? 0;
  return {
    storeId,
    publicAddress: `0.0.0.0:${PORTS.public}`,
    internalAddress: `0.0.0.0:${PORTS.internal}`,
    metricsAddress: `0.0.0.0:${PORTS.metrics}`,
    // A directory of its own on each volume: a file system's root holds lost+found.
    stateDir: `${DIRECTORIES.data}/state`,
    walDir: `${DIRECTORIES.wal}/log`,
    // The other half is for what recovery needs beyond the retention, and for preallocated files.
    walRetentionBytes: Math.min(WAL_RETENTION_BYTES_MAX, Math.floor(walBytes / 2)),
    // Only where it is asked for: a sidecar of an earlier version does not know it.
    ...(reads === "Leader" ? { reads: "leader" } : {}),
    snapshotBytesPerSecond: parseQuantity(recovery.bandwidthLimit ?? "") ?? 0,
  };
}

/** The ConfigMap that every pod mounts. */
export function configMap(store: ReplicatedStore, storeId: string): Manifest {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: ownedMetadata(store, objectNames(store.metadata.name).config),
    data: { [CONFIG_FILE]: configText(store, storeId) },
  };
}

/** Differs when the configuration does. */
export function configDigest(store: ReplicatedStore, storeId: string): string {
  const bytes = new TextEncoder().encode(configText(store, storeId));
  return crcOf(bytes).toString(16).padStart(8, "0");
}

function configText(store: ReplicatedStore, storeId: string): string {
  return `${JSON.stringify(sidecarSettings(store, storeId), null, 2)}\n`;
}
