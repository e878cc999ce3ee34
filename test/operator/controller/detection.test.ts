/** How long a coordinator takes to see what happened, in simulated time: calls take none of it. */
import { DEFAULT_TIMINGS, SHARED_TIMINGS } from "../../../operator/controller/timings.ts";
import { FakeCluster, whileQuiet } from "./fake-cluster.ts";

describe("Coordinator: how soon it acts in a quiet store", () => {
  for (const [name, timings] of [
    ["a few stores", DEFAULT_TIMINGS],
    ["a thousand stores", SHARED_TIMINGS],
  ] as const) {
    it(`with ${name}: within a second of a start upon a lost disk`, () =>
      whileQuiet(timings, async (cluster, coordinator) => {
        const follower = [...cluster.nodes.keys()].find((node) => node !== cluster.leader()) ?? "";
        cluster.kill(follower);
        await cluster.clock.pass(10_000);
        const uid = cluster.wipe(follower);
        // As a platform does that sees the pod start.
        coordinator.lookAgain(follower);
        const started = (): boolean =>
          cluster.events.some((event) => event.kind === "recoveryStarted" && event.newUid === uid);
        await cluster.clock.until("it is being rebuilt", 1_000, started);
      }));
  }

  it("upon a lost disk, though it was tried where the pod was before", () =>
    whileQuiet(SHARED_TIMINGS, async (cluster, coordinator) => {
      const follower = [...cluster.nodes.keys()].find((node) => node !== cluster.leader()) ?? "";
      const streams = cluster.watchStatus.bind(cluster);
      // Nobody is at the old address: neither an answer nor a refusal comes from there.
      let moved = false;
      cluster.watchStatus = async function* (to, request, signal) {
        if (to.node === follower && !moved) await cluster.clock.sleep(60_000, signal);
        signal.throwIfAborted();
        yield* streams(to, request, signal);
      };
      cluster.kill(follower);
      await cluster.clock.pass(1_000);
      const uid = cluster.wipe(follower);
      moved = true;
      coordinator.lookAgain(follower, true);
      const started = (): boolean =>
        cluster.events.some((event) => event.kind === "recoveryStarted" && event.newUid === uid);
      await cluster.clock.until("it is being rebuilt", 1_000, started);
    }));

  for (const [how, withinMs, strike] of [
    ["whose connection broke", 250, (cluster, leader) => cluster.kill(leader)],
    [
      "that is silent",
      4_000,
      (cluster, leader) => {
        cluster.node(leader).frozen = true;
      },
    ],
  ] as readonly [string, number, (cluster: FakeCluster, leader: string) => void][]) {
    it(`with a thousand stores: within ${withinMs} ms upon a leader ${how}`, () =>
      whileQuiet(SHARED_TIMINGS, async (cluster) => {
        const leader = cluster.leader() ?? "";
        strike(cluster, leader);
        const another = (): boolean => ![null, leader].includes(cluster.leader());
        await cluster.clock.until("another leads", withinMs, another);
      }));
  }
});
