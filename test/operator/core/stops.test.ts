/** When nothing more is done for a shard until a person says so. */
import assert from "node:assert/strict";
import type { ObservedNode } from "../../../operator/core/observed.ts";
import { voterEvidence } from "../../../operator/core/observed.ts";
import { belowFloor, lostQuorum, lostRecord, staleRecord } from "../../../operator/core/stops.ts";
import { ServingStatus } from "../../../sidecar/protocol/gen/resilver.ts";
import { observedOf, recordOf, replicaOf, voter, withVoter } from "./shard-fixture.ts";

type Change = Parameters<typeof replicaOf>[1];

describe("stop: the record is old (R18)", () => {
  const stale = (change: Change, about: Partial<ObservedNode> = {}): string | undefined =>
    staleRecord(recordOf(), observedOf({ b: { replica: replicaOf("b", change), ...about } }))
      ?.message;

  it("when a replica knows a higher term or generation", () => {
    assert.match(stale({ term: 6 }) ?? "", /^b has seen term 6, the record says 5:/u);
    assert.match(stale({ generation: 4 }) ?? "", /^b has seen generation 4, the record says 3:/u);
    assert.equal(stale({}), undefined);
    assert.equal(stale({ term: 4, generation: 2 }), undefined);
  });

  it("not by what a replica of another store knows, or one whose report is no longer current", () => {
    assert.equal(stale({ term: 6, storeId: "other" }), undefined);
    assert.equal(stale({ term: 6 }, { reach: "down" }), undefined);
    assert.equal(stale({}, { replica: null }), undefined);
  });
});

describe("stop: the record is lost (R11)", () => {
  const unborn = recordOf({ initialized: false, leader: null, members: [] });
  const none = { replica: null };
  const lost = (b: Partial<ObservedNode>, record = unborn): string | undefined =>
    lostRecord(record, observedOf({ a: none, b, c: none }))?.reason;
  const empty = { status: ServingStatus.NOT_MEMBER, formattedBefore: false };

  it("when a replica was formatted before, or is in any status but that of a new one", () => {
    assert.equal(
      lost({ replica: replicaOf("b", { ...empty, formattedBefore: true }) }),
      "RecordLost",
    );
    const fenced = { ...empty, status: ServingStatus.FENCED };
    assert.equal(lost({ replica: replicaOf("b", fenced) }), "RecordLost");
  });

  it("not while replicas are new, or none is there", () => {
    assert.equal(lost({ replica: replicaOf("b", empty) }), undefined);
    assert.equal(lost(none), undefined);
  });

  it("never when the record is there", () => {
    assert.equal(lost({ replica: replicaOf("b") }, recordOf()), undefined);
  });

  const message = (b: Partial<ObservedNode>): string =>
    lostRecord(unborn, observedOf({ a: none, b: { ...none, ...b }, c: none }))?.message ?? "";

  it("when a node's directories are of a store that has no record here", () => {
    const openRefusal = { reason: "WRONG_STORE", message: "storeId is s2", dataOf: "s2" };
    assert.equal(lost({ ...none, openRefusal }), "RecordLost");
    // What keeps the data comes first.
    assert.match(
      message({ openRefusal }),
      /yet b holds data of it that store s2 wrote \(storeId is s2\)\. If this store was made again, restore the records of store s2 from a backup; to start empty, /u,
    );
    // Whoever is away may come back with another volume.
    assert.equal(lost({ ...none, openRefusal, reach: "down" }), undefined);
    assert.equal(lost({ ...none, openRefusal }, recordOf()), undefined);
  });

  it("nor when a node is another store's or shard's, which has its own name", () => {
    const openRefusal = { reason: "WRONG_STORE", message: "it belongs to s2", dataOf: null };
    assert.equal(lost({ ...none, openRefusal }), "WrongStore");
    assert.match(message({ openRefusal }), /^b is not this shard's: it belongs to s2\. /u);
    assert.equal(lost({ ...none, openRefusal: { ...openRefusal, reason: "BUSY" } }), undefined);
    assert.equal(lost({ ...none, openRefusal, reach: "down" }), undefined);
  });
});

describe("stop: data loss is suspected (R6)", () => {
  it("for as long as what the election saw has not changed", () => {
    const before = observedOf();
    const evidence = voterEvidence(recordOf(), before);
    const found = {
      ...before,
      belowFloor: { evidence, best: { node: "c", head: { term: 4, offset: 2 } } },
    };
    const stop = belowFloor(recordOf(), found);
    assert.equal(stop?.reason, "DataLossSuspected");
    assert.match(
      stop?.message ?? "",
      /entry \(5, 0\) was committed.* found is on c and ends at \(4, 2\)\. /u,
    );
    assert.equal(belowFloor(recordOf(), before), null);
    for (const b of [
      { reach: "down" },
      { replica: null },
      { replica: replicaOf("b", { replicaUid: "b2" }) },
      { replica: replicaOf("b", { bootCounter: 2 }) },
    ] as const) {
      const changed = { ...observedOf({ b }), belowFloor: found.belowFloor };
      assert.equal(belowFloor(recordOf(), changed), null);
    }
    assert.equal(belowFloor(withVoter("b", { role: "learner" }), found), null);
    assert.equal(belowFloor(recordOf(), { ...found, nodes: new Map() }), null);
  });
});

describe("stop: the quorum is lost", () => {
  const other = (node: string) => ({ replica: replicaOf(node, { replicaUid: `${node}2` }) });

  it("when a majority of the voters lost its data, not when it is away", () => {
    assert.equal(lostQuorum(recordOf(), observedOf({ b: other("b") })), null);
    const away = observedOf({ a: { reach: "down" }, b: { reach: "down" }, c: { reach: "down" } });
    assert.equal(lostQuorum(recordOf(), away), null);
    const stop = lostQuorum(recordOf(), observedOf({ b: other("b"), c: other("c") }));
    assert.equal(stop?.reason, "QuorumLost");
    assert.match(
      stop?.message ?? "",
      /Left with data, the newest first: a \(up to \(5, 10\)\)\. /u,
    );
  });

  it("names what each survivor holds, by what it said last, so that people can choose", () => {
    const five = ["a", "b", "c", "d", "e"];
    const members = five.map((node) => voter(node));
    const record = recordOf({ ensemble: five, members });
    const lost = Object.fromEntries(["c", "d", "e"].map((node) => [node, other(node)]));
    const head = { term: 6, offset: 2, crc: 0 };
    const b = { reach: "down", replica: replicaOf("b", { head }) } as const;
    const told = (change: Partial<ObservedNode>): string =>
      lostQuorum(record, observedOf({ ...lost, b: change }))?.message ?? "";
    assert.match(told(b), /the newest first: b \(up to \(6, 2\)\), a \(up to \(5, 10\)\)\. /u);
    assert.match(
      told({ reach: "unknown", replica: null }),
      /: a \(up to \(5, 10\)\), b \(not known\)\. /u,
    );
  });

  it("says so when nobody is left", () => {
    const all = observedOf({ a: other("a"), b: other("b"), c: other("c") });
    assert.match(lostQuorum(recordOf(), all)?.message ?? "", /No voter holds data\./u);
  });
});
