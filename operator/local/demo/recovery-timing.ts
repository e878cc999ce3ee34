import type { CoordinatorEvent } from "../../core/events.ts";
import type { ShardView } from "../../core/status.ts";

/**
 * One recovery, in milliseconds since the wiped process was started; null for what did not happen.
 */
export interface RecoveryTimes {
  readonly node: string;
  /** VolumeEmpty, IdentityMismatch, ... */
  readonly reason: string;
  /** The coordinator knew that the replica was wiped. */
  readonly detectedMs: number | null;
  /** First byte of a snapshot; null when the log alone was enough. */
  readonly firstByteMs: number | null;
  /** The snapshot was installed; where there was none: when it voted. */
  readonly transferMs: number | null;
  /** Recorded as a voter, and counted by the leader. */
  readonly votingMs: number | null;
  readonly attempts: number;
}

/**
 * Puts the times of one recovery together from the coordinator's events and views. Pure: every
 * input bears the wall clock in ms at which it came; all processes are on one machine.
 */
export class RecoveryTiming {
  private readonly node: string;
  private startedMs = Number.POSITIVE_INFINITY;
  private detectedAtMs: number | null = null;
  private firstByteAtMs: number | null = null;
  private installedAtMs: number | null = null;
  private votingAtMs: number | null = null;
  private reason = "";
  private attempts = 0;
  /** Of the replica before the wipe: what is still said of it does not count. */
  private readonly oldUid: string;

  constructor(node: string, oldUid: string) {
    this.node = node;
    this.oldUid = oldUid;
  }

  /** When the process of the wiped replica was started. */
  started(atMs: number): void {
    this.startedMs = atMs;
  }

  event(event: CoordinatorEvent, atMs: number): void {
    if (event.kind === "recoveryStarted" && event.node === this.node) {
      if (event.newUid === this.oldUid) return;
      this.detectedAtMs ??= atMs;
      this.reason = event.reason;
    } else if (event.kind === "recoveryCompleted" && event.node === this.node) {
      // For a wipe so short that nobody saw its beginning.
      if (event.uid !== this.oldUid) this.reason = event.reason;
    }
  }

  view(view: ShardView, atMs: number): void {
    const replica = view.replicas.find(({ node }) => node === this.node);
    if (replica === undefined || replica.uid === this.oldUid || replica.uid === "") return;
    if (replica.role === "wiped" || replica.role === "learner") this.detectedAtMs ??= atMs;
    if (replica.firstByteMs >= this.startedMs) this.firstByteAtMs ??= replica.firstByteMs;
    if (replica.installedMs >= this.startedMs) this.installedAtMs = replica.installedMs;
    if (replica.voting) this.votingAtMs ??= atMs;
    this.attempts = Math.max(this.attempts, replica.attempts);
  }

  /** It votes again. */
  get done(): boolean {
    return this.votingAtMs !== null;
  }

  times(): RecoveryTimes {
    const since = (atMs: number | null) => (atMs === null ? null : atMs - this.startedMs);
    return {
      node: this.node,
      reason: this.reason,
      detectedMs: since(this.detectedAtMs),
      firstByteMs: since(this.firstByteAtMs),
      transferMs: since(this.installedAtMs ?? this.votingAtMs),
      votingMs: since(this.votingAtMs),
      attempts: Math.max(1, this.attempts),
    };
  }
}
