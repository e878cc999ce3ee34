/**
 * A process with the sidecars of all fake pods: it sees which pods run, on which claims, and
 * answers for them. Arguments: the port of the sidecars, and one for `GET /calls`.
 */
import { createServer } from "node:http";
import { ApiClient } from "../../operator/kube/api-client.ts";
import { ApiTransport } from "../../operator/kube/api-transport.ts";
import { SHARED_TIMINGS } from "../../operator/controller/timings.ts";
import { loadKubeConfig } from "../../operator/kube/kubeconfig.ts";
import { ListWatch } from "../../operator/kube/list-watch.ts";
import { KINDS, type KubeObject } from "../../operator/kube/resources.ts";
import { systemClock } from "../../operator/local/system-clock.ts";
import { selectorText } from "../../operator/specs/labels.ts";
import { claimName } from "../../operator/specs/stateful-set.ts";
import { SILENT_LOGGER } from "../../sidecar/lib/ports/logger.ts";
import { BEATS, FakeSidecars } from "./fake-sidecars.ts";

const [port, pagePort] = process.argv.slice(2).map(Number);
if (port === undefined || pagePort === undefined) throw new Error("arguments: PORT PAGE_PORT");

const config = loadKubeConfig({ env: process.env });
const transport = new ApiTransport({ config, clock: systemClock, userAgent: "resilver-scale" });
const client = new ApiClient(transport, "resilver-scale");
const sidecars = new FakeSidecars();
const labelSelector = selectorText({ "app.kubernetes.io/name": "resilver" });
const follow = (kind: "pod" | "claim", changed: (object: KubeObject) => void): ListWatch =>
  new ListWatch({
    client,
    kind: KINDS[kind],
    scope: { namespace: null, labelSelector },
    clock: systemClock,
    random: Math.random,
    logger: SILENT_LOGGER,
    changed: ({ object, previous }) => {
      const told = object ?? previous;
      if (told !== null) changed(told);
    },
  });
const pods = follow("pod", ({ metadata }) => look(metadata.namespace ?? "", metadata.name));
const claims = follow("claim", ({ metadata }) =>
  look(metadata.namespace ?? "", metadata.name.replace(/^(data|wal)-/u, "")),
);

function look(namespace: string, name: string): void {
  const pod = pods.get(namespace, name);
  const claim = claims.get(namespace, claimName("data", name));
  const uid = pod?.metadata.uid ?? null;
  const running = sidecars.running(name);
  if (running !== null && running !== uid) sidecars.stopped(name);
  const { phase } = (pod?.["status"] ?? {}) as { readonly phase?: string };
  if (uid === null || running === uid || phase !== "Running") return;
  if (claim?.metadata.uid === undefined || claim.metadata.deletionTimestamp !== undefined) return;
  sidecars.started(name, uid, claim.metadata.uid);
}

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => stop.abort(new Error(signal)));
}
await sidecars.listen(port);
const page = createServer((_request, response) => {
  response.end(JSON.stringify({ ...Object.fromEntries(sidecars.calls), open: sidecars.watched() }));
});
page.listen(pagePort, "127.0.0.1");
// What the operator asks of each watch.
const beating = setInterval(() => sidecars.beat(), SHARED_TIMINGS.heartbeatMs / BEATS);
await Promise.all([pods.run(stop.signal), claims.run(stop.signal)]);
clearInterval(beating);
page.close();
sidecars.close();
transport.close();
