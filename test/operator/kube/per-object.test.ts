import assert from "node:assert/strict";
import { perObject } from "../../../operator/kube/per-object.ts";
import type { KubeObject } from "../../../operator/kube/resources.ts";

const object = (name: string): KubeObject => ({ metadata: { name, namespace: "default" } });

describe("what follows from an object of the caches", () => {
  it("is derived once for each version of it", () => {
    const seen: string[] = [];
    const derive = perObject(({ metadata }) => {
      seen.push(metadata.name);
      return { name: metadata.name };
    });
    const [one, next] = [object("one"), object("one")];
    assert.equal(derive(one), derive(one));
    assert.notEqual(derive(one), derive(next));
    assert.deepEqual(seen, ["one", "one"]);
  });

  it("throws each time when it cannot be derived", () => {
    const derive = perObject((): object => {
      throw new Error("no such thing");
    });
    const one = object("one");
    for (const _time of [1, 2]) assert.throws(() => derive(one), /no such thing/u);
  });
});
