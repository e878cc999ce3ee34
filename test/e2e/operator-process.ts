/**
 * The operator as a process of its own, against a fake API server, to be killed. One argument: JSON
 * with the server's `url`, the pods' `firstPort`, and `limits` that are others than usual.
 */
import { randomUUID } from "node:crypto";
import { KubeConfig } from "@kubernetes/client-node";
import type { KubeLimits } from "../../operator/kube/limits.ts";
import { Operator } from "../../operator/kube/operator.ts";
import { systemClock } from "../../operator/local/system-clock.ts";
import { CoordinationClient } from "../../operator/sidecar-client/coordination-client.ts";
import { openLogger } from "../../sidecar/observability/logger.ts";
import { fakeEndpoint } from "../support/fake-kubelet.ts";

interface Settings {
  readonly url: string;
  readonly firstPort: number;
  readonly limits: Partial<KubeLimits>;
}

const { url, firstPort, limits } = JSON.parse(process.argv[2] ?? "") as Settings;
const config = new KubeConfig();
config.loadFromClusterAndUser(
  { name: "fake", server: url, skipTLSVerify: true },
  { name: "tester", token: "secret" },
);
const stop = new AbortController();
process.once("SIGTERM", () => stop.abort(new Error("SIGTERM")));
const logger = openLogger("info", {});
const sidecars = new CoordinationClient({ clock: systemClock });
const operator = new Operator({
  config,
  clock: systemClock,
  logger,
  random: Math.random,
  sidecars,
  version: "test",
  identity: randomUUID(),
  namespaces: null,
  leaseNamespace: "system",
  leaseName: "resilver-operator",
  image: "resilver:test",
  healthPort: 0,
  metricsPort: 0,
  workers: 2,
  limits,
  endpoint: (_namespace, node) => fakeEndpoint(firstPort, node),
});
const end = await operator.run(stop.signal);
await sidecars.close();
await logger.close();
process.exitCode = end === "stopped" ? 0 : 1;
