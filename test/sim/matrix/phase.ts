import type { SimCluster, SimStep } from "../cluster.ts";
import { ServingStatus } from "../../../sidecar/protocol/status.ts";

/** What a phase is watched with. */
export interface PhaseWatch {
  readonly cluster: SimCluster;
  /** The node that is being rebuilt; "" when none is. */
  readonly learner: string;
  /** The term before the election that the cell orders. */
  readonly termBefore: number;
  /** Files that the learner has renamed so far while it installs. */
  installRenames: number;
}

/** Of the matrix's stores: small, so that a transfer has a middle. */
export const SNAPSHOT_CHUNK_BYTES = 256;

/** One moment of a protocol at which a disk can be lost. */
export interface Phase {
  readonly name: string;
  /** What has to be going on for it to come. */
  readonly during: "nothing" | "election" | "recovery" | "ensembleChange";
  readonly reached: (step: SimStep, watch: PhaseWatch) => boolean;
}

const calls =
  (name: string): Phase["reached"] =>
  (step) =>
    step.kind === "call" && step.name === name;

const recoveryPhase =
  (name: string): Phase["reached"] =>
  (step, { cluster, learner }) =>
    step.kind === "event" &&
    step.owner === learner &&
    cluster.shard.replicaOn(cluster.node(learner))?.status().recovery?.phase === name;

const leads =
  (serving: boolean): Phase["reached"] =>
  (step, { cluster, termBefore }) => {
    if (step.kind !== "event") return false;
    const owner = cluster.nodes.find(({ name }) => name === step.owner);
    const status = owner && cluster.shard.replicaOn(owner)?.status();
    if (status?.status !== ServingStatus.LEADER || status.term <= termBefore) return false;
    return status.serving === serving;
  };

/** The so-manyth rename of an installation has just been done, and is not synced yet. */
const installRename =
  (count: number): Phase["reached"] =>
  (step, watch) => {
    const { cluster, learner } = watch;
    if (step.kind !== "event" || step.owner !== learner || step.label !== "rename") return false;
    if (cluster.shard.replicaOn(cluster.node(learner))?.status().recovery?.phase !== "Installing")
      return false;
    watch.installRenames += 1;
    return watch.installRenames === count;
  };

/** Every phase, in the order of the protocols; later ones last, so that cells keep their seeds. */
export const PHASES: readonly Phase[] = [
  { name: "steady", during: "nothing", reached: () => true },
  {
    name: "term raised",
    during: "election",
    reached: (step, { termBefore }) => step.kind === "saved" && step.record.term > termBefore,
  },
  { name: "fencing", during: "election", reached: calls("newTerm") },
  { name: "electing", during: "election", reached: calls("becomeLeader") },
  { name: "barrier", during: "election", reached: leads(false) },
  { name: "newly serving", during: "election", reached: leads(true) },
  { name: "discarding", during: "recovery", reached: calls("removeFollower") },
  {
    name: "recorded as learner",
    during: "recovery",
    reached: (step, { learner }) =>
      step.kind === "saved" &&
      step.record.members.some(({ node, role }) => node === learner && role === "learner"),
  },
  { name: "enrolling", during: "recovery", reached: calls("enrol") },
  {
    name: "first chunk",
    during: "recovery",
    reached: (step, { learner }) =>
      step.kind === "event" && step.owner === learner && step.label === "snapshot>",
  },
  {
    name: "mid transfer",
    during: "recovery",
    reached: (step, { cluster, learner }) => {
      if (step.kind !== "event" || step.owner !== learner) return false;
      const progress = cluster.shard.replicaOn(cluster.node(learner))?.status().recovery;
      return progress !== undefined && progress.bytesDone * 2 > progress.bytesTotal;
    },
  },
  { name: "installing", during: "recovery", reached: recoveryPhase("Installing") },
  { name: "installed", during: "recovery", reached: recoveryPhase("CatchingUp") },
  {
    name: "promoting",
    during: "recovery",
    reached: (step, { cluster, learner }) =>
      step.kind === "saved" &&
      cluster.shard.replicaOn(cluster.node(learner))?.status().enrolledTerm === step.record.term &&
      step.record.members.some(({ node, role }) => node === learner && role === "voter"),
  },
  { name: "telling the leader", during: "recovery", reached: calls("promote") },
  {
    name: "joint",
    during: "ensembleChange",
    reached: (step) => step.kind === "saved" && step.record.next?.joint === true,
  },
  { name: "committing under both", during: "ensembleChange", reached: calls("updateEnsemble") },
  {
    name: "joint left",
    during: "ensembleChange",
    reached: (step) =>
      step.kind === "saved" && step.record.members.some(({ role }) => role === "leaving"),
  },
  { name: "retiring", during: "ensembleChange", reached: calls("deleteShard") },
  {
    name: "last chunk",
    during: "recovery",
    reached: (step, { cluster, learner }) => {
      if (step.kind !== "event" || step.owner !== learner) return false;
      const progress = cluster.shard.replicaOn(cluster.node(learner))?.status().recovery;
      return (
        progress !== undefined &&
        progress.bytesDone > 0 &&
        progress.bytesTotal - progress.bytesDone <= SNAPSHOT_CHUNK_BYTES
      );
    },
  },
  // The received state is in place, and the pointer still names the old one; then the new one.
  { name: "before rename", during: "recovery", reached: installRename(1) },
  { name: "after rename", during: "recovery", reached: installRename(2) },
];
