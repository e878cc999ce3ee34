/** Which pods a rollout takes away, and how, where a disruption budget has its say. */
import assert from "node:assert/strict";
import type { ShardView } from "../../../operator/core/status.ts";
import { parseReplicatedStore } from "../../../operator/api/v1alpha1/validation.ts";
import { podFacts } from "../../../operator/kube/pods.ts";
import { KINDS, type KubeObject, resourcePath } from "../../../operator/kube/resources.ts";
import { rollOut } from "../../../operator/kube/store-rollout.ts";
import { claimsByName, type StoreSight } from "../../../operator/kube/store-view.ts";
import { disruptionBudget } from "../../../operator/specs/disruption-budget.ts";
import { IN_SYNC_GATE, selectorLabels } from "../../../operator/specs/labels.ts";
import { FakeApiServer, type Stored } from "../../support/fake-api-server.ts";
import { replicaView, shardViewOf } from "../local/status-fixture.ts";
import { call, clientOf } from "./kube-fixture.ts";

const LABELS = selectorLabels("demo");
const SET = resourcePath(KINDS.statefulSet, "ns", "demo");
const podPath = (name: string): string => resourcePath(KINDS.pod, "ns", name);

/** What a person's container and the sidecar beside it are at. */
interface PodState {
  readonly ready: boolean;
  readonly sidecar: "running" | "waiting";
  /** Why it waits. */
  readonly reason: string;
  readonly revision: string;
}

/** A store whose template was corrected, while its pods run what it was before. */
class World {
  readonly server: FakeApiServer;
  readonly #close: () => void;
  readonly #client;
  readonly #names: readonly string[];
  /** As the coordinator has it. */
  voting: readonly string[];
  led = "demo-0";
  record: Partial<ShardView> = {};

  constructor(server: FakeApiServer, replicas: number) {
    this.server = server;
    const { client, transport } = clientOf(server);
    this.#client = client;
    this.#close = () => transport.close();
    this.#names = Array.from({ length: replicas }, (_, ordinal) => `demo-${ordinal}`);
    this.voting = this.#names;
    const budget = disruptionBudget(this.#store());
    server.put(resourcePath(KINDS.disruptionBudget, "ns", budget.metadata.name), { ...budget });
    const template = { metadata: { labels: LABELS } };
    server.put(SET, { metadata: {}, spec: { replicas, template } });
    server.put(SET, { ...server.get(SET), status: { observedGeneration: 1, updateRevision: "b" } });
    for (const name of this.#names) {
      this.pod(name, { ready: false });
      for (const claim of [`data-${name}`, `wal-${name}`]) {
        server.put(resourcePath(KINDS.claim, "ns", claim), { metadata: { labels: LABELS } });
      }
    }
  }

  async close(): Promise<void> {
    this.#close();
    await this.server.close();
  }

  pod(name: string, state: Partial<PodState>): void {
    const { ready = true, sidecar = "running", revision = "a", reason } = state;
    const told = { name: "resilver", ready: sidecar === "running", restartCount: 3 };
    this.server.put(podPath(name), {
      metadata: {
        labels: { ...LABELS, "controller-revision-hash": revision },
        uid: `uid-of-${name}`,
      },
      spec: { nodeName: "m" },
      status: {
        phase: "Running",
        conditions: [{ type: "Ready", status: ready ? "True" : "False" }],
        containerStatuses: [
          { ...told, state: { [sidecar]: { reason } }, lastState: { terminated: {} } },
        ],
      },
    });
  }

  /** One step, with what caches have of it now. */
  async roll(): Promise<string | null> {
    const { server } = this;
    const pods = this.#names.flatMap((name) => server.get(podPath(name)) ?? []);
    const claims = server.list("/api/v1/namespaces/ns/persistentvolumeclaims");
    const sight = {
      store: this.#store(),
      pods: pods.map((pod) => podFacts(objectOf(pod), IN_SYNC_GATE)),
      claims: claimsByName(claims.map(objectOf)),
    } as unknown as StoreSight;
    const replicas = this.#names.map((node) =>
      replicaView(node, { voting: this.voting.includes(node) }),
    );
    const view = () =>
      shardViewOf(replicas, {
        ensemble: this.#names,
        leader: this.led,
        ...this.record,
      });
    const parts = {
      client: this.#client,
      sight,
      statefulSet: objectOf(server.get(SET) as Stored),
      views: () => [view()],
      expectedPods: this.#names.length,
      preferLeader: () => undefined,
    };
    return await rollOut(parts, call().signal);
  }

  /** Pods that are there still. */
  left(): string {
    return this.#names.filter((name) => this.server.get(podPath(name)) !== undefined).join();
  }

  #store() {
    return parseReplicatedStore({
      apiVersion: "resilver.io/v1alpha1",
      kind: "ReplicatedStore",
      metadata: { name: "demo", namespace: "ns", uid: "u" },
      spec: { replicas: this.#names.length },
    });
  }
}

function objectOf(stored: Stored): KubeObject {
  return stored as unknown as KubeObject;
}

describe("a rollout and the disruption budget", () => {
  let world: World;

  async function start(replicas: number): Promise<void> {
    world = new World(await FakeApiServer.start(), replicas);
  }

  afterEach(() => world.close());

  it("the only pod, which is not ready, is deleted: no budget would ever let it go", async () => {
    await start(1);
    assert.equal(await world.roll(), "demo-0 is being made anew");
    assert.equal(world.left(), "");
  });

  it("pods that are not ready are deleted one by one while their replicas vote", async () => {
    await start(3);
    assert.equal(await world.roll(), "demo-2 is being made anew");
    assert.equal(world.left(), "demo-0,demo-1");
    world.pod("demo-2", { ready: false, revision: "b" });
    assert.equal(await world.roll(), "demo-2 is not ready yet");
    const held = { sidecar: "waiting", reason: "ImagePullBackOff" } as const;
    world.pod("demo-2", { ready: false, revision: "b", ...held });
    assert.equal(await world.roll(), "demo-2 is not ready yet: ImagePullBackOff");
    world.pod("demo-2", { revision: "b" });
    assert.equal(await world.roll(), "demo-1 is being made anew");
    assert.equal(world.left(), "demo-0,demo-2");
  });

  it("the eleventh pod is not taken for the second: lists are by name, pods by number", async () => {
    await start(11);
    assert.equal(await world.roll(), "demo-10 is being made anew");
  });

  it("is deleted as the very pod that was seen, in the state in which it was seen", async () => {
    await start(1);
    const { metadata } = world.server.get(podPath("demo-0")) as Stored;
    await world.roll();
    const sent = world.server.requests.find(({ method }) => method === "DELETE");
    assert.ok(sent !== undefined);
    const { preconditions } = sent.body as { preconditions: object };
    const { uid, resourceVersion } = metadata;
    assert.deepEqual(preconditions, { uid, resourceVersion });
  });

  it("stays when anything about it has changed meanwhile", async () => {
    await start(1);
    world.server.fault = ({ path }) => {
      // It becomes ready while the eviction is refused.
      if (path.endsWith("/eviction")) world.pod("demo-0", { ready: true });
      return undefined;
    };
    world.server.allowEviction = () => false;
    assert.equal(await world.roll(), "demo-0 is to be made anew: looks again");
    assert.equal(world.left(), "demo-0");
  });

  it("a pod that is ready waits for the budget", async () => {
    await start(3);
    world.pod("demo-0", {});
    world.pod("demo-2", { revision: "b" });
    // The one that is not ready has to stay.
    const claim = resourcePath(KINDS.claim, "ns", "data-demo-1");
    const deletionTimestamp = "2026-01-01T00:00:00Z";
    world.server.put(claim, { metadata: { labels: LABELS, deletionTimestamp } });
    world.voting = ["demo-1", "demo-2"];
    world.led = "demo-2";
    const why = "demo-0 is to be made anew: a disruption budget forbids it now";
    assert.equal(await world.roll(), why);
    assert.equal(world.left(), "demo-0,demo-1,demo-2");
  });

  it("an answer that is neither yes nor no is told, and nothing is deleted", async () => {
    await start(1);
    const budget = world.server.list("/apis/policy/v1/namespaces/ns/poddisruptionbudgets")[0];
    world.server.put(resourcePath(KINDS.disruptionBudget, "ns", "a-person's"), { ...budget });
    const told = (await world.roll()) ?? "";
    assert.match(told, /^demo-0 is to be made anew: .*500 This pod has more than one PodDisrup/u);
    assert.equal(world.left(), "demo-0");
  });

  it("a server that is full has asked no budget: nothing is deleted", async () => {
    await start(1);
    world.server.fault = ({ path }) =>
      path.endsWith("/eviction") ? { kind: "status", status: 429 } : undefined;
    assert.match((await world.roll()) ?? "", /^demo-0 is to be made anew: .*: 429 as told$/u);
    assert.equal(world.left(), "demo-0");
  });

  it("none goes, by eviction or otherwise, while the record is not to be believed", async () => {
    await start(3);
    const stop = { reason: "RecordLost", message: "there is no record" } as const;
    world.record = { initialized: false, stop };
    assert.equal(await world.roll(), "nothing is made anew under RecordLost of default/0");
    // Only the look that is taken right before the deed shows it.
    world.record = {};
    world.server.fault = ({ path, method }) => {
      if (method === "GET" && path.endsWith("/pods")) world.record = { initialized: false, stop };
      return undefined;
    };
    assert.equal(await world.roll(), "demo-2 is to be made anew: looks again");
    assert.equal(world.left(), "demo-0,demo-1,demo-2");
  });

  it("none goes without which a majority would not vote", async () => {
    await start(3);
    world.voting = ["demo-0", "demo-1"];
    // Not ready since it is rebuilt: the others can do without it, so it goes first.
    assert.equal(await world.roll(), "demo-2 is being made anew");
    world.pod("demo-2", { revision: "b" });
    const why = "demo-1 is needed for a majority of default/0";
    assert.equal(await world.roll(), why);
    assert.equal(world.left(), "demo-0,demo-1,demo-2");
  });

  it("a voter whose sidecar has ended is no witness, whatever is still said of it", async () => {
    await start(3);
    world.pod("demo-0", { ready: false, sidecar: "waiting" });
    // Its readiness is as it was at the last probe.
    world.pod("demo-1", { ready: true, sidecar: "waiting", revision: "b" });
    assert.equal(await world.roll(), "demo-0 is needed for a majority of default/0");
    assert.equal(world.left(), "demo-0,demo-1,demo-2");
  });

  it("none goes whose claims are not known, and hold the only copy for all that", async () => {
    await start(1);
    world.server.remove(resourcePath(KINDS.claim, "ns", "wal-demo-0"));
    assert.equal(await world.roll(), "demo-0 would lose the only copy of default/0");
    assert.equal(world.left(), "demo-0");
  });

  it("none goes with whose claim the only copy would go, though caches do not know yet", async () => {
    await start(1);
    const path = resourcePath(KINDS.claim, "ns", "data-demo-0");
    world.server.fault = ({ path: asked, method }) => {
      if (method === "GET" && asked.endsWith("/persistentvolumeclaims")) {
        const claim = world.server.get(path) as Stored;
        const deletionTimestamp = "2026-01-01T00:00:00Z";
        world.server.put(path, { ...claim, metadata: { ...claim.metadata, deletionTimestamp } });
      }
      return undefined;
    };
    assert.equal(await world.roll(), "demo-0 is to be made anew: looks again");
    assert.equal(await world.roll(), "demo-0 would lose the only copy of default/0");
    assert.equal(world.left(), "demo-0");
  });
});
