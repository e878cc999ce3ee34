/** A person's order to go on without a majority: whom it may name, and what it gives up. */
import assert from "node:assert/strict";
import { acknowledgement, judgeForceQuorum } from "../../../operator/core/force-quorum.ts";
import { DEFAULT_RECOVERY_POLICY } from "../../../operator/core/gates.ts";
import type { Observed } from "../../../operator/core/observed.ts";
import { plan } from "../../../operator/core/plan.ts";
import type { ShardRecord } from "../../../operator/core/record.ts";
import { NODES, observedOf, recordOf, replicaOf, voter, withVoter } from "./shard-fixture.ts";

const HEAD = { term: 5, offset: 10 };

interface Given {
  readonly record?: ShardRecord;
  readonly observed?: Observed;
  readonly survivor?: string;
  readonly stopped?: readonly string[];
  readonly acknowledge?: string;
}

/** The order that names `b`, all others stopped; "accepted", or why it is rejected. */
function answer(given: Given = {}): string {
  const survivor = given.survivor ?? "b";
  const verdict = judgeForceQuorum(
    given.record ?? recordOf(),
    given.observed ?? observedOf(),
    new Set(given.stopped ?? NODES.filter((node) => node !== survivor)),
    { survivor, acknowledgeDataLoss: given.acknowledge ?? acknowledgement(HEAD) },
  );
  return verdict.kind === "accepted" ? "accepted" : verdict.message;
}

describe("forced quorum: the survivor", () => {
  it("is a voter that is here with its data", () => {
    assert.equal(answer(), "accepted");
    const observed = observedOf({ b: { replica: replicaOf("b", { replicaUid: "b2" }) } });
    assert.match(answer({ observed }), /^survivor: b is not there with its data \(b1\)/u);
  });

  it("is none of a node that the record does not know; those allowed are named", () => {
    const message = answer({ survivor: "z", stopped: NODES });
    assert.match(message, /^survivor: z holds no vote's data; allowed: a, b, c$/u);
    const record = recordOf({ members: [voter("a", { role: "learner" })] });
    assert.match(answer({ record, survivor: "a" }), /allowed: none$/u);
  });

  it("is not away, and open on its node", () => {
    for (const change of [{ reach: "down" }, { reach: "unknown" }, { replica: null }] as const) {
      const observed = observedOf({ b: change });
      assert.match(answer({ observed }), /^survivor: b is not there/u);
    }
  });

  it("is not faulty: what a faulty log holds is not what it promised", () => {
    const observed = observedOf({ b: { replica: replicaOf("b", { fault: "checksum" }) } });
    assert.match(answer({ observed }), /^survivor: b is not there/u);
  });

  it("is no learner: it may lack what was acknowledged (R2)", () => {
    const learner = { role: "learner", enrolTerm: 5, reason: "VolumeEmpty" } as const;
    const record = withVoter("b", learner);
    assert.match(answer({ record }), /^survivor: b holds no vote's data; allowed: a, c$/u);
  });

  it("is no learner that was set back and enrolled since: its old data is set aside (R12)", () => {
    const back = { role: "learner", reason: "RolledBack" } as const;
    // Nobody else holds data: only the enrolment is in the way.
    const among = (change: { readonly enrolTerm?: number }): ShardRecord =>
      recordOf({ members: [voter("b", { ...back, ...change })] });
    assert.equal(answer({ record: among({}) }), "accepted");
    assert.match(answer({ record: among({ enrolTerm: 5 }) }), /^survivor: b holds no vote's data/u);
  });
});

describe("forced quorum: a survivor that was set back", () => {
  const demoted = withVoter("b", { role: "learner", reason: "RolledBack" });

  it("gives way to voters that may hold more, here or away", () => {
    const message = /^survivor: b was set back to an older state, a, c may hold more/u;
    assert.match(answer({ record: demoted }), message);
    const away = observedOf({ a: { reach: "down" }, c: { reach: "unknown" } });
    assert.match(answer({ record: demoted, observed: away }), message);
  });

  it("gives way while it still has its vote, too", () => {
    const observed = observedOf({ b: { replica: replicaOf("b", { rolledBack: true }) } });
    assert.match(answer({ observed }), /a, c may hold more/u);
  });

  it("does not give way to voters that lost their data or were set back themselves", () => {
    const observed = observedOf({
      a: { replica: replicaOf("a", { replicaUid: "a2" }) },
      c: { replica: replicaOf("c", { rolledBack: true }) },
    });
    assert.equal(answer({ record: demoted, observed }), "accepted");
    // One intact voter among them is enough.
    const one = observedOf({ a: { replica: replicaOf("a", { replicaUid: "a2" }) } });
    assert.match(answer({ record: demoted, observed: one }), /, c may hold more/u);
  });

  it("does not give way to learners", () => {
    const members = [
      voter("a", { role: "learner", reason: "VolumeEmpty" }),
      voter("b", { role: "learner", reason: "RolledBack" }),
    ];
    assert.equal(answer({ record: recordOf({ members }) }), "accepted");
  });
});

describe("forced quorum: the order", () => {
  it("waits until every other member is stopped", () => {
    const message = /^stop first, so that nothing is acknowledged meanwhile: c$/u;
    assert.match(answer({ stopped: ["a"] }), message);
    assert.match(answer({ stopped: ["a", "b"] }), message);
  });

  it("names exactly up to where data is kept", () => {
    for (const acknowledge of ["", "lose everything after offset 9", `${acknowledgement(HEAD)} `]) {
      const expected = 'acknowledgeDataLoss: must be exactly "lose everything after offset 10"';
      assert.equal(answer({ acknowledge }), expected);
    }
  });

  describe("where another voter has newer entries", () => {
    const head = (term: number, offset: number) => ({ head: { term, offset, crc: 0 } });
    const although = acknowledgement(HEAD, "c");

    it("names it, and takes the survivor at the person's word alone", () => {
      for (const newer of [head(5, 11), head(6, 2)]) {
        for (const reach of ["down", "up", "unknown"] as const) {
          const observed = observedOf({ c: { reach, replica: replicaOf("c", newer) } });
          const message = answer({ observed });
          assert.match(
            message,
            /^survivor: b ends at \(5, 10\), c last reported \(\d, \d+\): choose/u,
          );
          assert.ok(message.endsWith(`must be exactly "${although}"`), message);
          assert.equal(answer({ observed, acknowledge: although }), "accepted");
        }
      }
      assert.equal(although, "lose everything after offset 10, although c has newer entries");
      assert.match(
        answer({ acknowledge: although }),
        /exactly "lose everything after offset 10"$/u,
      );
    });

    it("goes by the term before the offset, and names the newest", () => {
      const older = observedOf({ c: { replica: replicaOf("c", head(4, 99)) } });
      assert.equal(answer({ observed: older }), "accepted");
      const two = observedOf({
        a: { replica: replicaOf("a", head(5, 12)) },
        c: { replica: replicaOf("c", head(6, 1)) },
      });
      assert.match(answer({ observed: two }), /, c last reported \(6, 1\)/u);
    });

    it("not of what was wiped, only learns, or was set back while the survivor was not", () => {
      const newer = head(6, 20);
      const wiped = observedOf({ c: { replica: replicaOf("c", { ...newer, replicaUid: "c2" }) } });
      assert.equal(answer({ observed: wiped }), "accepted");
      const observed = observedOf({ c: { replica: replicaOf("c", newer) } });
      const learner = withVoter("c", { role: "learner", reason: "VolumeEmpty" });
      assert.equal(answer({ observed, record: learner }), "accepted");
      const back = withVoter("c", { role: "learner", reason: "RolledBack" });
      assert.equal(answer({ observed, record: back }), "accepted");
    });

    it("where all were set back, counts what these hold", () => {
      const change = { role: "learner", reason: "RolledBack" } as const;
      const record = recordOf({ members: NODES.map((node) => voter(node, change)) });
      const observed = observedOf({ c: { replica: replicaOf("c", head(6, 20)) } });
      assert.match(answer({ observed, record }), /, c last reported \(6, 20\)/u);
    });
  });

  it("of a survivor that holds nothing at all says so", () => {
    const [a, c] = [{ replica: null }, { replica: null }];
    const observed = observedOf({ a, b: { replica: replicaOf("b", { head: undefined }) }, c });
    const verdict = judgeForceQuorum(recordOf(), observed, new Set(["a", "c"]), {
      survivor: "b",
      acknowledgeDataLoss: "lose everything after offset -1",
    });
    assert.deepEqual(verdict.kind === "accepted" && verdict.record.commitFloor, {
      term: -1,
      offset: -1,
    });
  });

  it("leaves the survivor alone, held to nothing, in a new loss epoch (R3)", () => {
    const before = recordOf({
      lossEpoch: 4,
      desired: ["b", "c", "d"],
      next: { ensemble: ["b", "c", "d"], joint: true },
      members: [voter("a"), voter("b", { reason: "Corrupt", recoveries: 2 }), voter("c")],
    });
    const order = { survivor: "b", acknowledgeDataLoss: acknowledgement(HEAD) };
    const verdict = judgeForceQuorum(before, observedOf(), new Set(["a", "c"]), order);
    const { next: _next, ...kept } = before;
    assert.deepEqual(verdict, {
      kind: "accepted",
      record: {
        ...kept,
        lossEpoch: 5,
        leader: null,
        ensemble: ["b"],
        members: [{ node: "b", replicaUid: "b1", role: "voter", ackedTerm: -1, recoveries: 2 }],
        ensembleTerm: 5,
        commitFloor: HEAD,
      },
    });
  });

  it("is obeyed where the survivor is on another claim: every volume was restored (H19)", () => {
    const pvcUids = { data: "old-data", wal: "old-wal" };
    const members = NODES.map((node) =>
      voter(node, { role: "learner", reason: "RolledBack", ackedTerm: -1, pvcUids }),
    );
    const claims = { data: "restored-data", wal: "restored-wal" };
    const observed = observedOf({ a: { claims }, b: { claims }, c: { claims } });
    const order = { survivor: "b", acknowledgeDataLoss: acknowledgement(HEAD) };
    const before = recordOf({ leader: null, members });
    const verdict = judgeForceQuorum(before, observed, new Set(["a", "c"]), order);
    assert.ok(verdict.kind === "accepted");
    const next = plan(verdict.record, observed, DEFAULT_RECOVERY_POLICY);
    assert.deepEqual(
      next.actions.map(({ kind }) => kind),
      ["elect"],
    );
  });
});
