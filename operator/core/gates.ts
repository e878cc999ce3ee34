/**
 * The gates before a recovery, which is costly and, at Enrol, destructive: a closed, ordered list.
 * The first one that does not let a recovery pass names its deferral, in an event and as a metric
 * label.
 */
import type { LeaderJudgement } from "./observed.ts";

/** How recoveries are paced. All times in milliseconds. */
export interface RecoveryPolicy {
  readonly mode: "Automatic" | "Manual" | "Paused";
  /** Nodes that may be in recovery at the same time. */
  readonly maxConcurrent: number;
  /** Wait before the second recovery of one replica; doubles with each further one. 0: never. */
  readonly cooldownMs: number;
  readonly cooldownMaxMs: number;
  /** After this long without one, recoveries of a replica are counted from zero again. */
  readonly cooldownResetMs: number;
}

/** How recoveries are paced unless people say otherwise. */
export const DEFAULT_RECOVERY_POLICY: RecoveryPolicy = Object.freeze({
  mode: "Automatic",
  maxConcurrent: 1,
  cooldownMs: 10_000,
  cooldownMaxMs: 3_600_000,
  cooldownResetMs: 6 * 3_600_000,
});

/** What the gates look at. */
export interface GateInput {
  readonly node: string;
  readonly policy: RecoveryPolicy;
  readonly leader: LeaderJudgement["state"];
  /** A majority of every voter set is reachable without this replica. */
  readonly quorumWithout: boolean;
  readonly recoveringNodes: ReadonlySet<string>;
  readonly recoveries: number;
  readonly lastRecoveryAtMs: number | null;
  readonly nowMs: number;
  readonly volumeTerminating: boolean;
  /** The node itself, over its present connection, reports the uid that is to be enrolled. */
  readonly confirmedByNode: boolean;
  /** A person ordered the rebuild of this very replica. */
  readonly ordered: boolean;
  /** What its volume can take, and about what a snapshot of the leader's state is; 0: not known. */
  readonly roomBytes: number;
  readonly neededBytes: number;
}

/** How long the replica must still be left alone; 0: not at all. */
function cooldownLeftMs(input: GateInput): number {
  const { policy, recoveries, lastRecoveryAtMs, nowMs } = input;
  if (recoveries < 1 || lastRecoveryAtMs === null) return 0;
  const since = nowMs - lastRecoveryAtMs;
  // A wall clock that went back says nothing about the time passed; do not wait for it to catch up.
  if (since < 0 || since >= policy.cooldownResetMs) return 0;
  const wait = Math.min(policy.cooldownMs * 2 ** (recoveries - 1), policy.cooldownMaxMs);
  return Math.max(0, wait - since);
}

const GATES = [
  {
    name: "Paused",
    blocks: ({ policy, ordered }: GateInput) =>
      policy.mode === "Paused" || (policy.mode === "Manual" && !ordered),
  },
  {
    name: "NoQuorumWithoutMember",
    // A leader that never restarted in its term holds everything acknowledged: no majority is
    // needed (R16).
    blocks: (input: GateInput) => input.leader !== "steady" && !input.quorumWithout,
  },
  { name: "LeaderUnknown", blocks: (input: GateInput) => input.leader !== "steady" },
  {
    name: "RecoveryLimit",
    // Counted by node: all shards of one node are rebuilt together.
    blocks: (input: GateInput) =>
      !input.recoveringNodes.has(input.node) &&
      input.recoveringNodes.size >= input.policy.maxConcurrent,
  },
  // Waiting is for what begins by itself; a person may know better.
  {
    name: "Cooldown",
    blocks: (input: GateInput) => !input.ordered && cooldownLeftMs(input) > 0,
  },
  { name: "VolumeTerminating", blocks: (input: GateInput) => input.volumeTerminating },
  { name: "StaleView", blocks: (input: GateInput) => !input.confirmedByNode },
  {
    name: "NotEnoughSpace",
    blocks: ({ roomBytes, neededBytes }: GateInput) => roomBytes > 0 && roomBytes < neededBytes,
  },
] as const;

/** Name of a gate. */
export type Gate = (typeof GATES)[number]["name"];

/** All gates, in the order they are tried. */
export const GATE_NAMES: readonly Gate[] = GATES.map((gate) => gate.name);

/** What to do about a gate that stays closed, among the files of the chart. */
export function gatePage(gate: Gate): string {
  return `runbooks/gates/${gate}.md`;
}

/** The first gate that does not let the recovery pass; null when all do. */
export function firstClosedGate(input: GateInput): Gate | null {
  return GATES.find((gate) => gate.blocks(input))?.name ?? null;
}

/** What a person should know about a closed gate. */
export function gateMessage(gate: Gate, input: GateInput): string {
  const messages: Readonly<Record<Gate, string>> = {
    Paused:
      input.policy.mode === "Manual"
        ? "recovery mode is Manual; a ReplicaRecovery with `rebuild` for it lets the rebuild begin"
        : `recovery mode is ${input.policy.mode}; set it to Automatic to let the rebuild begin`,
    NoQuorumWithoutMember: "too few of the other voters are reachable; bring them back first",
    LeaderUnknown: "the shard has no steady leader now; goes on after the election",
    RecoveryLimit: `${input.recoveringNodes.size} of at most ${input.policy.maxConcurrent} nodes are being rebuilt; goes on after one of them`,
    Cooldown: `rebuilt ${input.recoveries} times before; goes on in ${Math.ceil(cooldownLeftMs(input) / 1000)} s. If its disk keeps failing, replace it`,
    VolumeTerminating: "its volume claim is being deleted; goes on with the new one",
    StaleView: "waits for the node itself to confirm its new identity",
    NotEnoughSpace: `its volume has room for ${input.roomBytes} bytes, the leader's state is ${input.neededBytes}; enlarge or clear the volume`,
  };
  return messages[gate];
}
