/** A replica whose log another build wrote. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { createNodeDisk } from "../../../sidecar/os/node-disk.ts";
import { rewriteAsFormat1, rewriteAsLater } from "../../support/log-formats.ts";
import { TestCluster } from "./cluster-fixture.ts";
import { HandCoordinator } from "./hand-coordinator.ts";

describe("a log that another build wrote", function () {
  this.timeout(30_000);
  let cluster: TestCluster;
  let coordinator: HandCoordinator;
  let uid = "";

  beforeEach(async () => {
    cluster = await TestCluster.start();
    coordinator = new HandCoordinator(cluster);
    await coordinator.bootstrap("a");
    await cluster.write("a", "k", "v");
    await cluster.assertEqualStates("a");
    uid = cluster.status("b").replicaUid;
    await cluster.stop("b");
  });

  afterEach(() => cluster.close());

  async function assertGoesOn(): Promise<void> {
    await cluster.open("b");
    assert.equal(cluster.status("b").replicaUid, uid);
    await coordinator.attach("b");
    await cluster.write("a", "k", "w");
    await cluster.assertEqualStates("a");
  }

  it("is read when it is an earlier one, and the replica stays who it is", async () => {
    await rewriteAsFormat1(createNodeDisk(), cluster.logDir("b"));
    await assertGoesOn();
  });

  for (const name of ["marks", "00000000000000000000.wal"]) {
    it(`ends the process when it is a later one, and nothing is given up (${name})`, async () => {
      const path = `${cluster.logDir("b")}/${name}`;
      const bytes = await readFile(path);
      await rewriteAsLater(createNodeDisk(), path);
      const refused = { name: "WalFormatUnknown", message: /: format is 3, allowed: 1, 2; / };
      await assert.rejects(cluster.open("b"), refused);
      await writeFile(path, bytes);
      await assertGoesOn();
    });
  }
});
