import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import {
  MemberRole,
  ReplicaStatus,
  ServingStatus,
  WipeReason,
  type Member,
} from "../../../sidecar/protocol/gen/resilver.ts";
import { DOWN, REGRESSED } from "../../../sidecar/protocol/status.ts";

/** One entry of a fake log: its term and a value nobody else has. */
export interface FakeEntry {
  readonly term: number;
  readonly value: string;
}

interface Fed {
  readonly uid: string;
  role: MemberRole;
  readonly target: number;
  acked: number;
  /** It lost what it had acknowledged: fed no more, and said so (R3). */
  regressed: boolean;
}

/**
 * The replica of a shard as the coordinator's protocol knows it; replication is a copy of an array.
 */
export class FakeReplica {
  uid: string;
  status: ServingStatus = ServingStatus.NOT_MEMBER;
  term = -1;
  previousTerm = -1;
  rolledBack = false;
  stalledMs = 0;
  /** As a follower it is behind by this many entries. */
  behind = 0;
  /** As a follower it is being sent a snapshot, and answers. */
  takesSnapshot = false;
  /** As a leader it reaches nobody; others and the coordinator still reach it. */
  cutOff = false;
  bootCounter = 1;
  generation = 0;
  enrolledTerm = -1;
  leaderUid = "";
  log: FakeEntry[] = [];
  commit = -1;
  formattedBefore = false;
  wipeReason: WipeReason = WipeReason.NEVER_FORMATTED;
  fault = "";
  storeId = "store";
  lossEpoch = 0;
  readonly fed = new Map<string, Fed>();
  voterSets: string[][] = [];
  readonly node: string;

  constructor(node: string, uid: string) {
    this.node = node;
    this.uid = uid;
  }

  get head(): { readonly term: number; readonly offset: number } {
    return { term: this.log.at(-1)?.term ?? -1, offset: this.log.length - 1 };
  }

  /** A new process on the same disk. */
  restart(): void {
    this.bootCounter += 1;
    this.status = this.term >= 0 ? ServingStatus.FENCED : ServingStatus.NOT_MEMBER;
    this.fed.clear();
  }

  /** An empty disk: everything that was durable is gone. */
  wipe(uid: string): void {
    this.uid = uid;
    this.term = -1;
    this.previousTerm = -1;
    this.enrolledTerm = -1;
    this.generation = 0;
    this.bootCounter = 1;
    this.log = [];
    this.commit = -1;
    this.status = ServingStatus.NOT_MEMBER;
    this.fed.clear();
  }

  check(targetUid: string, generation: number): void {
    if (targetUid !== this.uid) {
      throw new ProtocolError("NODE_IS_NOT_MEMBER", `I am ${this.uid}`, { observedUid: this.uid });
    }
    if (generation < this.generation) {
      throw new ProtocolError("STALE_GENERATION", `${generation} < ${this.generation}`);
    }
    this.generation = generation;
  }

  /** Takes a copy of the volume; what is returned sets it back to that. */
  copyVolume(): () => void {
    const { term, previousTerm, rolledBack, bootCounter, generation, enrolledTerm, commit } = this;
    const log = [...this.log];
    const copy = { term, previousTerm, rolledBack, bootCounter, generation, enrolledTerm, commit };
    return () => {
      Object.assign(this, { ...copy, log: [...log] });
    };
  }

  newTerm(term: number, bootstrap: boolean, ackedTerm: number | undefined): void {
    if (term < this.term) throw new ProtocolError("INVALID_TERM", `${term} < ${this.term}`);
    const fresh = this.status === ServingStatus.NOT_MEMBER;
    if (fresh && !(bootstrap && !this.formattedBefore)) {
      throw new ProtocolError("NODE_IS_NOT_MEMBER", "not a member", { observedUid: this.uid });
    }
    this.previousTerm = this.rolledBack ? Math.min(this.previousTerm, this.term) : this.term;
    this.rolledBack = ackedTerm !== -1 && (this.rolledBack || this.term < (ackedTerm ?? -1));
    this.term = term;
    this.formattedBefore = true;
    this.status = ServingStatus.FENCED;
    this.fed.clear();
  }

  lead(term: number, bootCounter: number, members: readonly Member[], sets: string[][]): void {
    if (term !== this.term || this.status !== ServingStatus.FENCED) {
      throw new ProtocolError("INVALID_STATUS", "not fenced in that term");
    }
    if (bootCounter !== this.bootCounter) throw new ProtocolError("INVALID_STATUS", "restarted");
    this.status = ServingStatus.LEADER;
    this.voterSets = sets;
    for (const member of members) this.feed(member);
    this.log.push({ term, value: `barrier ${term}` });
  }

  feed(member: Member): void {
    this.fed.set(member.node, {
      uid: member.replicaUid,
      role: member.role,
      target: member.target?.offset ?? -1,
      acked: -1,
      regressed: false,
    });
  }

  /** Copies this leader's log to whom it feeds, and commits by majority of each voter set. */
  replicate(others: ReadonlyMap<string, FakeReplica | null>): void {
    if (this.status !== ServingStatus.LEADER || this.cutOff) return;
    for (const [node, fed] of this.fed) {
      const other = others.get(node) ?? null;
      if (other === null || other.uid !== fed.uid || other.term !== this.term) continue;
      if (fed.regressed || other.takesSnapshot) continue;
      if (other.status === ServingStatus.NOT_MEMBER || other.status === ServingStatus.LEADER)
        continue;
      other.log = this.log.slice(0, Math.max(fed.acked + 1, this.log.length - other.behind));
      other.status = ServingStatus.FOLLOWER;
      other.leaderUid = this.uid;
      other.commit = Math.max(other.commit, this.commit);
      fed.acked = other.log.length - 1;
    }
    this.commit = Math.max(this.commit, this.committable());
  }

  committable(): number {
    const offsets = this.voterSets.map((set) => {
      const acked = set.map((node) => {
        if (node === this.node) return this.log.length - 1;
        const fed = this.fed.get(node);
        return fed?.role === MemberRole.VOTER ? fed.acked : -1;
      });
      return acked.toSorted((a, b) => b - a)[Math.floor(set.length / 2)] ?? -1;
    });
    return Math.min(...offsets);
  }

  #cursorState(fed: Fed, other: FakeReplica | null | undefined): string {
    if (fed.regressed) return REGRESSED;
    if (other?.takesSnapshot === true && other.term === this.term) return "Snapshot";
    return other?.term === this.term && !this.cutOff ? "Stream" : DOWN;
  }

  report(others: ReadonlyMap<string, FakeReplica | null>): ReplicaStatus {
    const commitTerm = this.log[this.commit]?.term ?? -1;
    return ReplicaStatus.fromPartial({
      namespace: "default",
      shard: 0,
      storeId: this.storeId,
      replicaUid: this.uid,
      node: this.node,
      status: this.status,
      term: this.term,
      bootCounter: this.bootCounter,
      generation: this.generation,
      head: { ...this.head, crc: 0 },
      commitOffset: this.commit,
      commit: { term: commitTerm, offset: this.commit, crc: 0 },
      wipeReason: this.wipeReason,
      formattedBefore: this.formattedBefore,
      fault: this.fault,
      rolledBack: this.rolledBack,
      stalledMs: this.stalledMs,
      enrolledTerm: this.enrolledTerm,
      serving: this.status === ServingStatus.LEADER,
      followers: [...this.fed].map(([node, fed]) => ({
        node,
        replicaUid: fed.uid,
        role: fed.role,
        state: this.#cursorState(fed, others.get(node)),
        reachedTarget: fed.role === MemberRole.LEARNER && fed.acked >= fed.target && fed.acked >= 0,
        observedUid: others.get(node)?.uid === fed.uid ? "" : (others.get(node)?.uid ?? ""),
      })),
    });
  }
}
