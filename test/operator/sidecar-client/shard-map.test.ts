import assert from "node:assert/strict";
import fc from "fast-check";
import { hierarchicalOrder, mergeSorted } from "../../../operator/sidecar-client/key-order.ts";
import { hashOfKey, routesOf, shardOfKey } from "../../../operator/sidecar-client/shard-map.ts";

const assignments = (leaders: readonly string[]) => ({
  namespaces: {
    default: {
      assignments: leaders.map((leader, shard) => ({
        shard,
        leader,
        shardBoundaries: {
          $case: "int32HashRange" as const,
          value: {
            minHashInclusive: shard * 0x4000_0000,
            maxHashInclusive: shard * 0x4000_0000 + 0x3fff_ffff,
          },
        },
      })),
      shardKeyRouter: 1 as const,
    },
  },
  allowedAuthorities: [],
});

describe("shard map", () => {
  it("hashes as Oxia's clients do", () => {
    // Published vectors of XXH3-64: the empty input is 2d06800538d394c2.
    assert.equal(hashOfKey(""), 0x38d3_94c2);
  });

  it("routes every key to exactly the shard whose range holds its hash", () => {
    const routes = routesOf(assignments(["a", "b", "c", "d"]), "default") ?? [];
    fc.assert(
      fc.property(fc.string(), (key) => {
        assert.equal(shardOfKey(routes, key), Math.floor(hashOfKey(key) / 0x4000_0000));
      }),
    );
    assert.equal(shardOfKey([], "x"), null);
    assert.equal(routesOf(assignments(["a"]), "other"), null);
  });
});

describe("mergeSorted", () => {
  it("gives the same as sorting everything", async () => {
    const lists = fc.array(fc.array(fc.string({ unit: fc.constantFrom("/", "a", "b") })));
    await fc.assert(
      fc.asyncProperty(lists, async (unsorted) => {
        const sorted = unsorted.map((list) => [...list].sort(hierarchicalOrder));
        const merged: string[] = [];
        const sources = sorted.map((list) => stream(list));
        for await (const key of mergeSorted(sources, (key) => key, hierarchicalOrder))
          merged.push(key);
        assert.deepEqual(merged, unsorted.flat().sort(hierarchicalOrder));
      }),
    );
  });

  it("stops its sources when abandoned", async () => {
    let stopped = 0;
    async function* endless() {
      try {
        for (let n = 0; ; n += 1) yield String(n);
      } finally {
        stopped += 1;
      }
    }
    for await (const _ of mergeSorted([endless(), endless()], (key) => key, hierarchicalOrder))
      break;
    assert.equal(stopped, 2);
  });
});

async function* stream<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}
