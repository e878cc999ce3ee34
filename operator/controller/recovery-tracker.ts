/**
 * Follows recoveries from what is seen, and tells of their phases and of deferrals. Keeps no state
 * that matters.
 */
import type { CoordinatorEvents, RecoveryPhase } from "../core/events.ts";
import type { Deferral } from "../core/membership.ts";
import { isWiped, judgeLeader, learnerPhase, type Observed } from "../core/observed.ts";
import type { RecordMember, RecoveryReason, ShardKey, ShardRecord } from "../core/record.ts";

interface Tracked {
  readonly uid: string;
  readonly oldUid: string;
  reason: RecoveryReason;
  phase: RecoveryPhase;
  phaseSinceMs: number;
  /** Null when this process did not see the beginning. */
  readonly detectedAtMs: number | null;
}

const ORDER: readonly RecoveryPhase[] = [
  "Detected",
  "Enrolled",
  "Transferring",
  "CatchingUp",
  "Promoting",
];

export class RecoveryTracker {
  readonly #key: ShardKey;
  readonly #events: CoordinatorEvents;
  readonly #tracked = new Map<string, Tracked>();
  readonly #gates = new Map<string, string>();
  /** Uids of all members at the last look; null before the first. */
  #members: ReadonlySet<string> | null = null;

  constructor(key: ShardKey, events: CoordinatorEvents) {
    this.#key = key;
    this.#events = events;
  }

  /** Compares with what was seen last. `monotonicMs` is the time of seeing. */
  see(
    record: ShardRecord,
    observed: Observed,
    deferrals: readonly Deferral[],
    monotonicMs: number,
  ): void {
    for (const member of record.members) {
      if (member.role === "leaving") continue;
      this.#seeMember(record, observed, member, monotonicMs);
    }
    for (const node of this.#tracked.keys()) {
      if (!record.members.some((member) => member.node === node && member.role !== "leaving")) {
        this.#fail(node, "no longer a member");
      }
    }
    this.#members = new Set(record.members.map(({ replicaUid }) => replicaUid));
    this.#seeDeferrals(deferrals);
  }

  #seeMember(record: ShardRecord, observed: Observed, member: RecordMember, nowMs: number): void {
    const { node } = member;
    const tracked = this.#tracked.get(node);
    if (isWiped(observed, member)) {
      const uid = observed.nodes.get(node)?.replica?.replicaUid ?? "";
      if (tracked?.uid === uid) return;
      if (tracked !== undefined) this.#fail(node, "wiped again before it voted");
      const oldUid = member.replicaUid;
      this.#track(node, { uid, oldUid, reason: "VolumeEmpty", detectedAtMs: nowMs }, nowMs);
      return;
    }
    if (member.role === "voter") {
      if (tracked !== undefined) this.#complete(node, member, tracked, nowMs);
      return;
    }
    this.#seeLearner(record, observed, member, tracked, nowMs);
  }

  #seeLearner(
    record: ShardRecord,
    observed: Observed,
    member: RecordMember,
    tracked: Tracked | undefined,
    nowMs: number,
  ): void {
    const { node, replicaUid, reason = "Requested" } = member;
    if (tracked === undefined || tracked.uid !== replicaUid) {
      // Not enrolled yet: a voter whose disk went back. A new member is enrolled at once. Any other
      // is enrolled when first seen, since an earlier process told of its start.
      const wentBack = member.enrolTerm === undefined;
      const joins = reason === "Joining" && this.#members?.has(replicaUid) === false;
      const oldUid = wentBack ? replicaUid : "";
      const detectedAtMs = wentBack || joins ? nowMs : null;
      this.#track(node, { uid: replicaUid, oldUid, reason, detectedAtMs }, nowMs);
    }
    const current = this.#tracked.get(node);
    if (current === undefined) return;
    if (current.phase === "Detected" && member.enrolTerm !== undefined) {
      current.reason = reason;
      if (current.detectedAtMs !== null) {
        this.#events.emit({
          kind: "recoveryStarted",
          ...this.#key,
          node,
          reason,
          oldUid: current.oldUid,
          newUid: replicaUid,
        });
      }
      this.#enter(node, current, "Enrolled", nowMs);
    }
    this.#enter(node, current, phaseSeen(record, observed, member), nowMs);
  }

  #track(
    node: string,
    start: Pick<Tracked, "uid" | "oldUid" | "reason" | "detectedAtMs">,
    nowMs: number,
  ): void {
    this.#tracked.set(node, { ...start, phase: "Detected", phaseSinceMs: nowMs });
  }

  /** Phases only go forward; what a new term sends back counts into the phase that was reached. */
  #enter(node: string, tracked: Tracked, phase: RecoveryPhase, nowMs: number): void {
    if (ORDER.indexOf(phase) <= ORDER.indexOf(tracked.phase)) return;
    this.#tellPhase(node, tracked, nowMs);
    tracked.phase = phase;
    tracked.phaseSinceMs = nowMs;
  }

  #tellPhase(node: string, tracked: Tracked, nowMs: number): void {
    const durationMs = nowMs - tracked.phaseSinceMs;
    this.#events.emit({
      kind: "recoveryPhase",
      ...this.#key,
      node,
      phase: tracked.phase,
      durationMs,
    });
  }

  #complete(node: string, member: RecordMember, tracked: Tracked, nowMs: number): void {
    this.#tracked.delete(node);
    // The old uid came back unharmed before anything was done: no recovery after all.
    if (tracked.uid !== member.replicaUid) return;
    this.#tellPhase(node, tracked, nowMs);
    const durationMs = tracked.detectedAtMs === null ? null : nowMs - tracked.detectedAtMs;
    const { reason, uid } = tracked;
    this.#events.emit({ kind: "recoveryCompleted", ...this.#key, node, uid, reason, durationMs });
  }

  #fail(node: string, message: string): void {
    const tracked = this.#tracked.get(node);
    this.#tracked.delete(node);
    if (tracked === undefined || tracked.phase === "Detected") return;
    const { reason } = tracked;
    this.#events.emit({ kind: "recoveryFailed", ...this.#key, node, reason, message });
  }

  #seeDeferrals(deferrals: readonly Deferral[]): void {
    for (const { node, gate, reason, message } of deferrals) {
      if (this.#gates.get(node) === gate) continue;
      this.#events.emit({
        kind: "recoveryDeferred",
        ...this.#key,
        node,
        gate,
        reason,
        message,
      });
    }
    this.#gates.clear();
    for (const { node, gate } of deferrals) this.#gates.set(node, gate);
  }
}

function phaseSeen(record: ShardRecord, observed: Observed, member: RecordMember): RecoveryPhase {
  const judged = judgeLeader(record, observed);
  const leader = judged.state === "steady" ? judged.replica : null;
  const phase = learnerPhase(leader, observed, member);
  return phase === "Installing" ? "Transferring" : phase;
}
