/**
 * The operator as a process, with the addresses of fake sidecars. Arguments: the port of the fake
 * sidecars, that of the health pages, that of the metrics.
 */
import { randomUUID } from "node:crypto";
import { openLogger } from "../../sidecar/observability/logger.ts";
import { loadKubeConfig } from "../../operator/kube/kubeconfig.ts";
import { Operator } from "../../operator/kube/operator.ts";
import { systemClock } from "../../operator/local/system-clock.ts";
import { CoordinationClient } from "../../operator/sidecar-client/coordination-client.ts";
import { scaleEndpoint } from "./address-map.ts";

const [sidecarPort, healthPort, metricsPort] = process.argv.slice(2).map(Number);
if (sidecarPort === undefined || healthPort === undefined || metricsPort === undefined) {
  throw new Error("arguments: SIDECAR_PORT HEALTH_PORT METRICS_PORT");
}
const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => stop.abort(new Error(signal)));
}
const logger = openLogger("warn", {});
const sidecars = new CoordinationClient({ clock: systemClock });
const operator = new Operator({
  config: loadKubeConfig({ env: process.env }),
  clock: systemClock,
  logger,
  random: Math.random,
  sidecars,
  version: "scale",
  identity: `scale_${randomUUID()}`,
  namespaces: null,
  leaseNamespace: "default",
  leaseName: "resilver-scale",
  image: "fake",
  healthPort,
  metricsPort,
  workers: 4,
  endpoint: (_namespace, node) => scaleEndpoint(node, sidecarPort),
});
const end = await operator.run(stop.signal);
await sidecars.close();
await logger.close();
process.exitCode = end === "stopped" ? 0 : 1;
