/** What people see of a store, from its shards and pods. Pure. */
import type { NewCondition } from "../api/v1alpha1/conditions.ts";
import type { StoreShardStatus } from "../api/v1alpha1/store-shard.ts";
import { INVALID_TERM, LOG_START } from "../../sidecar/protocol/entry.ts";
import { fewerCopies, type ReplicaView, type ShardView } from "../core/status.ts";
import { distrustsRecord, stopPage } from "../core/stops.ts";
import { shardKeyText } from "../core/record.ts";

/** A pod, as far as the status cares. */
export interface StatusPod {
  readonly name: string;
  readonly ready: boolean;
  /** Why it does not start, in the platform's words; empty or absent: nothing is said. */
  readonly waiting?: string;
}

/** Why the store's objects are not what they ought to be. */
export interface StatusTrouble {
  /** One word. */
  readonly reason: string;
  readonly message: string;
}

/** What the status is concluded from. */
export interface StatusInput {
  readonly views: readonly ShardView[];
  /** Those of them that were not only just made: to add a shard takes none away. */
  readonly settled: readonly ShardView[];
  readonly pods: readonly StatusPod[];
  readonly expectedPods: number;
  /** What the rollout waits for or does; null: nothing. */
  readonly rollout: string | null;
  /** Which pod waits for a machine that is lost, and what for; null: none. */
  readonly nodeLoss: string | null;
  /** What keeps the store's objects from being brought about; null: nothing. */
  readonly trouble: StatusTrouble | null;
}

/** The columns and conditions of a store. */
export interface StoreSummary {
  readonly ready: string;
  readonly quorate: string;
  readonly rebuilding: number;
  readonly leaders: string;
  readonly state: string;
  readonly conditions: readonly NewCondition[];
}

/** True for a replica that is being rebuilt, or has to be. */
export function isRebuilding({ role, phase }: ReplicaView): boolean {
  return role === "wiped" || role === "learner" || phase.startsWith("Deferred");
}

/** Nodes whose replica is being rebuilt now: none that waits for a gate, a pod or a person. */
function nodesBeingRebuilt({ stop, replicas }: ShardView): readonly string[] {
  if (stop !== null) return [];
  const waits = ({ phase, reach, fault }: ReplicaView): boolean =>
    phase.startsWith("Deferred") || reach !== "up" || fault !== "";
  return replicas
    .filter((replica) => isRebuilding(replica) && !waits(replica))
    .map(({ node }) => node);
}

/** By the record, until another is elected: not one whose data is gone. Null: nobody. */
function standingLeader({ leader, replicas }: ShardView): string | null {
  const isWiped = replicas.some(({ node, role }) => node === leader && role === "wiped");
  return isWiped ? null : leader;
}

/** True once the shard had a leader: before that, nothing was ever written to it. */
export function hasServed({ initialized, commitFloor }: ShardView): boolean {
  return initialized && commitFloor.term !== INVALID_TERM;
}

/**
 * True when all of a pod's replicas vote; false while no shard ever served. A namespace that is
 * added to a store that serves does not take its pods away, from its bootstrap to its first leader
 * neither: nothing was ever written to it. Null while a record is not to be believed: sidecars
 * serve on by what they were told, and nothing else says which pods those are.
 */
export function isInSync(views: readonly ShardView[], pod: string): boolean | null {
  const believed = views.filter(({ stop }) => !distrustsRecord(stop));
  const started = believed.filter(hasServed);
  const vote = started.every(({ ensemble, replicas }) => {
    if (!ensemble.includes(pod)) return true;
    return replicas.some(({ node, voting }) => node === pod && voting);
  });
  if (vote && believed.length < views.length) return null;
  return vote && started.length > 0;
}

/** Pods that have a replica to be rebuilt, now or once it may. */
export function rebuildingPods(views: readonly ShardView[]): readonly string[] {
  const nodes = views.flatMap(({ replicas }) => replicas.filter(isRebuilding));
  return [...new Set(nodes.map(({ node }) => node))].toSorted();
}

/** Puts everything together for people. */
export function storeSummary(input: StatusInput): StoreSummary {
  const { views, pods, expectedPods } = input;
  const serving = views.filter((view) => view.serving).length;
  const leaders = [...new Set(views.flatMap((view) => standingLeader(view) ?? []))].toSorted();
  const less = degraded(input);
  const conditions = [available(input, less), progressing(input), less];
  const state = conditions[0]?.status === true ? "Available" : (conditions[0]?.reason ?? "");
  return {
    ready: `${pods.filter(({ ready }) => ready).length}/${expectedPods}`,
    quorate: `${serving}/${views.length}`,
    rebuilding: new Set(views.flatMap(nodesBeingRebuilt)).size,
    leaders: leaders.join(","),
    state: state === "Available" && less.status === true ? "Degraded" : state,
    conditions,
  };
}

/** All of a store that was only just made. */
function settledOf({ views, settled }: StatusInput): readonly ShardView[] {
  return settled.length === 0 ? views : settled;
}

/** Its message is what `kubectl get rstore -o wide` shows, so it says what is degraded, too. */
function available(input: StatusInput, less: NewCondition): NewCondition {
  const views = settledOf(input);
  const type = "Available";
  const stopped = views.find(({ stop }) => stop !== null);
  if (stopped?.stop) {
    const { reason, message } = stopped.stop;
    const told = `${shardKeyText(stopped)}: ${message}; see ${stopPage(reason)}`;
    return { type, status: false, reason, message: told };
  }
  const down = views.filter(({ serving }) => !serving);
  if (views.length === 0) {
    return { type, status: "Unknown", reason: "Starting", message: "nothing is known yet" };
  }
  if (down.length === 0) {
    const but = less.status === true ? `, but ${less.message}` : "";
    const message = `all shards serve${besides(input, views)}${but}`;
    return { type, status: true, reason: "AllShardsServe", message };
  }
  const [first] = down;
  const why = first?.conditions.find((condition) => condition.type === type);
  const names = down.map(shardKeyText).join(", ");
  const message = `not serving: ${names}; ${why?.message ?? ""}`;
  return { type, status: false, reason: why?.reason ?? "NoLeader", message };
}

/** Which shards are not counted, if any. */
function besides({ views }: StatusInput, counted: readonly ShardView[]): string {
  const names = new Set(counted.map(shardKeyText));
  const made = views.map(shardKeyText).filter((name) => !names.has(name));
  return made.length === 0 ? "" : ` but those that are being made, ${made.join(", ")}`;
}

function progressing(input: StatusInput): NewCondition {
  const { views, pods, expectedPods, rollout, trouble } = input;
  const type = "Progressing";
  if (trouble !== null) return { type, status: false, ...trouble };
  if (pods.length !== expectedPods) {
    const message = `${pods.length} of ${expectedPods} pods are there`;
    return { type, status: true, reason: "WaitingForPods", message };
  }
  if (rollout !== null) return { type, status: true, reason: "RollingOut", message: rollout };
  const stuck = pods.flatMap(({ name, waiting = "" }) => {
    return waiting === "" ? [] : [`${name} does not start: ${waiting}`];
  });
  if (stuck.length > 0) {
    return { type, status: true, reason: "WaitingForPods", message: stuck.join("; ") };
  }
  const told = views.flatMap((view) =>
    view.conditions
      .filter((condition) => condition.type === type && condition.reason !== "Idle")
      .map((condition) => ({ shard: shardKeyText(view), ...condition })),
  );
  const first = told.find(({ status }) => status) ?? told[0];
  if (first === undefined) {
    return { type, status: false, reason: "Idle", message: "everything is as it ought to be" };
  }
  const { shard, status, reason, message } = first;
  return { type, status, reason: capitalized(reason), message: `${shard}: ${message}` };
}

function degraded(input: StatusInput): NewCondition {
  const { nodeLoss, trouble } = input;
  const views = settledOf(input);
  const type = "Degraded";
  if (nodeLoss !== null) return { type, status: true, reason: "NodeLost", message: nodeLoss };
  const behind = views.flatMap(({ ensemble, replicas }) =>
    replicas.filter(({ node, voting }) => ensemble.includes(node) && !voting),
  );
  if (behind.length === 0) {
    const [few, ...others] = views.flatMap((view) => {
      const lacking = fewerCopies(view);
      return lacking === null ? [] : [`${shardKeyText(view)} has ${lacking}`];
    });
    if (few !== undefined) {
      const more = others.length === 0 ? "" : `; too few as well: ${others.length} more`;
      return { type, status: true, reason: "FewerCopies", message: `${few}${more}` };
    }
    if (trouble !== null) return { type, status: true, ...trouble };
    return { type, status: false, reason: "AllVoting", message: "all replicas vote" };
  }
  const nodes = [...new Set(behind.map(({ node }) => node))].toSorted();
  const told = nodes.map((node) => `${node} (${replicaWord(behind.find((r) => r.node === node))})`);
  return {
    type,
    status: true,
    reason: "ReplicasNotVoting",
    message: `not voting: ${told.join(", ")}; \`kubectl get rrec\` shows what is being rebuilt`,
  };
}

function replicaWord(replica: ReplicaView | undefined): string {
  if (replica === undefined) return "unknown";
  if (replica.fault !== "") return `fault: ${replica.fault}`;
  if (replica.phase !== "") return replica.phase;
  return replica.reach === "up" ? replica.role : `not reached: ${replica.reach}`;
}

/** The status of a StoreShard. */
export function shardStatus(view: ShardView): Omit<StoreShardStatus, "conditions"> {
  const { ensemble, replicas } = view;
  const voting = replicas.filter(({ node, voting: votes }) => votes && ensemble.includes(node));
  const leader = replicas.find(({ node }) => node === standingLeader(view));
  const commitOffset = leader?.commitOffset ?? LOG_START.offset;
  const why = view.conditions.find(({ type }) => type === "Available");
  return {
    voters: `${voting.length}/${ensemble.length}`,
    learners: nodesBeingRebuilt(view).length,
    // What is not known must not look like an empty log.
    ...(commitOffset === LOG_START.offset ? {} : { commitOffset }),
    state: view.serving ? "Available" : (why?.reason ?? "NoLeader"),
    replicas: replicas.map(replicaStatus),
  };
}

function replicaStatus(replica: ReplicaView): NonNullable<StoreShardStatus["replicas"]>[number] {
  const { node, uid, role, voting, status, phase, reason, fault, headTerm, headOffset } = replica;
  const told = { node, uid, role, voting, status, phase, reason, fault };
  // By this people choose who survives: what is not known must not look like an empty log.
  if (headTerm === INVALID_TERM) return told;
  return { ...told, head: { term: headTerm, offset: headOffset } };
}

/** Reasons of conditions begin with a capital. */
function capitalized(word: string): string {
  return word.slice(0, 1).toUpperCase() + word.slice(1);
}
