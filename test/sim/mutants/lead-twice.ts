/** A leader that comes back in its term and leads it again: a rule that several mutants break. */
import type { Effect } from "../../../sidecar/core/effect.ts";
import type { Replica } from "../../../sidecar/core/replica.ts";
import { ServingStatus } from "../../../sidecar/protocol/status.ts";
import { Ticker } from "../../../sidecar/runtime/ticker.ts";
import { changeSteps } from "./mutant.ts";

const isKind = (kind: Effect["kind"]) => (effect: Effect) => effect.kind === kind;

/**
 * A process that comes back in the term it led fences itself and leads on: by its own vote, or of a
 * set of which it lacks the majority.
 */
export function leadTwice(others: readonly string[] = []): () => void {
  const shard = { namespace: "default", shard: 0 } as const;
  /** By identity: the term that it led last. */
  const led = new Map<string, number>();
  const fenced = new WeakMap<Replica, number>();
  const wrapped = changeSteps({
    before(replica, input) {
      const { state } = replica;
      const { term, generation } = state.promised;
      if (replica.leader !== null) led.set(state.uid, term);
      if (input.kind !== "tick" || state.status !== ServingStatus.FENCED) return input;
      const { uid: targetUid, storeId, bootCounter, node } = state;
      const request = { ...shard, targetUid, storeId, term, generation };
      if (fenced.get(replica) === term) {
        fenced.delete(replica);
        const lead = { ...request, bootCounter, lossEpoch: 0, replicationFactor: 1 };
        const alone = { members: [], followerMaps: {}, voterSets: [{ nodes: [node, ...others] }] };
        const { nowMs } = input;
        return { kind: "becomeLeader", id: -1, nowMs, request: { ...lead, ...alone } };
      }
      if (led.get(targetUid) !== term) return input;
      led.delete(targetUid);
      fenced.set(replica, term);
      const again = { ...request, bootstrap: false, options: undefined };
      return { kind: "newTerm", id: -1, request: again };
    },
    after: (_replica, _input, effects) =>
      effects.filter((one) => !(isKind("reply")(one) || isKind("refuse")(one)) || !isOwn(one)),
  });
  const unwrap = wrapped();
  const untick = tickAlways();
  return () => {
    untick();
    unwrap();
  };
}

/** Ticks for those who do not lead, too: something a mutant may act at. Returns the undoing. */
function tickAlways(): () => void {
  const before = Object.getOwnPropertyDescriptor(Ticker.prototype, "needed") ?? {};
  Object.defineProperty(Ticker.prototype, "needed", { ...before, get: () => true });
  return () => {
    Object.defineProperty(Ticker.prototype, "needed", before);
  };
}

const isOwn = (effect: Effect): boolean => "id" in effect && effect.id === -1;
