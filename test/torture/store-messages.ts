import type { CoordinatorEvent } from "../../operator/core/events.ts";
import type { ReplicaEndpoint } from "../../operator/local/settings.ts";
import type { StoreStatus } from "../../operator/local/store-status.ts";

/** What the process of a store is started with. */
export interface StoreProcessOptions {
  readonly dir: string;
  readonly replicas: number;
  /** First port of the store. */
  readonly port: number;
  /** Where its replicas are reached: behind proxies. */
  readonly reachedAt: readonly ReplicaEndpoint[];
}

/** What it tells of itself. */
export type StoreProcessMessage =
  /** It takes commands. */
  | { readonly kind: "started" }
  /** After each change. */
  | { readonly kind: "status"; readonly status: StoreStatus }
  | { readonly kind: "event"; readonly event: CoordinatorEvent["kind"] };
