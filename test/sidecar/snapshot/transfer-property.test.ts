import assert from "node:assert/strict";
import fc from "fast-check";
import type { SnapshotChunk } from "../../../sidecar/protocol/gen/resilver.ts";
import { SURVIVALS, type Survival } from "../../support/crash-disk.ts";
import { BASE, OLD, Target, attempt, contentOf, flipped, sourceOf } from "./transfer-fixture.ts";

/**
 * What happens to one attempt: a fault of the wire at a message, a crash at a disk operation, or
 * both.
 */
interface Trouble {
  readonly at: number;
  readonly fault: "none" | "lose" | "repeat" | "alter" | "swap" | "sever" | "abort";
  readonly crashAt: number;
  readonly survival: Survival;
}

const trouble: fc.Arbitrary<Trouble> = fc.record({
  at: fc.nat(13),
  fault: fc.constantFrom("none", "lose", "repeat", "alter", "swap", "sever", "abort"),
  crashAt: fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 60 })),
  survival: fc.constantFrom(...SURVIVALS),
});

describe("snapshot transfer under any row of troubles", () => {
  it("is old-complete or new-complete after each, and gets through once they stop (I13, L1)", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(trouble, { minLength: 1, maxLength: 6 }),
        fc.nat(1500),
        fc.integer({ min: 50, max: 700 }),
        async (troubles, bytes, syncBytes) => {
          const content = contentOf(bytes);
          const target = await Target.prepared();
          target.syncBytes = syncBytes;
          await target.restart();
          for (const one of troubles) {
            await suffer(target, content, one);
            const state = await target.state();
            if (target.installed.length > 0) assert.deepEqual(state, content);
            else assert.ok(same(state, OLD) || same(state, content), "neither old nor new");
          }
          const { sent } = await attempt(target, sourceOf(content));
          assert.deepEqual(sent, BASE);
          assert.deepEqual(await target.state(), content);
        },
      ),
      { numRuns: 150 },
    );
  });
});

async function suffer(target: Target, content: Uint8Array, one: Trouble): Promise<void> {
  const abort = new AbortController();
  let sever = (): void => undefined;
  let count = 0;
  let held: SnapshotChunk[] = [];
  const up = (m: SnapshotChunk): readonly SnapshotChunk[] => {
    const here = count++ === one.at;
    const late = held;
    held = [];
    if (!here) return [m, ...late];
    // A stream loses no message without ending; before the first chunk nothing would show the gap.
    if (one.fault === "sever" || m.manifest !== undefined) sever();
    if (one.fault === "abort") abort.abort(new Error("stopped"));
    if (one.fault === "lose") return late;
    if (one.fault === "repeat") return [m, m];
    if (one.fault === "alter") return [{ ...m, content: flipped(m.content) }];
    if (one.fault === "swap") held = [m];
    return one.fault === "swap" ? late : [m];
  };
  target.disk.operations = 0;
  target.disk.crashAt = one.crashAt;
  await attempt(target, sourceOf(content), {
    wire: { up },
    send: { signal: abort.signal },
    onPair: (pair) => {
      sever = () => pair.sever();
    },
  });
  const crashed = one.crashAt !== 0 && target.disk.operations >= one.crashAt;
  target.disk.crashAt = 0;
  if (!crashed) return;
  target.disk.reboot(one.survival);
  await target.restart();
}

function same(a: Uint8Array | null, b: Uint8Array): boolean {
  return a !== null && Buffer.compare(a, b) === 0;
}
