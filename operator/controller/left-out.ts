/**
 * Whom elections leave out. Whoever led has the newest head, its own barrier, though it reached
 * nobody: it would win again, and be as unfit.
 */
import { couldLeaveOut, currentReplica, type Observed } from "../core/observed.ts";
import type { ShardRecord } from "../core/record.ts";

/** What an election is begun for. */
export interface LeftOutInput {
  readonly record: ShardRecord;
  readonly observed: Observed;
  /** Whom the plan wants replaced. */
  readonly named: string | null;
  /** It is here and answers, and reaches too few voters. */
  readonly isolated: boolean;
  /** Whom a person wishes for. */
  readonly prefer: string | null;
}

/** See the file's header. One for each shard. */
export class LeftOut {
  /** Of the election of `term`; null once somebody won it. */
  #last: { readonly nodes: ReadonlySet<string>; readonly term: number } | null = null;
  /** Who led and reached too few, one after the other, newest last. */
  readonly #isolated = new Set<string>();

  /** Somebody was elected. */
  won(): void {
    this.#last = null;
  }

  /**
   * For the election of the record's next term: whoever the plan names, and with a leader that is
   * cut off those before it that were and committed nothing since, while the others are enough; or
   * once more whom the failed one before it did. Then it is open to all; at once for whoever a
   * person wishes for meanwhile.
   */
  next(input: LeftOutInput): ReadonlySet<string> {
    const { record, named } = input;
    const before = this.#last;
    this.#last = null;
    if (named !== null) {
      const nodes = this.#withFormer(input, named);
      this.#last = { nodes, term: record.term + 1 };
      return nodes;
    }
    if (before === null || before.term !== record.term) return new Set();
    const nodes = new Set([...before.nodes].filter((node) => node !== input.prefer));
    return couldLeaveOut(record, input.observed, nodes) ? nodes : new Set();
  }

  #withFormer(input: LeftOutInput, named: string): ReadonlySet<string> {
    const { record, observed, prefer } = input;
    if (!input.isolated) return new Set([named]);
    // It led well for a while: what was before says nothing of the network now.
    if (currentReplica(observed, named)?.commit?.term === record.term) this.#isolated.clear();
    this.#isolated.delete(named);
    let nodes: ReadonlySet<string> = new Set([named]);
    for (const former of [...this.#isolated].toReversed()) {
      const more = new Set([...nodes, former]);
      if (former !== prefer && couldLeaveOut(record, observed, more)) nodes = more;
    }
    this.#isolated.add(named);
    return nodes;
  }
}
