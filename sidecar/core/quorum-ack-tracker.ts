import { assert } from "../lib/assert.ts";
import { INVALID_OFFSET } from "../protocol/entry.ts";
import type { Offset } from "../protocol/entry.ts";

/**
 * Counts how far a quorum of voters holds the log durably. Acks are cumulative. A quorum is
 * floor(n/2)+1 of the FULL ensemble (R2), of each ensemble while a change is joint (R13); nodes
 * that are no voters (learners, wiped ones) have no entry here and so never count (I11).
 */
export class QuorumAckTracker {
  /** Node names of the ensemble; two while a change is joint. */
  #ensembles: readonly (readonly string[])[];
  /** Durable offset of each voter, under this term. */
  readonly #acked = new Map<string, Offset>();

  constructor(ensembles: readonly (readonly string[])[]) {
    this.#ensembles = [];
    this.setEnsembles(ensembles);
  }

  setEnsembles(ensembles: readonly (readonly string[])[]): void {
    assert(
      ensembles.length > 0 && ensembles.every((nodes) => nodes.length > 0),
      "quorum: an ensemble must not be empty",
    );
    this.#ensembles = ensembles;
  }

  /** Counts this node from now on. */
  addVoter(node: string, offset: Offset): void {
    this.#acked.set(node, offset);
  }

  /** Forgets the node and every ack it gave that is not committed yet (R4, H12). */
  removeVoter(node: string): void {
    this.#acked.delete(node);
  }

  isVoter(node: string): boolean {
    return this.#acked.has(node);
  }

  /** Takes an ack; ignored unless the node is a voter. Acks never step back. */
  ack(node: string, offset: Offset): void {
    const before = this.#acked.get(node);
    if (before !== undefined && offset > before) this.#acked.set(node, offset);
  }

  ackedBy(node: string): Offset | null {
    return this.#acked.get(node) ?? null;
  }

  /** The highest offset that a quorum of every ensemble holds durably. */
  quorumOffset(): Offset {
    return this.#quorumOf((node) => this.#acked.get(node) ?? INVALID_OFFSET);
  }

  /** True when the voters that satisfy `confirmed` are a quorum of every ensemble. */
  hasQuorum(confirmed: (node: string) => boolean): boolean {
    return this.#quorumOf((node) => (this.#acked.has(node) && confirmed(node) ? 1 : 0)) === 1;
  }

  #quorumOf(value: (node: string) => number): number {
    let lowest = Number.POSITIVE_INFINITY;
    for (const nodes of this.#ensembles) {
      const sorted = nodes.map(value).sort((a, b) => b - a);
      lowest = Math.min(lowest, sorted[Math.floor(nodes.length / 2)] ?? INVALID_OFFSET);
    }
    return lowest;
  }
}
