import assert from "node:assert/strict";
import { DEFAULT_RECOVERY_POLICY } from "../../../operator/core/gates.ts";
import {
  isAtRest,
  leaderMove,
  unevenness,
  type LedShard,
} from "../../../operator/core/leader-balance.ts";
import type { Observed } from "../../../operator/core/observed.ts";
import { plan } from "../../../operator/core/plan.ts";
import { fed, observedOf, recordOf, replicaOf, withVoter } from "./shard-fixture.ts";

/** Shards by who leads them, on `a`, `b` and `c` unless said otherwise. */
function led(leaders: string, ensembles: Readonly<Record<number, string>> = {}): LedShard[] {
  return Array.from(leaders, (leader, shard) => ({
    name: `default/${shard}`,
    leader: leader === "-" ? null : leader,
    ensemble: (ensembles[shard] ?? "abc").split(""),
  }));
}

describe("leaderMove", () => {
  for (const [what, shards, expected] of [
    ["one each", led("abc"), null],
    ["no even spread is possible", led("abca"), null],
    ["one shard", led("a"), null],
    ["a pod without any, the others with one", led("ab"), null],
    ["a pod without any, another with two", led("aab"), "default/0 from a to c"],
    ["two without any", led("aaaa"), "default/0 from a to b"],
    ["the largest difference first", led("aaaabb"), "default/0 from a to c"],
    ["no leader now", led("aa-"), "default/0 from a to b"],
    ["only where a copy is", led("aab", { 0: "ab", 1: "abc" }), "default/1 from a to c"],
    ["one copy", led("aa", { 0: "a", 1: "a" }), null],
    ["its first place is preferred", led("aab", { 0: "abc", 1: "cab" }), "default/1 from a to c"],
  ] as const) {
    it(what, () => {
      const move = leaderMove(shards);
      const text = move && `${move.shard} from ${move.from} to ${move.to}`;
      assert.equal(text, expected);
    });
  }

  it("comes to an end, and each move makes it more even", () => {
    let shards: readonly LedShard[] = led("aaaaaaaaab");
    let moves = 0;
    for (let move = leaderMove(shards); move !== null; move = leaderMove(shards)) {
      const { shard, to } = move;
      const next = shards.map((one) => (one.name === shard ? { ...one, leader: to } : one));
      assert.ok(unevenness(next) < unevenness(shards));
      shards = next;
      moves += 1;
    }
    assert.equal(moves, 5);
    assert.equal(unevenness(shards), 16 + 9 + 9);
  });
});

describe("isAtRest", () => {
  const rests = (observed: Observed = observedOf(), record = recordOf()): boolean =>
    isAtRest(record, observed, plan(record, observed, DEFAULT_RECOVERY_POLICY));
  /** The leader has committed so much, of which `c` lacks this. */
  const lacking = (entries: number): Observed => {
    const committed = 20_000;
    const followers = [
      fed("b", { ackOffset: committed }),
      fed("c", { ackOffset: committed - entries }),
    ];
    const replica = replicaOf("a", { commitOffset: committed, followers });
    return observedOf({ a: { replica } });
  };

  it("while all vote and keep up, and nothing is to be done", () => {
    assert.equal(rests(), true);
    assert.equal(rests(lacking(10_000)), true, "as many as a pod may lack that takes over");
  });

  const learner = {
    role: "learner",
    enrolTerm: 5,
    target: { term: 5, offset: 9, crc: 0 },
  } as const;
  const busy: Readonly<Record<string, () => boolean>> = {
    "a voter is away, which nothing can be done about": () =>
      rests(observedOf({ c: { reach: "down" } })),
    "a voter lacks more than it could make up for at once": () => rests(lacking(10_001)),
    "a replica is being rebuilt": () => rests(observedOf(), withVoter("c", learner)),
    "a pod is being rebuilt for another shard": () =>
      rests(observedOf({}, { recoveringNodes: new Set(["c"]) })),
    "a pod's volumes are being deleted": () =>
      rests(observedOf({ c: { volumeTerminating: true } })),
    "a change of the ensemble is about to begin": () =>
      rests(observedOf(), recordOf({ desired: ["a", "b"] })),
    "a shard is to be opened": () => rests(observedOf({ c: { replica: null } })),
    "the leader does not serve yet": () =>
      rests(observedOf({ a: { replica: replicaOf("a", { serving: false }) } })),
    "the leader was elected a moment ago": () => rests(observedOf({}, { leaderSettling: true })),
    "nobody leads": () => rests(observedOf(), recordOf({ leader: null })),
  };
  for (const [what, atRest] of Object.entries(busy)) {
    it(`not while ${what}`, () => {
      assert.equal(atRest(), false);
    });
  }
});
