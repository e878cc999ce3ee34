/** What can be told of a store's pods from their objects. Pure. */
import { SIDECAR_CONTAINER } from "../api/v1alpha1/pod-template.ts";
import type { KubeObject } from "./resources.ts";

/** A pod, as far as the operator cares. */
export interface PodFacts {
  readonly name: string;
  readonly uid: string;
  /** Address inside the cluster; "" until it has one. */
  readonly ip: string;
  /** The machine it is on; "" while it is on none. */
  readonly nodeName: string;
  readonly createdAt: string;
  readonly terminating: boolean;
  readonly ready: boolean;
  /** The value of the readiness gate; null: never set. */
  readonly inSync: boolean | null;
  /** The sidecar of this very pod said at the kubelet's last probe that all its replicas vote. */
  readonly sidecarReady: boolean;
  /** Which pod template it was made from. */
  readonly revision: string;
  /** Why a container of it does not start (ImagePullBackOff, say); empty: none waits for that. */
  readonly waiting: string;
  readonly sidecar: "unknown" | "never started" | "running" | "ended for good" | "between starts";
}

/** Reads the parts of a pod; what is missing counts as not there yet. */
export function podFacts(pod: KubeObject, inSyncGate: string): PodFacts {
  const { metadata } = pod;
  const conditions = list(at(pod, "status", "conditions"));
  const condition = (type: string): unknown =>
    at(
      conditions.find((entry) => at(entry, "type") === type),
      "status",
    );
  const inSync = condition(inSyncGate);
  return {
    name: metadata.name,
    uid: metadata.uid ?? "",
    ip: text(at(pod, "status", "podIP")),
    nodeName: text(at(pod, "spec", "nodeName")),
    createdAt: metadata.creationTimestamp ?? "",
    terminating: metadata.deletionTimestamp !== undefined,
    ready: condition("Ready") === "True",
    inSync: inSync === undefined ? null : inSync === "True",
    revision: metadata.labels?.["controller-revision-hash"] ?? "",
    waiting: waitingReason(pod),
    sidecarReady: at(sidecarStatus(pod), "ready") === true,
    sidecar: sidecarState(pod),
  };
}

function containerStatuses(pod: KubeObject): readonly unknown[] {
  return [
    ...list(at(pod, "status", "containerStatuses")),
    ...list(at(pod, "status", "initContainerStatuses")),
  ];
}

/** Beside people's containers the sidecar is an init container. */
function sidecarStatus(pod: KubeObject): unknown {
  return containerStatuses(pod).find((entry) => at(entry, "name") === SIDECAR_CONTAINER);
}

/** What a pod that is only being started says as well. */
const STARTS: ReadonlySet<string> = new Set(["", "ContainerCreating", "PodInitializing"]);

function waitingReason(pod: KubeObject): string {
  const reasons = containerStatuses(pod).map((entry) =>
    text(at(entry, "state", "waiting", "reason")),
  );
  return reasons.find((reason) => !STARTS.has(reason)) ?? "";
}

function sidecarState(pod: KubeObject): PodFacts["sidecar"] {
  const phase = at(pod, "status", "phase");
  if (phase === "Succeeded" || phase === "Failed") return "ended for good";
  const status = sidecarStatus(pod);
  if (at(status, "state", "running") !== undefined) return "running";
  // On a machine that has not reported yet it may run already.
  if (status === undefined && text(at(pod, "spec", "nodeName")) !== "") return "unknown";
  const ran =
    at(status, "state", "terminated") !== undefined ||
    at(status, "lastState", "terminated") !== undefined ||
    Number(at(status, "restartCount") ?? 0) > 0;
  return ran ? "between starts" : "never started";
}

/** A claim, as far as the operator cares. */
export interface ClaimFacts {
  readonly name: string;
  readonly uid: string;
  readonly createdAt: string;
  readonly terminating: boolean;
}

/** Reads the parts of a claim. */
export function claimFacts({ metadata }: KubeObject): ClaimFacts {
  return {
    name: metadata.name,
    uid: metadata.uid ?? "",
    createdAt: metadata.creationTimestamp ?? "",
    terminating: metadata.deletionTimestamp !== undefined,
  };
}

/**
 * The uid of the claim that a running pod's data is on; null when that cannot be said. A pod that
 * is older than the claim was started on another one: its finalizer was taken away, the claim
 * deleted and made again, while the pod kept the old volume.
 */
export function claimUidUnder(pod: PodFacts, claim: ClaimFacts | null): string | null {
  if (claim === null || claim.terminating || claim.uid === "") return null;
  const [podMs, claimMs] = [Date.parse(pod.createdAt), Date.parse(claim.createdAt)];
  if (Number.isNaN(podMs) || Number.isNaN(claimMs)) return null;
  // Times have whole seconds: a claim of the same second is the one that was made for the pod.
  return claimMs <= podMs || pod.sidecar === "never started" ? claim.uid : null;
}

function at(value: unknown, ...keys: readonly string[]): unknown {
  return keys.reduce<unknown>(
    (part, key) => (typeof part === "object" && part !== null ? Reflect.get(part, key) : undefined),
    value,
  );
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
