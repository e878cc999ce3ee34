import type { CoreOptions } from "../../../sidecar/core/replica-state.ts";

/** Short times and small bounds, for cores without a driver. */
export const CORE_OPTIONS: CoreOptions = {
  heartbeatMs: 100,
  reconnectMinMs: 10,
  reconnectMaxMs: 100,
  snapshotRetryMinMs: 1_000,
  snapshotRetryMaxMs: 20_000,
  tailEntriesMax: 4,
  pendingReadsMax: 10,
};
