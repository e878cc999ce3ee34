/** A store's leaders, once a pod that was down is back. */
import assert from "node:assert/strict";
import type { CoordinatorOptions } from "../../operator/controller/coordinator.ts";
import type { SimNode } from "./sim-node.ts";
import type { StoreLife } from "./store-life.ts";
import { unharmedStore } from "./unharmed-store.ts";

const MINUTE_MS = 60_000;

/** Three shards on three nodes that nothing harms; each votes and is led. */
async function store(
  alterCoordinator?: (same: CoordinatorOptions) => CoordinatorOptions,
): Promise<StoreLife> {
  const own = { namespaces: [2, 1], record: { failBefore: 0, failAfter: 0 } };
  const life = await unharmedStore(own, alterCoordinator);
  await life.until("L1", MINUTE_MS, () => life.settled() === null);
  return life;
}

/** Who leads each shard, by the records. */
function leaders({ cluster }: StoreLife): readonly string[] {
  return cluster.shards.map(({ record }) => record?.leader?.node ?? "");
}

function areSpread(life: StoreLife): boolean {
  const led = leaders(life);
  return new Set(led).size === 3 && !led.includes("");
}

function terms({ cluster }: StoreLife): number {
  return cluster.shards.reduce((sum, { record }) => sum + (record?.term ?? 0), 0);
}

/** Lets this much time pass. */
async function pass({ cluster }: StoreLife, ms: number): Promise<void> {
  await cluster.time.run(ms, () => false);
}

/** One node goes and comes back: the others lead all shards. */
async function away(life: StoreLife, node: SimNode): Promise<void> {
  const { cluster } = life;
  cluster.kill(node, { power: false, silent: false });
  const led = (): boolean => !leaders(life).some((name) => name === "" || name === node.name);
  assert.ok(await cluster.time.run(MINUTE_MS, led), leaders(life).join());
  cluster.boot(node);
  assert.ok(await life.until("L1", MINUTE_MS, () => life.settled() === null));
}

describe("Coordinator: leaders over pods", function () {
  this.timeout(60_000);

  it("are spread again after a pod was away, once it was quiet for a while, and then stay", async () => {
    const life = await store();
    const { cluster } = life;
    assert.ok(areSpread(life), leaders(life).join());
    await away(life, cluster.node("c"));
    const before = terms(life);
    await pass(life, 25_000);
    assert.equal(terms(life), before, "not at once");
    assert.ok(await cluster.time.run(10_000, () => areSpread(life)), leaders(life).join());
    await pass(life, 10 * MINUTE_MS);
    assert.ok(areSpread(life), leaders(life).join());
    assert.equal(terms(life), before + 1, "one election is all it took");
    assert.equal(cluster.referee.violation, null);
  });

  it("stay when the pod that was to lead is lost just then, and are spread when it is back", async () => {
    let armed = false;
    const life = await store((same) => {
      const { sidecars } = same;
      return {
        ...same,
        sidecars: {
          ...sidecars,
          // Before a leader is given up its followers are asked whether they are there.
          getInfo: (to, call) => {
            if (armed && to.node === "c") {
              armed = false;
              life.cluster.kill(life.cluster.node("c"), { power: true, silent: true });
            }
            return sidecars.getInfo(to, call);
          },
        },
      };
    });
    const { cluster } = life;
    await away(life, cluster.node("c"));
    const before = terms(life);
    armed = true;
    assert.ok(await cluster.time.run(MINUTE_MS, () => !armed), "it was about to lead");
    await pass(life, 5 * MINUTE_MS);
    assert.equal(terms(life), before, "nobody could take its place in what it was to lead");
    cluster.boot(cluster.node("c"));
    assert.ok(await cluster.time.run(3 * MINUTE_MS, () => areSpread(life)), leaders(life).join());
  });

  it("stay while the pods are not settled", async () => {
    let settled = false;
    const life = await store((same) => ({ ...same, podsSettled: () => settled }));
    await away(life, life.cluster.node("c"));
    const before = terms(life);
    await pass(life, 5 * MINUTE_MS);
    assert.equal(terms(life), before);
    settled = true;
    assert.ok(await life.cluster.time.run(35_000, () => areSpread(life)), leaders(life).join());
  });

  it("are moved less and less often to a pod that keeps losing them", async () => {
    const life = await store();
    let moved = 0;
    for (
      const endMs = life.cluster.time.nowMs + 30 * MINUTE_MS;
      life.cluster.time.nowMs < endMs;
    ) {
      await away(life, life.cluster.node("c"));
      if (await life.cluster.time.run(endMs - life.cluster.time.nowMs, () => areSpread(life))) {
        moved += 1;
      }
    }
    // At 30 s each it would be thirty times.
    assert.ok(moved >= 3 && moved <= 5, `${moved} times`);
  });
});
