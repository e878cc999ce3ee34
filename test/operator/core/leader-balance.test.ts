import assert from "node:assert/strict";
import { leaderMove, unevenness, type LedShard } from "../../../operator/core/leader-balance.ts";

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
