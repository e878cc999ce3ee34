import assert from "node:assert/strict";
import { differences, statefulSetDifference } from "../../../operator/specs/differences.ts";

const WANTED = {
  metadata: { labels: { a: "1" } },
  spec: {
    replicas: 3,
    serviceName: "pods",
    template: {
      spec: { containers: [{ name: "resilver", image: "x:1", env: [{ name: "A", value: "1" }] }] },
    },
    volumeClaimTemplates: [
      { metadata: { name: "data" }, spec: { resources: { requests: { storage: "1024Mi" } } } },
    ],
  },
};

/** As the API server gives it back: defaults, other people's labels, quantities its own way. */
function live() {
  return {
    metadata: { labels: { a: "1", theirs: "x" }, resourceVersion: "9" },
    spec: {
      replicas: 3,
      serviceName: "pods",
      template: {
        spec: {
          restartPolicy: "Always",
          containers: [
            {
              imagePullPolicy: "Always",
              name: "resilver",
              image: "x:1",
              env: [{ name: "A", value: "1" }],
            },
          ],
        },
      },
      volumeClaimTemplates: [
        {
          metadata: { name: "data", creationTimestamp: null },
          spec: { volumeMode: "Filesystem", resources: { requests: { storage: "1Gi" } } },
          status: { phase: "Pending" },
        },
      ],
    },
    status: { replicas: 3 },
  };
}

describe("differences", () => {
  it("none: defaults and what others added do not count", () => {
    assert.deepEqual(differences(WANTED, live()), []);
    assert.deepEqual(differences({ list: [] }, {}), []);
    assert.deepEqual(differences({ nodeSelector: {} }, {}), []);
  });

  const cases: readonly (readonly [
    string,
    (object: ReturnType<typeof live>) => unknown,
    string,
  ])[] = [
    ["a label", (o) => (o.metadata.labels.a = "2"), "metadata.labels.a"],
    ["replicas", (o) => (o.spec.replicas = 5), "spec.replicas"],
    [
      "an image",
      (o) => Object.assign(o.spec.template.spec.containers[0] ?? {}, { image: "x:2" }),
      "spec.template.spec.containers[resilver].image",
    ],
    [
      "a container that was added",
      (o) =>
        o.spec.template.spec.containers.push({
          imagePullPolicy: "",
          name: "b",
          image: "",
          env: [],
        }),
      "spec.template.spec.containers",
    ],
    [
      "a variable of another name",
      (o) => Object.assign(o.spec.template.spec.containers[0]?.env[0] ?? {}, { name: "B" }),
      "spec.template.spec.containers[resilver].env[A]",
    ],
    [
      "a size",
      (o) =>
        Object.assign(o.spec.volumeClaimTemplates[0]?.spec.resources.requests ?? {}, {
          storage: "2Gi",
        }),
      "spec.volumeClaimTemplates[data].spec.resources.requests.storage",
    ],
  ];
  for (const [what, change, path] of cases) {
    it(what, () => {
      const object = live();
      change(object);
      assert.deepEqual(differences(WANTED, object), [path]);
      const { immutable } = statefulSetDifference(WANTED, object);
      assert.deepEqual(immutable, path.includes("volumeClaimTemplates") ? [path] : []);
    });
  }

  it("a service of another name needs another StatefulSet", () => {
    const object = live();
    object.spec.serviceName = "other";
    assert.deepEqual(statefulSetDifference(WANTED, object), {
      fields: ["spec.serviceName"],
      immutable: ["spec.serviceName"],
    });
  });
});
