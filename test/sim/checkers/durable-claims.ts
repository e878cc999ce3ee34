import { LOG_START, type LogPosition, samePosition } from "../../../sidecar/protocol/entry.ts";
import { type CommittedLog, text } from "../log-book.ts";
import type { SeenStatus } from "./seen-status.ts";

/**
 * What each replica said it holds durably: by an ack, or as its head when it was fenced. A claim
 * ends when the replica cuts its log under a newer leader, which may only cut what is not
 * committed.
 */
export class DurableClaims {
  readonly #committed: CommittedLog;
  readonly #claims = new Map<string, LogPosition>();
  /**
   * A head of each replica that was found to hold its claim: where the next comparison may stop.
   */
  readonly #verified = new Map<string, LogPosition>();
  /** Claims of replicas whose disk was set back since: leaders may still count them (H19). */
  readonly #lost = new Map<string, LogPosition>();

  constructor(committed: CommittedLog) {
    this.#committed = committed;
  }

  /** Notes that the replica claims everything up to `offset` of its present log. */
  claim(status: SeenStatus, offset: number): void {
    const head = status.head ?? LOG_START;
    const position = this.#committed.ancestor(head, offset);
    if (position === null) return;
    this.claimPosition(status.replicaUid, position);
  }

  claimPosition(uid: string, position: LogPosition): void {
    const before = this.#claims.get(uid) ?? LOG_START;
    if (position.offset > before.offset) this.#claims.set(uid, position);
  }

  /** True when the replica claims the entry, and so everything before it. */
  covers(uid: string, position: LogPosition): boolean {
    return [this.#claims.get(uid), this.#lost.get(uid)].some((claim) => {
      if (claim === undefined || claim.offset < position.offset) return false;
      const own = this.#committed.ancestor(claim, position.offset);
      return own === null || samePosition(own, position);
    });
  }

  /** Its disk is an older one from now on: it owes nothing but what it claims anew. */
  setBack(uid: string): void {
    const claim = this.#claims.get(uid);
    if (claim !== undefined) this.#lost.set(uid, claim);
    this.#claims.delete(uid);
    this.#verified.delete(uid);
  }

  /** The newest position that the replica claims. */
  of(uid: string): LogPosition {
    return this.#claims.get(uid) ?? LOG_START;
  }

  /** A look at a running replica: where its log no longer holds the claim, it was cut. */
  look(status: SeenStatus): void {
    const { replicaUid: uid, head = LOG_START } = status;
    const claim = this.#claims.get(uid);
    if (claim === undefined) return;
    const verified = this.#verified.get(uid);
    if (verified !== undefined && verified.offset >= claim.offset) {
      if (samePosition(verified, head)) return;
      if (this.#holds(head, verified)) {
        this.#verified.set(uid, head);
        return;
      }
    }
    this.#verified.set(uid, head);
    if (this.#holds(head, claim)) return;
    // What is applied was durable; what is merely committed may be on its way to this disk.
    const kept = this.#committed.at(Math.min(status.appliedOffset, claim.offset));
    this.#claims.set(uid, kept ?? LOG_START);
  }

  /** What a reopened replica lacks of its claims; null when it holds them all. */
  missing(status: SeenStatus): string | null {
    const claim = this.#claims.get(status.replicaUid);
    const head = status.head ?? LOG_START;
    if (claim === undefined || this.#holds(head, claim)) return null;
    return `claimed ${text(claim)}, came back with ${text(head)}`;
  }

  #holds(head: LogPosition, claim: LogPosition): boolean {
    if (head.offset < claim.offset) return false;
    const own = this.#committed.ancestor(head, claim.offset);
    // A head that was never sent to anybody is beyond what the book can compare.
    return own === null || samePosition(own, claim);
  }
}
