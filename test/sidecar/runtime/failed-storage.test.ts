import assert from "node:assert/strict";
import { DiskError } from "../../../sidecar/lib/ports/disk.ts";
import type { DiskAct } from "../../support/meddled-disk.ts";
import { TestCluster } from "./cluster-fixture.ts";
import { HandCoordinator } from "./hand-coordinator.ts";

/** More keys than one slice of a checkpoint holds, so that it needs its journal. */
const KEYS = 1_100;

describe("a disk that fails under a cluster", function () {
  this.timeout(30_000);
  let cluster: TestCluster;
  let coordinator: HandCoordinator;

  beforeEach(async () => {
    // No checkpoint of its own accord.
    cluster = await TestCluster.start({ checkpointIntervalMs: 1_000_000 });
    coordinator = new HandCoordinator(cluster);
    await coordinator.bootstrap("a");
  });

  afterEach(async () => {
    delete cluster.meddling.disk;
    await cluster.close();
  });

  /** Fails what matches, each time. */
  function fail(act: DiskAct, path: RegExp, error: { fatal: boolean; code?: "NO_SPACE" }): void {
    cluster.meddling.disk = (now, at) => {
      if (now !== act || !path.test(at)) return;
      throw new DiskError(error.code ?? "IO", at, `${act} fails`, { fatal: error.fatal });
    };
  }

  /** Waits for the error that ends a node. */
  async function fatal(): Promise<Error> {
    await cluster.until("a node ends", () => cluster.fatal.length > 0).catch(() => undefined);
    const [error] = cluster.fatal.splice(0);
    assert(error !== undefined, "no node ended");
    return error;
  }

  it("ends a leader whose sync failed in the checkpoint that a snapshot wants (R14)", async () => {
    await Promise.all(Array.from({ length: KEYS }, (_, at) => cluster.write("a", `k${at}`, "v")));
    await cluster.stop("c");
    await cluster.wipe("c", ["wal", "state"]);
    await cluster.open("c");
    await coordinator.openShard("c");
    fail("sync", /^a\/state\/.*\/redo$/u, { fatal: true });
    await coordinator.enrol("c");
    assert.match((await fatal()).message, /sync fails/u);
    // Nor does a second attempt, which would find nothing to write, make it good.
    delete cluster.meddling.disk;
    await assert.rejects(cluster.stop("a"), /sync fails/u);
  });
});
