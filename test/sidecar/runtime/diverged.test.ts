/** A replica that knows something to be committed which the leader does not hold (R9). */
import assert from "node:assert/strict";
import { chainCrc, LOG_START } from "../../../sidecar/protocol/entry.ts";
import type { Append } from "../../../sidecar/protocol/gen/resilver.ts";
import { TestCluster } from "./cluster-fixture.ts";
import { HandCoordinator } from "./hand-coordinator.ts";

/** The message, as of a leader whose first entry is another one. */
function ofAnotherHistory(message: Append): Append {
  const entry = { term: 0, offset: 0, timestamp: 0, value: Buffer.from("another"), crc: 0 };
  const { term, offset, timestamp, value } = entry;
  const entryCrc = chainCrc(LOG_START.crc, term, offset, timestamp, value);
  return { ...message, previous: { ...LOG_START }, entry, entryCrc };
}

describe("a replica that holds what its leader does not", function () {
  this.timeout(30_000);
  let cluster: TestCluster;
  let coordinator: HandCoordinator;

  beforeEach(async () => {
    cluster = await TestCluster.start({
      segmentBytes: 4096,
      walRetentionMs: 0,
      walRetentionBytes: 0,
    });
    coordinator = new HandCoordinator(cluster);
    await coordinator.bootstrap("a");
    await cluster.write("a", "k", "v");
    await cluster.assertEqualStates("a");
  });

  afterEach(() => cluster.close());

  /** Until what c lacks is in the log of a no more. */
  async function trimBeyond(offset: number): Promise<void> {
    for (const part of ["1", "2"]) {
      const writes = Array.from({ length: 200 }, (_, n) =>
        cluster.write("a", `${part}-${n}`, "x".repeat(64)),
      );
      await Promise.all(writes);
      const head = cluster.status("a").head?.offset ?? -1;
      await cluster.until("a checkpoint", () => cluster.status("a").durableOffset >= head);
    }
    await cluster.until("it is trimmed", () => cluster.status("a").logFirstOffset > offset + 1);
  }

  it("stops, and is not overwritten by a snapshot after a restart, but by a person", async () => {
    const commit = cluster.status("c").commitOffset;
    let isMeddled = false;
    cluster.meddling.append = (to, message) => {
      if (to !== "c" || isMeddled) return [message];
      isMeddled = true;
      return [ofAnotherHistory(message)];
    };
    const differs = /^the leader's log differs from this replica's at offset 0, .*nothing was cut/u;
    await cluster.until("c stops", () => differs.test(cluster.status("c").fault));
    await assert.rejects(coordinator.newTerm("c"), { reason: "INVALID_STATUS" });
    // Clients who were sent here try elsewhere.
    const elsewhere = {
      reason: "NODE_IS_NOT_LEADER",
      message: /^this replica stopped: the leader/u,
    };
    await assert.rejects(cluster.read("c", "k"), elsewhere);
    await assert.rejects(cluster.write("c", "k", "v"), elsewhere);

    await cluster.stop("c");
    await trimBeyond(commit);
    await cluster.open("c");
    await coordinator.attach("c");
    await cluster.until("the snapshot is refused", () => {
      const [error] = cluster.status("c").recovery?.lastErrors ?? [];
      return error?.startsWith("no snapshot: the leader's log differs") === true;
    });
    assert.equal(cluster.status("c").appliedOffset, commit);

    await cluster.stop("c");
    await cluster.wipe("c", ["wal", "state"]);
    await cluster.open("c");
    await coordinator.openShard("c");
    await coordinator.enrol("c");
    await coordinator.promote("c");
    await cluster.assertEqualStates("a");
  });

  it("forgets it when it votes with the leader again", async () => {
    let isMeddled = false;
    cluster.meddling.append = (to, message) => {
      if (to !== "c" || isMeddled) return [message];
      isMeddled = true;
      return [ofAnotherHistory(message)];
    };
    await cluster.until("c stops", () => cluster.status("c").fault !== "");
    for (const next of ["first", "second"]) {
      await cluster.stop("c");
      if (next === "second") await trimBeyond(cluster.status("a").head?.offset ?? -1);
      await cluster.open("c");
      await coordinator.attach("c");
      await cluster.until("c votes", () => cluster.status("c").votes);
      await cluster.assertEqualStates("a");
    }
  });
});
