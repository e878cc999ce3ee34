import type { Replica } from "../core/replica.ts";
import type { Logger } from "../lib/ports/logger.ts";
import { statusName } from "../protocol/status.ts";
import { votes } from "./replica-status.ts";

/**
 * One line in the log for each change of a replica that a person follows: its term, its status,
 * whether it votes, what is wrong with it. Its status report changes far more often, since a leader
 * tells of each follower in it.
 */
export class ChangeLog {
  readonly #logger: Logger;
  readonly #replica: { readonly namespace: string; readonly shard: number };
  #last = "";

  constructor(logger: Logger, replica: { readonly namespace: string; readonly shard: number }) {
    this.#logger = logger;
    this.#replica = replica;
  }

  /** Logs a line when something of it is new. `fault`: empty when nothing is wrong. */
  log(core: Replica, fault: string): void {
    const { promised, status } = core.state;
    const fields = { term: promised.term, status: statusName(status), votes: votes(core) };
    const now = JSON.stringify([fields, fault]);
    if (now === this.#last) return;
    this.#last = now;
    const { namespace, shard } = this.#replica;
    const wrong = fault === "" ? {} : { fault };
    this.#logger.info("replica changed", { namespace, shard, ...fields, ...wrong });
  }
}
