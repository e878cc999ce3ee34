/**
 * Objects of some stores against test/golden. REWRITE=1 writes the files; look at what changed
 * before it is committed.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { stringify } from "yaml";
import { parseReplicatedStore } from "../../../operator/api/v1alpha1/validation.ts";
import { configMap, sidecarSettings } from "../../../operator/specs/config-map.ts";
import { disruptionBudget } from "../../../operator/specs/disruption-budget.ts";
import { podName, podOrdinal, selectorText } from "../../../operator/specs/labels.ts";
import type { Manifest } from "../../../operator/specs/manifest.ts";
import { serviceAccount } from "../../../operator/specs/service-account.ts";
import { clientService, podHost, podService } from "../../../operator/specs/services.ts";
import { claimName, statefulSet } from "../../../operator/specs/stateful-set.ts";
import { loadConfig } from "../../../sidecar/config.ts";
import { resource } from "../api/v1alpha1/resources.ts";

const STORE_ID = "5f0c1f5e-0b1a-4f0e-8f43-3f0a1b2c3d4e";
const IMAGE = "resilver:test";

const STORES: Readonly<Record<string, Record<string, unknown>>> = {
  "store-minimal": {},
  "store-with-containers": {
    replicas: 5,
    storage: { data: { size: "100Gi", storageClassName: "fast" }, wal: { size: "4Gi" } },
    recovery: { bandwidthLimit: "100Mi" },
    image: "registry.example/resilver:1.2.3",
    resources: { limits: { memory: "1Gi" } },
    template: {
      metadata: {
        labels: { team: "storage", "app.kubernetes.io/name": "not-ours" },
        annotations: { note: "any" },
      },
      spec: {
        containers: [{ name: "app", image: "app:1" }],
        initContainers: [{ name: "prepare", image: "app:1" }],
        volumes: [{ name: "scratch", emptyDir: {} }],
        nodeSelector: { disk: "ssd" },
        topologySpreadConstraints: [],
        terminationGracePeriodSeconds: 60,
      },
    },
  },
};

function storeOf(spec: Record<string, unknown>) {
  const object = resource("ReplicatedStore", spec);
  const metadata = { name: "demo", namespace: "prod", uid: "11111111-2222-3333-4444-555555555555" };
  return parseReplicatedStore({ ...object, metadata });
}

function manifests(spec: Record<string, unknown>): readonly Manifest[] {
  const store = storeOf(spec);
  return [
    serviceAccount(store),
    configMap(store, STORE_ID),
    podService(store),
    clientService(store),
    disruptionBudget(store),
    statefulSet({ store, storeId: STORE_ID, image: IMAGE, replicas: store.spec.replicas }),
  ];
}

describe("objects of a store", () => {
  for (const [name, spec] of Object.entries(STORES)) {
    it(name, () => {
      const url = new URL(`../../golden/${name}.yaml`, import.meta.url);
      const options = { aliasDuplicateObjects: false, lineWidth: 0 };
      const actual = manifests(spec)
        .map((manifest) => stringify(manifest, options))
        .join("---\n");
      if (process.env["REWRITE"] === "1") {
        mkdirSync(new URL(".", url), { recursive: true });
        writeFileSync(url, actual);
      }
      assert.equal(actual, readFileSync(url, "utf8"));
    });
  }

  it("the sidecar takes its settings", async () => {
    for (const spec of Object.values(STORES)) {
      const settings = sidecarSettings(storeOf(spec), STORE_ID);
      const config = await loadConfig({
        argv: ["--config", "sidecar.json"],
        env: { RESILVER_NODE: "demo-0" },
        version: "test",
        readFile: () => Promise.resolve(JSON.stringify(settings)),
      });
      assert.ok(!("kind" in config));
      assert.equal(config.storeId, STORE_ID);
      assert.equal(config.stateDir, "/var/lib/resilver/data/state");
    }
  });

  it("another configuration makes another pod template", () => {
    const digests = ["100Mi", "200Mi"].map((bandwidthLimit) => {
      const set = manifests({ recovery: { bandwidthLimit } }).at(-1);
      const spec = set?.["spec"] as { template: { metadata: { annotations: object } } };
      return Reflect.get(spec.template.metadata.annotations, "resilver.io/config") as string;
    });
    assert.notEqual(digests[0], digests[1]);
  });

  it("names", () => {
    assert.equal(podName("demo", 2), "demo-2");
    assert.equal(podOrdinal("demo", "demo-12"), 12);
    assert.equal(podOrdinal("demo", "demo-x"), null);
    assert.equal(podOrdinal("demo", "demo-01"), null);
    assert.equal(podOrdinal("demo", "other-1"), null);
    assert.equal(claimName("wal", "demo-2"), "wal-demo-2");
    assert.equal(podHost("demo", "prod", "demo-2"), "demo-2.demo-pods.prod.svc");
    assert.equal(selectorText({ a: "1", b: "2" }), "a=1,b=2");
  });
});
