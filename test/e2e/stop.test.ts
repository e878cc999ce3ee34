import assert from "node:assert/strict";
import { once } from "node:events";
import { StoreChannels } from "../../operator/sidecar-client/store-channels.ts";
import { WriteRequest } from "../../sidecar/protocol/gen/oxia-client.ts";
import { OxiaClientService } from "../../sidecar/protocol/service.ts";
import { TestStore } from "../support/local-store.ts";

/** More than a sidecar gives itself: its exit status says whether it kept to that. */
const GRACE_MS = 30_000;
const BYTES = Buffer.from("value");

describe("sidecars that are asked to end", function () {
  this.timeout(180_000);
  let test: TestStore;
  let channels: StoreChannels;

  beforeEach(async () => {
    test = await TestStore.start({ shards: 2 });
    await test.load(100, 16 * 1024);
    channels = new StoreChannels((address) => address);
  });
  afterEach(async () => {
    channels.close();
    await test.close();
  });

  /** Streams of writes to each leader, which only their server can be the one to end. */
  async function openStreams(): Promise<void> {
    for (const [shard, address] of test.client.leaders()) {
      const headers = { namespace: "default", "shard-id": String(shard) };
      const stream = channels.duplex(address, OxiaClientService.writeStream, headers);
      stream.on("error", () => undefined).resume();
      const request = WriteRequest.fromPartial({ shard, puts: [{ key: "idle", value: BYTES }] });
      stream.write(request);
      await once(stream, "data");
    }
  }

  async function stop(node: string): Promise<void> {
    const pod = test.store.platform.pod(node);
    await pod.stop(GRACE_MS);
    const log = await test.store.platform.logTail(node, 20);
    // By itself and in time: else it is 1.
    assert.equal(pod.status().lastExit, "exit code 0", `${node}:\n${log}`);
    assert.match(log, /"stopped"/u);
  }

  it("end in order and in time under writes, one after the other, and lose nothing", async () => {
    test.startWriting();
    await openStreams();
    for (const node of [...test.followers(), test.leader()]) {
      await test.written(50);
      await stop(node);
      await test.written(50);
      test.store.platform.pod(node).start();
      await test.store.whole(60_000);
    }
    await test.proveNothingLost();
  });

  it("end in order and in time under writes, all at once, and lose nothing", async () => {
    test.startWriting();
    await openStreams();
    await test.written(50);
    await Promise.all(test.store.platform.statuses().map(({ name }) => stop(name)));
    test.store.platform.startAll();
    await test.written(50);
    await test.proveNothingLost();
  });
});
