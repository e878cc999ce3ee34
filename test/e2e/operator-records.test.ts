/**
 * A store whose records were lost while it serves: nothing is done to its pods by what an empty
 * record says. With real sidecars; the API server and the kubelet are stand-ins.
 */
import assert from "node:assert/strict";
import { podFacts } from "../../operator/kube/pods.ts";
import { IN_SYNC_GATE } from "../../operator/specs/labels.ts";
import { OperatorLife, WAIT_MS } from "../support/operator-life.ts";

const NAMES = ["demo-0", "demo-1", "demo-2"];

describe("a store whose StoreShard was deleted by mistake", () => {
  let life: OperatorLife;

  beforeEach(async () => {
    life = await OperatorLife.begin();
  });
  afterEach(async () => {
    await life.close();
  });

  const gates = () =>
    NAMES.map((name) => {
      const pod = life.pod(name);
      return pod === undefined ? null : podFacts(pod as never, IN_SYNC_GATE).inSync;
    });
  const podsAsked = (): unknown => {
    const set = life.server.get(life.path("apps/v1", "statefulsets", "demo"));
    return (set?.["spec"] as { readonly replicas: number } | undefined)?.replicas;
  };

  interface Seen {
    readonly uids: readonly unknown[];
    /** Puts the StoreShard back. */
    readonly restore: () => void;
  }

  /** The store serves, and its StoreShard goes. `between` happens right before. */
  async function lose(between: () => Promise<void>): Promise<Seen> {
    life.start("one");
    life.apply({});
    await life.whole(3);
    await life.write(20);
    const shard = life.path("resilver.io/v1alpha1", "storeshards", "demo.default.0");
    const kept = life.server.get(shard);
    assert.ok(kept);
    await between();
    life.server.remove(shard);
    return { uids: uids(), restore: () => void life.server.put(shard, { ...kept }) };
  }

  const uids = () => NAMES.map((name) => life.pod(name)?.metadata.uid);
  const waits = () =>
    life.server.until(
      "it waits",
      () => life.condition("Progressing")?.message.includes("under RecordLost") === true,
      WAIT_MS,
    );
  const madeAnew = (names: readonly string[], before: readonly unknown[]) =>
    life.server.until(
      `${names.join()} made anew`,
      () =>
        names.every((name, index) => {
          const uid = life.pod(name)?.metadata.uid;
          return uid !== undefined && uid !== before[index];
        }),
      WAIT_MS,
    );
  const proveKept = async (): Promise<void> => {
    const value = await life.client((client) => client.get("key-19"));
    assert.ok(Buffer.alloc(1_000, 19).equals(value?.value ?? Buffer.alloc(0)));
  };

  it("serves on, and no pod is made anew for another image until that is back", async () => {
    const { uids: before, restore } = await lose(() => Promise.resolve());
    await life.server.until("it is told", () => life.column("state") === "RecordLost", WAIT_MS);
    life.apply({ image: "resilver:next" });
    await waits();
    assert.deepEqual([gates(), uids()], [[true, true, true], before]);
    await life.write(5);
    restore();
    await madeAnew(NAMES, before);
    await life.whole(3);
    await proveKept();
  });

  it("keeps its pods though fewer are asked for, by an operator that starts then", async () => {
    const { uids: before, restore } = await lose(async () => {
      await life.endAll();
      const namespaces = [{ name: "default", replicationFactor: 1 }];
      life.apply({ replicas: 1, image: "resilver:next", namespaces });
    });
    life.start("two");
    await waits();
    assert.deepEqual([gates(), uids(), podsAsked()], [[true, true, true], before, 3]);
    await life.write(5);
    restore();
    await life.server.until("the others are gone", () => podsAsked() === 1, WAIT_MS);
    await madeAnew(["demo-0"], before);
    await life.whole(1);
    await proveKept();
  });
});
