/** A small store that nothing harms but the test itself. */
import assert from "node:assert/strict";
import type { CoordinatorOptions } from "../../operator/controller/coordinator.ts";
import { Chance } from "./chance.ts";
import { SimCluster } from "./cluster.ts";
import { Nemesis } from "./nemesis.ts";
import { optionsOf, type SimOptions } from "./options.ts";
import { StoreLife } from "./store-life.ts";
import { Trace } from "./trace.ts";
import { Workload } from "./workload.ts";

const SEED = 1;
/** Three nodes, and clients that do nothing. */
const UNHARMED: Partial<SimOptions> = {
  nodes: 3,
  spares: 0,
  faults: [],
  quiet: null,
  lasting: null,
  kube: null,
};

/** One that serves, with these options of its own. */
export async function unharmedStore(
  own: Partial<SimOptions>,
  alterCoordinator = (same: CoordinatorOptions): CoordinatorOptions => same,
): Promise<StoreLife> {
  const chance = new Chance(SEED);
  const options = { ...optionsOf(SEED, chance), ...UNHARMED, ...own };
  const part = (): Chance => new Chance(chance.below(2 ** 31));
  const cluster = new SimCluster(options, part(), new Trace(200), { alterCoordinator });
  const nemesis = new Nemesis(cluster, part());
  const life = new StoreLife(cluster, nemesis, new Workload(cluster, part()));
  assert.ok(await life.start(), JSON.stringify(cluster.referee.violations));
  return life;
}
