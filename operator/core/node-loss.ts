/**
 * Whether a pod's claims are given up because the machine that they lie on is lost. Pure.
 *
 * A volume on a machine's own disk binds its pod to that machine: when the machine is gone for good
 * the pod waits for ever. Nothing shows from outside that a machine which does not answer will not
 * come back, so that this takes somebody's word: its Node is deleted, or has the taint
 * `node.kubernetes.io/out-of-service` (Kubernetes' own "non-graceful node shutdown").
 */

/**
 * What is known of a machine by its Node object. `back`: it has the taint, and is ready all the
 * same.
 */
export type MachineState = "ready" | "not ready" | "back" | "out of service" | "gone";

/** A machine by its name, or by the value of a label that tells machines apart. */
export interface Machine {
  readonly name: string;
  readonly state: MachineState;
}

/** A claim, and where its volume can be reached from. */
export interface PlacedClaim {
  readonly name: string;
  readonly uid: string;
  /** Null: not bound to any, or not known. */
  readonly machines: readonly Machine[] | null;
}

/** A pod of the store. */
export interface PlacedPod {
  readonly name: string;
  /** On no machine, and never started there. A process of an earlier pod may run all the same. */
  readonly unplaced: boolean;
  /** The machine that it is on, when it ought to run there and does not; else null. */
  readonly stuckOn: Machine | null;
  /** This very pod is placed, and its sidecar says that it is ready. */
  readonly ready: boolean;
  readonly claims: readonly PlacedClaim[];
}

/** A shard, as far as its votes go. */
export interface VotesOfShard {
  readonly name: string;
  /** False: there is such a shard, and no more can be said of it. */
  readonly known: boolean;
  /** False: nothing was ever written to it. */
  readonly initialized: boolean;
  /** Why it is not served until a person acts; null: it is not stopped. */
  readonly stop: string | null;
  readonly ensemble: readonly string[];
  /** Its ensemble is being changed: two sets have a say. */
  readonly changing: boolean;
  readonly serving: boolean;
  /** Nodes that vote, and hold all that was acknowledged. */
  readonly holding: readonly string[];
  /** Nodes of which a process answers, on whatever machine. */
  readonly answering: readonly string[];
  /** Nodes with a replica, of the ensemble or beside it, that does not vote. */
  readonly behind: readonly string[];
}

/** All that is gone by. */
export interface NodeLossInput {
  readonly replace: boolean;
  readonly mode: "Automatic" | "Manual" | "Paused";
  readonly graceMs: number;
  /** Names of the pods that there ought to be. */
  readonly expected: readonly string[];
  readonly pods: readonly PlacedPod[];
  /** Names of claims of the store that are being deleted. */
  readonly terminating: readonly string[];
  /** For how long the machines of each pod were found to be lost, in ms. */
  readonly lostMs: ReadonlyMap<string, number>;
  readonly shards: readonly VotesOfShard[];
}

/** What to do, or what is waited for. Both name a pod and say why. */
export type NodeLossStep =
  | { readonly kind: "none" }
  | { readonly kind: "wait"; readonly pod: string; readonly why: string }
  | {
      readonly kind: "replace";
      readonly pod: string;
      readonly claims: readonly PlacedClaim[];
      readonly why: string;
      /** Pods whose votes this goes by. */
      readonly witnesses: readonly string[];
    };

/**
 * The one step that is due. Only one pod at a time, only while a majority of each of its shards
 * votes without it and holds what was acknowledged, never what could still run.
 */
export function nodeLossStep(input: NodeLossInput): NodeLossStep {
  const stranded = strandedPods(input.pods);
  const waits: NodeLossStep[] = [];
  for (const each of stranded) {
    const why = obstacle(input, stranded, each);
    if (why === null) {
      const { pod, claims, text } = each;
      const others = input.pods.filter(({ ready }) => ready).map(({ name }) => name);
      return { kind: "replace", pod: pod.name, claims, why: text, witnesses: others };
    }
    waits.push({ kind: "wait", pod: each.pod.name, why: `${each.text}; ${why}` });
  }
  return waits[0] ?? { kind: "none" };
}

/** A pod that waits for machines of which none is there. */
export interface Stranded {
  readonly pod: PlacedPod;
  /** Those of its claims that bind it so. */
  readonly claims: readonly PlacedClaim[];
  /** Somebody has said that all of its machines will not come back. */
  readonly lost: boolean;
  /** One of its machines is there again, and has its taint still. */
  readonly back: boolean;
  readonly text: string;
}

/** The pods that wait for machines, in their order. */
export function strandedPods(pods: readonly PlacedPod[]): readonly Stranded[] {
  return pods.flatMap((pod) => {
    const { stuckOn } = pod;
    if (stuckOn !== null && stuckOn.state !== "ready") {
      const text = `it is on ${shown([stuckOn])}`;
      return [{ pod, claims: [], lost: false, back: stuckOn.state === "back", text }];
    }
    return pod.unplaced ? strandedOn(pod) : [];
  });
}

function strandedOn(pod: PlacedPod): readonly Stranded[] {
  const bound = pod.claims.filter(({ machines }) => {
    return (machines?.length ?? 0) > 0 && machines?.every(({ state }) => state !== "ready");
  });
  if (bound.length === 0) return [];
  const claims = bound.filter(({ machines }) => machines?.every(isLost) === true);
  const lost = claims.length === bound.length;
  const machines = bound.flatMap((claim) => claim.machines ?? []);
  const back = machines.some(({ state }) => state === "back");
  return [{ pod, claims, lost, back, text: `its volumes are on ${shown(machines)}` }];
}

/** Somebody has said that it will not come back. */
function isLost({ state }: Machine): boolean {
  return state === "gone" || state === "out of service";
}

function shown(machines: readonly Machine[]): string {
  return [...new Set(machines.map(({ name, state }) => `${name} (${state})`))].join(", ");
}

/** Why not now, and what can be done; null: nothing speaks against it. */
function obstacle(
  input: NodeLossInput,
  stranded: readonly Stranded[],
  { pod, claims, lost, back }: Stranded,
): string | null {
  if (back) {
    return "take the taint node.kubernetes.io/out-of-service from it, and the pod starts again";
  }
  if (pod.stuckOn !== null && isLost(pod.stuckOn)) {
    return (
      "the cluster removes the pod by itself; if it stays, and the machine is switched off, " +
      `\`kubectl delete pod ${pod.name} --force\` in its namespace`
    );
  }
  if (!lost) {
    return (
      "when it will not come back, switch it off, then delete the Node, or taint it " +
      "node.kubernetes.io/out-of-service"
    );
  }
  const needed = othersObstacle(input, stranded, pod) ?? shardObstacle(input, pod.name);
  if (needed !== null) {
    // Where nothing happens by itself people act by hand: they have to know what is at stake.
    const byItself = input.replace && input.mode === "Automatic";
    return byItself ? needed : `keep its claims, they may be needed: ${needed}`;
  }
  const unstarted = unstartedShard(input.shards, pod.name);
  if (unstarted !== undefined) {
    return `${unstarted.name} was never started, which takes all pods; delete the claims and the pod by hand`;
  }
  if (!input.replace) {
    return "to have the claims replaced set recovery.onNodeLoss to Replace, or delete them and the pod";
  }
  if (input.mode !== "Automatic") {
    return `recovery.mode is ${input.mode}; set it to Automatic to have the claims replaced`;
  }
  const leftMs = input.graceMs - (input.lostMs.get(pod.name) ?? 0);
  if (leftMs > 0) return `the claims are replaced when it is still so in ${wholeSeconds(leftMs)}`;
  return claims.some(({ uid }) => uid === "") ? "a claim has no uid yet; looks again" : null;
}

/** One pod at a time: all that do not wait for machines of their own have to be whole. */
function othersObstacle(
  { expected, pods, terminating }: NodeLossInput,
  stranded: readonly Stranded[],
  pod: PlacedPod,
): string | null {
  const [going] = terminating;
  if (going !== undefined) return `${going} is being deleted; goes on with what comes after it`;
  const missing = expected.find((name) => !pods.some((other) => other.name === name));
  if (missing !== undefined) return `there is no pod ${missing} now; goes on when it is back`;
  const unready = pods.find(
    (other) =>
      other.name !== pod.name && !other.ready && !stranded.some((each) => each.pod === other),
  );
  if (unready === undefined) return null;
  return `${unready.name} is not ready; goes on when it votes again`;
}

/**
 * What of the shards speaks against a loss of what the pod held; null: nothing. Counted are those
 * whose present pods are ready: a process of an earlier pod, on a machine that is said to be lost,
 * may vote all the same, and be ended at any moment.
 */
function shardObstacle({ shards, pods }: NodeLossInput, pod: string): string | null {
  const ready = pods.filter((other) => other.ready && other.name !== pod);
  const witnesses = new Set(ready.map(({ name }) => name));
  if (shards.length === 0) return "nothing is known of its shards yet; looks again";
  for (const shard of shards) {
    const { name, ensemble, holding } = shard;
    const unknown = unknownObstacle(shard);
    if (unknown !== null) return unknown;
    // Nothing of it can be lost.
    if (!shard.initialized) continue;
    if (shard.answering.includes(pod)) {
      return `a process of ${pod} still answers, so that its machine runs; switch that off`;
    }
    const behind = shard.behind.find((node) => node !== pod && shard.answering.includes(node));
    if (behind !== undefined) return `${behind} is being rebuilt; goes on when it votes`;
    if (!ensemble.includes(pod)) continue;
    const left = ensemble.filter((node) => witnesses.has(node) && holding.includes(node)).length;
    if (!shard.serving || left * 2 <= ensemble.length) {
      return (
        `without it ${left} of ${ensemble.length} replicas of ${name} vote and hold all that was ` +
        "acknowledged, a majority is needed; goes on when the others are back"
      );
    }
  }
  return null;
}

/** It waits for all pods, and this one waits for its machine: only a person gets them going. */
function unstartedShard(shards: readonly VotesOfShard[], pod: string): VotesOfShard | undefined {
  return shards.find(({ initialized, ensemble }) => !initialized && ensemble.includes(pod));
}

function unknownObstacle({ name, known, stop, changing }: VotesOfShard): string | null {
  if (!known) return `nothing is known of ${name}; looks again`;
  if (stop !== null) return `${name} is stopped: ${stop}`;
  return changing ? `the ensemble of ${name} is being changed; goes on after that` : null;
}

function wholeSeconds(ms: number): string {
  return `${Math.ceil(ms / 1_000)} s`;
}
