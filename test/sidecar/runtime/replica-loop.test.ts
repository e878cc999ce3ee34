import assert from "node:assert/strict";
import type { Effect } from "../../../sidecar/core/effect.ts";
import type { Input } from "../../../sidecar/core/input.ts";
import type { Replica } from "../../../sidecar/core/replica.ts";
import { type Ack, Append, Peer } from "../../../sidecar/protocol/gen/resilver.ts";
import { IncomingStreams } from "../../../sidecar/runtime/incoming-streams.ts";
import { ReplicaLoop } from "../../../sidecar/runtime/replica-loop.ts";
import { memoryCall } from "../../support/memory-call.ts";

const PEER = Peer.create({ term: 1 });

describe("replica loop", () => {
  it("tells for how long one effect has been holding back the rest", async () => {
    let now = 0;
    let finish = (): void => {};
    const effect = { kind: "fault", message: "" } satisfies Effect;
    const loop = new ReplicaLoop({
      core: { step: () => [effect] } as unknown as Replica,
      perform: () =>
        new Promise<void>((resolve) => {
          finish = resolve;
        }),
      afterDrain: () => undefined,
      failed: (error) => assert.ifError(error),
      nowMs: () => now,
    });
    assert.equal(loop.blockedMs, 0);
    loop.feed({ kind: "tick", nowMs: 0 });
    now = 6_000;
    assert.equal(loop.blockedMs, 6_000);
    finish();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(loop.blockedMs, 0);
    const job = loop.exclusive(() => new Promise<void>((resolve) => (finish = resolve)));
    now = 9_000;
    assert.equal(loop.blockedMs, 3_000);
    finish();
    await job;
  });

  it("reads no further from a leader while an effect holds everything back", async () => {
    let finish = (): void => {};
    const held = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const cut = { kind: "truncateLog", lastOffset: 1, logEpoch: 0 } satisfies Effect;
    const taken: Input[] = [];
    const loop = new ReplicaLoop({
      core: {
        step: (input: Input) => {
          const first = taken.every(({ kind }) => kind !== "append");
          taken.push(input);
          return first && input.kind === "append" ? [cut] : [];
        },
      } as unknown as Replica,
      perform: () => held,
      afterDrain: () => undefined,
      failed: (error) => assert.ifError(error),
      nowMs: () => 0,
    });
    const window = 4;
    const { client, server } = memoryCall<Append, Ack>({ window });
    const serving = new IncomingStreams("u1", loop, () => undefined).serve(1, PEER, server);
    let sent = 0;
    const sending = (async () => {
      while (sent < 100) {
        sent++;
        if (!client.write(Append.create({ commitOffset: sent }))) await client.drained();
      }
    })();
    for (let turn = 0; turn < 50; turn++) {
      if (taken.length > 1) loop.feed({ kind: "tick", nowMs: turn });
      await new Promise((resolve) => setImmediate(resolve));
    }
    // The stream's opening and the append that the cut belongs to.
    assert.deepEqual(
      taken.map(({ kind }) => kind),
      ["streamOpened", "append"],
    );
    assert.ok(sent > 1 && sent <= window + 3, `${sent} messages were taken from the leader`);
    finish();
    await sending;
    client.end();
    await serving;
    assert.ok(taken.every(({ kind }) => kind !== "tick"));
    const appends = taken.flatMap((input) =>
      input.kind === "append" ? [input.append.commitOffset] : [],
    );
    assert.deepEqual(
      appends,
      Array.from({ length: 100 }, (_, at) => at + 1),
    );
  });
});
