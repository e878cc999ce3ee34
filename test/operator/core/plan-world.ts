import type { EntryId } from "../../../sidecar/protocol/entry.ts";
import {
  MemberRole,
  ReplicaStatus,
  ServingStatus,
  WipeReason,
  type FollowerProgress,
} from "../../../sidecar/protocol/gen/resilver.ts";
import {
  raiseTerm,
  tally,
  withAckedTerm,
  entryText,
  withLeader,
  withRegressed,
  type FenceReply,
} from "../../../operator/core/election.ts";
import {
  withDesired,
  withJoint,
  withNext,
  withoutJoint,
  withoutMember,
  withoutNext,
} from "../../../operator/core/ensemble.ts";
import { judgeForceQuorum } from "../../../operator/core/force-quorum.ts";
import { DEFAULT_RECOVERY_POLICY, type RecoveryPolicy } from "../../../operator/core/gates.ts";
import { withLearner, withPromoted, type MemberAction } from "../../../operator/core/membership.ts";
import {
  committedEntry,
  voterEvidence,
  type Observed,
  type ObservedNode,
  type Reach,
} from "../../../operator/core/observed.ts";
import {
  plan,
  withBootstrap,
  withClaims,
  type Action,
  type Plan,
} from "../../../operator/core/plan.ts";
import { voterSetsText } from "../../../operator/core/quorum.ts";
import {
  memberOn,
  newRecord,
  parseRecord,
  voterSets,
  withMember,
  type RecordMember,
  type ShardRecord,
} from "../../../operator/core/record.ts";

type Args = ReadonlyMap<string, string>;

/** One shard's record and observation, changed and printed by the commands of a transcript. */
export class PlanWorld {
  #record: ShardRecord = fresh(["a", "b", "c"]);
  readonly #nodes = new Map<string, ObservedNode>();
  #policy: RecoveryPolicy = { ...DEFAULT_RECOVERY_POLICY };
  #nowMs = 1_000_000;
  #settling = false;
  #cutOffMs = 0;
  #confirmed: Observed["confirmedSets"] = null;
  #belowFloor: Observed["belowFloor"] = null;
  #ordered: readonly string[] = [];
  #recovering: readonly string[] = [];
  readonly #commands: Readonly<Record<string, (words: readonly string[], args: Args) => string>> = {
    store: (_words, args) => {
      this.#record = fresh(list(args.get("nodes") ?? "a,b,c"));
      return this.#printRecord();
    },
    record: (_words, args) => {
      this.#record = setRecord(this.#record, args);
      return this.#printRecord();
    },
    member: ([node = ""], args) => {
      this.#record = withMember(this.#record, setMember(this.#record, node, args));
      return this.#printRecord();
    },
    see: (nodes, args) => {
      for (const node of nodes) this.#see(node, "up", args);
      return "ok";
    },
    down: (nodes) => this.#reach(nodes, "down"),
    unheard: (nodes) => this.#reach(nodes, "unknown"),
    silent: (nodes) => this.#reach(nodes, "silent"),
    empty: (nodes, args) => {
      for (const node of nodes) this.#nodes.set(node, emptyNode(node, args));
      return "ok";
    },
    policy: (_words, args) => {
      for (const [key, value] of args) {
        const parsed = key === "mode" ? value : Number(value);
        this.#policy = { ...this.#policy, [key]: parsed };
      }
      return "ok";
    },
    world: (_words, args) => {
      this.#nowMs += Number(args.get("later") ?? 0);
      if (args.has("settling")) this.#settling = args.get("settling") === "yes";
      if (args.has("cutoff")) this.#cutOffMs = Number(args.get("cutoff"));
      if (args.has("recovering")) this.#recovering = list(args.get("recovering") ?? "");
      if (args.has("ordered")) this.#ordered = list(args.get("ordered") ?? "");
      return "ok";
    },
    restart: () => {
      this.#confirmed = null;
      this.#belowFloor = null;
      this.#settling = false;
      return "the coordinator forgets what it only saw";
    },
    plan: () => printPlan(this.#plan()),
    do: (words, args) => this.#do(words, args),
    elect: (words, args) => this.#elect(words, args),
    attached: ([node = ""], args) => {
      const reply = replyOf(`${node}=${args.get("reply") ?? ""}`);
      const record = this.#record;
      const back = memberOn(record, node)?.ackedTerm ?? -1;
      this.#record =
        reply.previousTerm < back ? withRegressed(record, node) : withAckedTerm(record, reply);
      return this.#printRecord();
    },
    confirm: (_words, args) => {
      const sets = voterSetsText(voterSets(this.#record));
      const committed = args.has("commit") ? entryOf(args.get("commit") ?? "") : null;
      this.#confirmed = { term: this.#record.term, sets, committed };
      return `confirmed ${sets} in term ${this.#record.term}`;
    },
    want: (_words, args) => {
      this.#record = withDesired(this.#record, list(args.get("nodes") ?? ""));
      return this.#printRecord();
    },
    force: (words, args) => {
      const order = { survivor: words[0] ?? "", acknowledgeDataLoss: words.slice(1).join(" ") };
      const stopped = new Set(list(args.get("stopped") ?? ""));
      const verdict = judgeForceQuorum(this.#record, this.#observed(), stopped, order);
      if (verdict.kind === "rejected") return `rejected: ${verdict.message}`;
      this.#record = verdict.record;
      return this.#printRecord();
    },
  };

  /** Carries out one line of a transcript; the answer is what the file must say. */
  run(line: string): string {
    const [name = "", ...rest] = line.split(/\s+/u);
    const command = this.#commands[name];
    if (command === undefined) return `no such command: ${name}`;
    const words = rest.filter((word) => !word.includes("="));
    const args = new Map(
      rest
        .filter((word) => word.includes("="))
        .map((word) => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)]),
    );
    try {
      return command(words, args);
    } catch (error) {
      return `error: ${String(error)}`;
    }
  }

  #observed(): Observed {
    return {
      nowMs: this.#nowMs,
      nodes: this.#nodes,
      leaderSettling: this.#settling,
      leaderCutOffMs: this.#cutOffMs,
      leaderIdleMs: this.#cutOffMs,
      confirmedSets: this.#confirmed,
      belowFloor: this.#belowFloor,
      recoveringNodes: new Set(this.#recovering),
      orderedUids: new Set(this.#ordered),
    };
  }

  #plan(): Plan {
    return plan(this.#record, this.#observed(), this.#policy);
  }

  #see(node: string, reach: Reach, args: Args): void {
    const before = this.#nodes.get(node) ?? emptyNode(node, new Map());
    const replica = replicaOf(before.replica, args);
    const volumeTerminating = args.get("terminating") === "yes";
    const [data = "", wal = data] = (args.get("claims") ?? "").split("+");
    const claims = args.has("claims") ? { data, wal } : before.claims;
    this.#nodes.set(node, { ...before, reach, replica, volumeTerminating, claims });
  }

  #reach(nodes: readonly string[], reach: Reach): string {
    for (const node of nodes) {
      const before = this.#nodes.get(node) ?? emptyNode(node, new Map());
      this.#nodes.set(node, { ...before, reach });
    }
    return "ok";
  }

  /** Saves what the planned action of that kind saves before anything else is done. */
  #do([kind, node]: readonly string[], args: Args): string {
    const action = this.#plan().actions.find(
      (other) =>
        other.kind === kind && (node === undefined || ("node" in other && other.node === node)),
    );
    if (action === undefined) return `not planned: ${kind ?? ""} ${node ?? ""}`;
    const next = this.#saved(action, args);
    if (next === null) return "refused";
    this.#record = parseRecord({ ...next, generation: this.#record.generation + 1 });
    return this.#printRecord();
  }

  #saved(action: Action, args: Args): ShardRecord | null {
    const record = this.#record;
    switch (action.kind) {
      case "bootstrap":
        return withBootstrap(record, action.members);
      case "raiseFloor":
        return { ...record, commitFloor: action.floor };
      case "demote":
        return withRegressed(record, action.node);
      case "recover": {
        const target = { ...entryOf(args.get("last") ?? "-1/-1"), crc: 7 };
        return withLearner(record, action, target, this.#policy, this.#nowMs);
      }
      case "promote":
        return withPromoted(record, action.node, action.uid, this.#committed());
      case "noteClaims":
        return withClaims(record, action.claims);
      case "beginChange":
        return withNext(record, action.ensemble);
      case "cancelChange":
        return withoutNext(record);
      case "startJoint":
        return withJoint(record, this.#committed());
      case "leaveJoint":
        return withoutJoint(record, this.#committed());
      case "retire":
        return withoutMember(record, action.node);
      default:
        return record;
    }
  }

  #committed(): EntryId | null {
    return committedEntry(this.#record, this.#observed());
  }

  /** `elect a=uid:boot:term/offset:previousTerm ... prefer= exclude= committed=`. */
  #elect(_words: readonly string[], args: Args): string {
    const options = ["prefer", "exclude", "committed"];
    const replies = [...args]
      .filter(([key]) => !options.includes(key))
      .map(([node, reply]) => replyOf(`${node}=${reply}`));
    const committed = args.has("committed") ? [entryOf(args.get("committed") ?? "")] : [];
    const raised = raiseTerm(this.#record, committed);
    const result = tally(raised, replies, {
      leaderships: new Map(),
      prefer: args.get("prefer") ?? null,
      exclude: new Set(args.get("exclude")?.split(",")),
    });
    // As an election does that nobody won: what it saw is recorded.
    this.#record = result.regressed.reduce(withRegressed, raised);
    if (result.kind === "noQuorum") {
      return `no quorum: counted [${result.counted.join(",")}] regressed [${result.regressed.join(",")}]\n${this.#printRecord()}`;
    }
    if (result.kind === "belowFloor") {
      const { best } = result;
      this.#belowFloor = { evidence: voterEvidence(this.#record, this.#observed()), best };
      return `below the floor: ${best.node} at ${entryText(best.head)}\n${this.#printRecord()}`;
    }
    this.#record = parseRecord(withLeader(raised, result));
    return this.#printRecord();
  }

  #printRecord(): string {
    const record = this.#record;
    const { commitFloor: floor, leader } = record;
    const next =
      record.next === undefined
        ? ""
        : ` next=${record.next.ensemble.join(",")}${record.next.joint ? "(joint)" : ""}`;
    const head =
      `initialized=${record.initialized ? "yes" : "no"} term=${record.term} ` +
      `leader=${leader === null ? "none" : `${leader.node}:${leader.uid}:${leader.bootCounter}`} ` +
      `floor=${floor.term}/${floor.offset} epoch=${record.lossEpoch} ` +
      `ensemble=${record.ensemble.join(",")}${next}`;
    return [head, ...record.members.map((member) => `  ${printMember(member)}`)].join("\n");
  }
}

function printMember(member: RecordMember): string {
  const target =
    member.target === undefined ? "" : ` target=${member.target.term}/${member.target.offset}`;
  const enrolled = member.enrolTerm === undefined ? "" : ` enrolTerm=${member.enrolTerm}`;
  const reason = member.reason === undefined ? "" : ` reason=${member.reason}`;
  const times = member.recoveries === undefined ? "" : ` recoveries=${member.recoveries}`;
  return `${member.node}:${member.replicaUid} ${member.role} acked=${member.ackedTerm}${enrolled}${target}${reason}${times}`;
}

function printPlan(planned: Plan): string {
  const lines = planned.actions.map((action) => printAction(action));
  if (planned.stop !== null) lines.push(`STOP ${planned.stop.reason}: ${planned.stop.message}`);
  for (const { node, gate, reason, message } of planned.deferrals) {
    lines.push(`deferred ${node} ${reason} by ${gate}: ${message}`);
  }
  if (planned.waiting !== null) lines.push(`waiting: ${planned.waiting}`);
  return lines.length === 0 ? "nothing to do" : lines.join("\n");
}

function printAction(action: Action | MemberAction): string {
  const { kind, ...rest } = action;
  const fields = Object.entries(rest).map(([key, value]) => {
    const text =
      typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
    return `${key}=${text.replaceAll('"', "")}`;
  });
  return [kind, ...fields].join(" ");
}

function fresh(nodes: readonly string[]): ShardRecord {
  return newRecord({
    storeId: "s1",
    namespace: "default",
    shard: 0,
    ensemble: nodes,
    replicationFactor: nodes.length,
    keySorting: "hierarchical",
    notifications: false,
  });
}

function setRecord(record: ShardRecord, args: Args): ShardRecord {
  let next = record;
  for (const [key, value] of args) {
    if (key === "term") next = { ...next, term: Number(value) };
    else if (key === "generation") next = { ...next, generation: Number(value) };
    else if (key === "initialized") next = { ...next, initialized: value === "yes" };
    else if (key === "floor") next = { ...next, commitFloor: entryOf(value) };
    else if (key === "leader") {
      const [node = "", uid = "", boot = "1"] = value.split(":");
      next = { ...next, leader: { node, uid, bootCounter: Number(boot) } };
    } else throw new Error(`record has no ${key}`);
  }
  return next;
}

function setMember(record: ShardRecord, node: string, args: Args): RecordMember {
  const before = memberOn(record, node);
  return {
    node,
    replicaUid: args.get("uid") ?? before?.replicaUid ?? `${node}1`,
    role: (args.get("role") as RecordMember["role"] | undefined) ?? before?.role ?? "voter",
    ackedTerm: Number(args.get("acked") ?? before?.ackedTerm ?? -1),
    ...(args.has("by") ? { ackedBoot: Number(args.get("by")) } : {}),
  };
}

function emptyNode(node: string, args: Args): ObservedNode {
  const reason = args.get("refused");
  const dataOf = args.get("dataOf") ?? null;
  return {
    node,
    reach: "up",
    replica: null,
    openRefusal: reason === undefined ? null : { reason, message: "it belongs to s2", dataOf },
    volumeTerminating: false,
    claims: null,
  };
}

function replicaOf(before: ReplicaStatus | null, args: Args): ReplicaStatus {
  const base =
    before ??
    ReplicaStatus.fromPartial({ storeId: "s1", term: -1, enrolledTerm: -1, bootCounter: 1 });
  const number = (key: string, value: number): number => Number(args.get(key) ?? value);
  return {
    ...base,
    replicaUid: args.get("uid") ?? base.replicaUid,
    status: args.has("status") ? ServingStatus[args.get("status") as "LEADER"] : base.status,
    term: number("term", base.term),
    bootCounter: number("boot", base.bootCounter),
    generation: number("generation", base.generation),
    enrolledTerm: number("enrolled", base.enrolledTerm),
    serving: args.has("serving") ? args.get("serving") === "yes" : base.serving,
    formattedBefore: args.has("formatted") ? args.get("formatted") === "yes" : base.formattedBefore,
    rolledBack: args.has("rolledback") ? args.get("rolledback") === "yes" : base.rolledBack,
    fault: args.get("fault") ?? base.fault,
    roomBytes: number("room", base.roomBytes),
    stateBytes: number("state", base.stateBytes),
    wipeReason: args.has("why") ? WipeReason[args.get("why") as "CORRUPT"] : base.wipeReason,
    head: args.has("head") ? { ...entryOf(args.get("head") ?? ""), crc: 0 } : base.head,
    commit: args.has("commit") ? { ...entryOf(args.get("commit") ?? ""), crc: 0 } : base.commit,
    followers: args.has("feeds") ? list(args.get("feeds") ?? "").map(followerOf) : base.followers,
  };
}

/** `node:uid:voter|learner[:reached|:Regressed|:Down|:Probe|:met-uid]`. */
function followerOf(text: string): FollowerProgress {
  const [node = "", replicaUid = "", role = "voter", extra = ""] = text.split(":");
  return {
    node,
    replicaUid,
    role: role === "learner" ? MemberRole.LEARNER : MemberRole.VOTER,
    state: ["Regressed", "Down", "Probe"].includes(extra) ? extra : "Stream",
    ackOffset: 0,
    observedUid: extra.startsWith("met-") ? extra.slice(4) : "",
    reachedTarget: extra === "reached",
    snapshotBytesDone: 0,
    snapshotBytesTotal: 0,
    silentMs: 0,
    lastError: "",
  };
}

function replyOf(text: string): FenceReply {
  const [node = "", rest = ""] = text.split("=");
  const [replicaUid = "", boot = "1", head = "-1/-1", previous = "-1"] = rest.split(":");
  return {
    node,
    replicaUid,
    bootCounter: Number(boot),
    head: entryOf(head),
    previousTerm: Number(previous),
  };
}

function entryOf(text: string): { readonly term: number; readonly offset: number } {
  const [term = "-1", offset = "-1"] = text.split("/");
  return { term: Number(term), offset: Number(offset) };
}

function list(text: string): readonly string[] {
  return text === "" ? [] : text.split(",");
}
