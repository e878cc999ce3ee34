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
});
