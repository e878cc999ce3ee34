import assert from "node:assert/strict";
import type { Effect } from "../../../sidecar/core/effect.ts";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import { Replica } from "../../../sidecar/core/replica.ts";
import type { CoreOptions } from "../../../sidecar/core/replica-state.ts";
import type { Peer } from "../../../sidecar/protocol/gen/resilver.ts";

const SHARD = { namespace: "default", shard: 0, storeId: "store" };
const PEER: Peer = {
  ...SHARD,
  term: 6,
  leaderUid: "b1",
  targetUid: "f1",
  generation: 1,
  majorityHolds: false,
};

/** A voter of term 5. */
function follower(): Replica {
  const promised = {
    term: 5,
    previousTerm: 4,
    rolledBack: false,
    generation: 0,
    lossEpoch: 0,
    member: true,
    enrolled: null,
  };
  return new Replica(
    {
      node: "f",
      storeId: "store",
      uid: "f1",
      bootCounter: 1,
      formattedBefore: true,
      promised,
      log: new LogIndex(),
      applied: -1,
    },
    {} as CoreOptions,
  );
}

function refused(effects: readonly Effect[]): string | undefined {
  const [effect] = effects;
  return effect?.kind === "closeStream" ? effect.refusal?.reason : undefined;
}

describe("replication core: an enrolment that is not saved yet", () => {
  it("lets no stream and no snapshot of its leader in (R8)", () => {
    const core = follower();
    const request = { ...SHARD, term: 6, targetUid: "f1", generation: 1, leaderUid: "b1" };
    const effects = core.step({
      kind: "enrol",
      id: 1,
      request: { ...request, options: undefined },
    });
    const save = effects.find(({ kind }) => kind === "persistMeta");
    assert(save?.kind === "persistMeta");
    const stream = core.step({ kind: "streamOpened", streamId: 1, peer: PEER });
    assert.equal(refused(stream), "RESOURCE_UNAVAILABLE");
    const install = core.step({ kind: "installBegin", streamId: 2, peer: PEER });
    assert.equal(refused(install), "RESOURCE_UNAVAILABLE");
    core.step({ kind: "metaPersisted", token: save.token });
    assert.deepEqual(core.step({ kind: "streamOpened", streamId: 3, peer: PEER }), []);
    const [begun] = core.step({ kind: "installBegin", streamId: 4, peer: PEER });
    assert.equal(begun?.kind, "acceptInstall");
  });

  it("is saved once however often it is asked for, and answers those who still wait", () => {
    const core = follower();
    const order = { ...SHARD, term: 6, targetUid: "f1", generation: 1, leaderUid: "b1" };
    const request = { ...order, options: undefined };
    const saves = [1, 2, 3].flatMap((id) =>
      core.step({ kind: "enrol", id, request }).filter(({ kind }) => kind === "persistMeta"),
    );
    assert.equal(saves.length, 1);
    const [save] = saves;
    assert(save?.kind === "persistMeta");
    core.step({ kind: "cancelled", id: 1 });
    core.step({ kind: "cancelled", id: 3 });
    const stream = core.step({ kind: "streamOpened", streamId: 1, peer: PEER });
    assert.equal(refused(stream), "RESOURCE_UNAVAILABLE");
    const answered = core.step({ kind: "metaPersisted", token: save.token });
    assert.deepEqual(
      answered.map((effect) => effect.kind === "reply" && effect.id),
      [2],
    );
    assert.deepEqual(core.step({ kind: "streamOpened", streamId: 2, peer: PEER }), []);
    const [late] = core.step({ kind: "enrol", id: 4, request });
    assert.ok(late?.kind === "reply" && late.id === 4);
  });

  it("is not over when all who asked for it have gone (R8)", () => {
    const core = follower();
    const order = { ...SHARD, term: 6, targetUid: "f1", generation: 1, leaderUid: "b1" };
    core.step({ kind: "enrol", id: 1, request: { ...order, options: undefined } });
    core.step({ kind: "cancelled", id: 1 });
    const install = core.step({ kind: "installBegin", streamId: 2, peer: PEER });
    assert.equal(refused(install), "RESOURCE_UNAVAILABLE");
  });
});
