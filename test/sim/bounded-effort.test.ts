import assert from "node:assert/strict";
import { Peer } from "../../sidecar/protocol/gen/resilver.ts";
import { Referee } from "./referee.ts";
import type { StoreLife } from "./store-life.ts";
import { unharmedStore } from "./unharmed-store.ts";

/** So long, its leader opens more streams to a follower than are allowed within ten seconds. */
const AWAY_MS = 300_000;
/** What waited has arrived by then. */
const ARRIVES_MS = 2_000;
/** A store of three nodes that nothing harms. */
const store = (): Promise<StoreLife> => unharmedStore({ namespaces: [1] });

describe("simulator: bounded effort (I20)", function () {
  this.timeout(60_000);

  it("a follower that was cut off and stopped may find minutes' worth of streams at once", async () => {
    const { cluster } = await store();
    const { time, network, referee, shard } = cluster;
    const leader = shard.record?.leader?.node ?? "";
    const follower = cluster.nodes.find(({ name }) => name !== leader);
    const process = follower?.process ?? null;
    assert.ok(process !== null);
    let arrived = 0;
    const own = shard.referee;
    const told = own.streamArrived.bind(own);
    own.streamArrived = (...stream) => {
      arrived += 1;
      told(...stream);
    };
    const ways = [
      [leader, process.name],
      [process.name, leader],
    ] as const;
    for (const [from, to] of ways) network.block(from, to);
    process.pausedUntilMs = time.nowMs + AWAY_MS + ARRIVES_MS;
    await time.run(AWAY_MS, () => referee.violation !== null);
    for (const [from, to] of ways) network.unblock(from, to);
    await time.run(2 * ARRIVES_MS, () => referee.violation !== null);
    assert.equal(referee.violation, null, JSON.stringify(referee.violations));
    assert.ok(arrived > 60, `${arrived} streams prove nothing`);
  });

  it("notices a leader that opens streams in a hurry, also when they arrive late", () => {
    const peer = Peer.fromPartial({ namespace: "default", leaderUid: "l", targetUid: "f" });
    const opened = (gapMs: number): Referee => {
      const referee = new Referee([{ namespace: "default", shard: 0 }]);
      for (let i = 0; i < 61; i += 1) referee.of(peer).streamArrived(peer, i * gapMs);
      return referee;
    };
    assert.equal(opened(1_000).violation, null);
    assert.equal(opened(100).violation?.invariant, "I20");
  });
});
