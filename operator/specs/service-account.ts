/** The identity of a store's pods. It may do nothing: the sidecar never talks to the API server. */
import type { ReplicatedStore } from "../api/v1alpha1/replicated-store.ts";
import { objectNames, ownedMetadata } from "./labels.ts";
import type { Manifest } from "./manifest.ts";

/** See the file's header. */
export function serviceAccount(store: ReplicatedStore): Manifest {
  return {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: ownedMetadata(store, objectNames(store.metadata.name).serviceAccount),
    automountServiceAccountToken: false,
  };
}
