/** The container of a sidecar. */
import type { ReplicatedStore } from "../api/v1alpha1/replicated-store.ts";
import { DATA_VOLUMES, SIDECAR_CONTAINER } from "../api/v1alpha1/pod-template.ts";
import { CONFIG_FILE, DIRECTORIES } from "./config-map.ts";
import { PORTS } from "./ports.ts";
import { podHost } from "./services.ts";

/** User and group of the process, and of the files on its volumes. */
export const RUN_AS = 65_532;

/** Half an hour: a log of several GiB is read before the process answers. */
const STARTUP = { periodSeconds: 2, failureThreshold: 900, timeoutSeconds: 2 };
/** Rebuilding is no reason to restart a process: fails only when it no longer answers at all. */
const LIVENESS = { periodSeconds: 10, failureThreshold: 6, timeoutSeconds: 5 };
const READINESS = { periodSeconds: 2, failureThreshold: 2, timeoutSeconds: 2 };

function probe(path: string, pace: typeof STARTUP) {
  return { httpGet: { path, port: "metrics", scheme: "HTTP" }, ...pace };
}

/** The container without what says when it runs; `image` is used where the store names none. */
export function sidecarContainer(
  store: ReplicatedStore,
  image: string,
): Readonly<Record<string, unknown>> {
  const { metadata, spec } = store;
  // The kubelet puts the pod's name in.
  const host = podHost(metadata.name, metadata.namespace, "$(RESILVER_NODE)");
  return {
    name: SIDECAR_CONTAINER,
    image: spec.image ?? image,
    command: ["resilver-sidecar"],
    args: ["--config", `${DIRECTORIES.config}/${CONFIG_FILE}`],
    env: [
      { name: "RESILVER_NODE", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } },
      { name: "RESILVER_ADVERTISED_PUBLIC_ADDRESS", value: `${host}:${PORTS.public}` },
      { name: "RESILVER_ADVERTISED_INTERNAL_ADDRESS", value: `${host}:${PORTS.internal}` },
      { name: "NODE_ENV", value: "production" },
    ],
    ports: Object.entries(PORTS).map(([name, containerPort]) => ({
      name,
      containerPort,
      protocol: "TCP",
    })),
    resources: spec.resources,
    startupProbe: probe("/healthz", STARTUP),
    livenessProbe: probe("/healthz", LIVENESS),
    readinessProbe: probe("/readyz", READINESS),
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      runAsUser: RUN_AS,
      runAsGroup: RUN_AS,
    },
    volumeMounts: [
      { name: DATA_VOLUMES.data, mountPath: DIRECTORIES.data },
      { name: DATA_VOLUMES.wal, mountPath: DIRECTORIES.wal },
      { name: "config", mountPath: DIRECTORIES.config, readOnly: true },
      { name: "tmp", mountPath: "/tmp" },
    ],
  };
}
