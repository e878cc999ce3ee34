import assert from "node:assert/strict";
import { MadeRecoveries } from "../../../operator/kube/made-recoveries.ts";
import type { KubeObject } from "../../../operator/kube/resources.ts";

describe("recoveries that were made and not told of yet", () => {
  const object = (name: string, uid = name): KubeObject => ({
    metadata: { name, namespace: "ns", uid },
  });
  let nowMs: number;
  let made: MadeRecoveries;
  const names = (storeId: string, ...cached: readonly KubeObject[]): string =>
    made
      .with(storeId, cached)
      .map(({ metadata }) => metadata.uid)
      .join();

  beforeEach(() => {
    nowMs = 0;
    made = new MadeRecoveries({ monotonicMs: () => nowMs });
  });

  it("count for their store, until they are told of", () => {
    made.note("s", object("a"));
    made.note("other", object("b"));
    assert.equal(names("s"), "a");
    assert.equal(names("s", object("c")), "c,a");
    assert.equal(names("s", object("a")), "a", "once");
    assert.equal(names("s"), "", "it was deleted since");
    assert.equal(names("other"), "b");
  });

  it("are another one than what had the name before", () => {
    made.note("s", object("a", "second"));
    assert.equal(names("s", object("a", "first")), "first,second");
  });

  it("are waited for no longer than 10 s: somebody may have deleted them unseen", () => {
    made.note("s", object("a"));
    nowMs = 10_000;
    assert.equal(names("s"), "a");
    nowMs = 10_001;
    assert.equal(names("s"), "");
  });
});
