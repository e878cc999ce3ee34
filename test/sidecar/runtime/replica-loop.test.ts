import assert from "node:assert/strict";
import type { Effect } from "../../../sidecar/core/effect.ts";
import type { Replica } from "../../../sidecar/core/replica.ts";
import { ReplicaLoop } from "../../../sidecar/runtime/replica-loop.ts";

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
});
