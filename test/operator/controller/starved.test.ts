/** A coordinator with too much to do hears late what nodes say, and must not give them up. */
import assert from "node:assert/strict";
import { CallFailed } from "../../../operator/controller/ports.ts";
import { DEFAULT_TIMINGS, SHARED_TIMINGS } from "../../../operator/controller/timings.ts";
import { type FakeCluster, whileQuiet } from "./fake-cluster.ts";

/** So long after its deadline a call is over: what was due waited for its turn. */
const LATE_MS = 3_000;

/** For this long no answer is read in time. */
function starve(cluster: FakeCluster, forMs: number): void {
  const { clock } = cluster;
  const untilMs = clock.monotonicMs() + forMs;
  const asked = cluster.getInfo;
  cluster.getInfo = async (to, call) => {
    if (clock.monotonicMs() >= untilMs) return await asked(to, call);
    await clock.sleep(call.deadlineMs + LATE_MS, call.signal);
    throw new CallFailed(to.node, "deadline", true);
  };
}

for (const [name, timings] of [
  ["a few stores", DEFAULT_TIMINGS],
  ["a thousand stores", SHARED_TIMINGS],
] as const) {
  describe(`Coordinator of ${name}, starved`, () => {
    it("does not give up nodes whose streams broke: it asks again", () =>
      whileQuiet(timings, async (cluster) => {
        const { term } = cluster.record;
        cluster.events.length = 0;
        starve(cluster, 5_000);
        for (const { streams } of cluster.nodes.values()) for (const end of [...streams]) end();
        await cluster.clock.pass(12_000);
        assert.deepEqual(cluster.events, []);
        assert.equal(cluster.record.term, term);
      }));

    it("does not count the time in which it could not have heard a node", () =>
      whileQuiet(timings, async (cluster) => {
        const { term } = cluster.record;
        cluster.events.length = 0;
        starve(cluster, 20_000);
        await cluster.clock.pass(30_000);
        assert.deepEqual(cluster.events, []);
        assert.equal(cluster.record.term, term);
      }));

    it("gives up a node that does not answer when it has time again", () =>
      whileQuiet(timings, async (cluster) => {
        const leader = cluster.leader() ?? "";
        starve(cluster, 10_000);
        cluster.node(leader).frozen = true;
        const another = (): boolean => ![null, leader].includes(cluster.leader());
        await cluster.clock.until("another leads", 20_000, another);
      }));
  });
}
