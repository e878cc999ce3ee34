/**
 * Good and bad resources, shown to the operator's own validation and to the CRD's file as an API
 * server would read it. Both must say the same, name the field, show the value and what is allowed.
 */
import assert from "node:assert/strict";
import {
  parseReplicaRecovery,
  parseReplicatedStore,
  parseStoreShard,
  ResourceInvalid,
} from "../../../../operator/api/v1alpha1/validation.ts";
import { acknowledgement } from "../../../../operator/core/force-quorum.ts";
import { admit, readCrd } from "../../../support/crd-validator.ts";
import { RECORD, resource } from "./resources.ts";

type Spec = Record<string, unknown>;

interface Case {
  readonly what: string;
  readonly spec: Spec;
  readonly name?: string;
  /** Field and value, as the operator names them; absent: the resource is good. */
  readonly refused?: {
    readonly field: string;
    readonly value: string | RegExp;
    readonly allowed: RegExp;
    /** As the API server names it, where that differs. */
    readonly fieldThere?: string;
  };
}

const KINDS = {
  ReplicatedStore: { plural: "replicatedstores", parse: parseReplicatedStore },
  StoreShard: { plural: "storeshards", parse: parseStoreShard },
  ReplicaRecovery: { plural: "replicarecoveries", parse: parseReplicaRecovery },
} as const;

function both(kind: keyof typeof KINDS, cases: readonly Case[]): void {
  const { plural, parse } = KINDS[kind];
  const crd = readCrd(plural);
  for (const { what, spec, name, refused } of cases) {
    it(`${refused === undefined ? "takes" : "refuses"} ${what}`, () => {
      const object = resource(kind, spec, name);
      const { stored, errors } = admit(crd, object);
      if (refused === undefined) {
        assert.deepEqual(errors, []);
        assert.deepEqual(parse(object), stored, "both fill in the same defaults");
        return;
      }
      assert.throws(
        () => parse(object),
        (error: unknown) => {
          assert.ok(error instanceof ResourceInvalid);
          const [first] = error.refusals;
          assert.equal(first?.field, refused.field);
          if (typeof refused.value === "string") assert.equal(first.value, refused.value);
          else assert.match(first.value, refused.value);
          assert.match(first.allowed, refused.allowed);
          return true;
        },
      );
      const there = refused.fieldThere ?? refused.field;
      assert.ok(errors[0]?.startsWith(`.${there}`), `${there} is not named by: ${errors[0]}`);
    });
  }
}

function store(field: string, value: unknown): Spec {
  const [first = "", ...rest] = field.split(".").toReversed();
  return rest.reduce<Spec>((inner, key) => ({ [key]: inner }), { [first]: value });
}

const namespaces = (...list: readonly Spec[]): Spec => ({ namespaces: list });

describe("ReplicatedStore", () => {
  both("ReplicatedStore", [
    { what: "an empty spec", spec: {} },
    {
      what: "everything that can be said",
      spec: {
        replicas: 5,
        namespaces: [
          {
            name: "a",
            shards: 4,
            replicationFactor: 5,
            keySorting: "natural",
            notifications: true,
          },
          { name: "b" },
        ],
        storage: {
          data: { size: "100Gi", storageClassName: "fast" },
          wal: { size: "1Ti" },
          deletionPolicy: "Delete",
        },
        recovery: {
          mode: "Manual",
          maxConcurrent: 2,
          bandwidthLimit: "100Mi",
          cooldown: "1h30m",
        },
        image: "registry.example/resilver:1.2.3",
        resources: {
          requests: { cpu: "0.5", memory: "256Mi", "hugepages-2Mi": "+4e6" },
          limits: { cpu: "1500m", memory: "1.5Gi" },
        },
        template: {
          metadata: { labels: { team: "storage" }, annotations: { note: "any" } },
          spec: {
            containers: [{ name: "app", image: "app:1", ports: [{ containerPort: 80 }] }],
            initContainers: [{ name: "prepare", image: "app:1" }],
            volumes: [{ name: "scratch", emptyDir: {} }],
            nodeSelector: { disk: "ssd" },
            tolerations: [{ key: "dedicated", operator: "Exists" }],
            affinity: { nodeAffinity: {} },
            topologySpreadConstraints: [{ maxSkew: 1, topologyKey: "zone" }],
            priorityClassName: "high",
            imagePullSecrets: [{ name: "pull" }],
            terminationGracePeriodSeconds: 60,
          },
        },
      },
    },
    ...(
      [
        ["replicas", 0, /whole number from 1 to 99/],
        ["replicas", 100, /whole number from 1 to 99/],
        ["replicas", "3", /whole number/],
        ["storage.data.size", "10GB", /quantity such as 10Gi/],
        ["storage.data.size", "-1Gi", /quantity/],
        ["storage.wal.size", "900Mi", /1Gi or more/],
        ["storage.data.storageClassName", "Fast", /a-z/],
        ["storage.deletionPolicy", "Keep", /Retain, Delete/],
        ["recovery.mode", "Off", /Automatic, Manual, Paused/],
        ["recovery.maxConcurrent", 0, /from 1/],
        ["recovery.bandwidthLimit", "fast", /quantity/],
        ["recovery.cooldown", "ten", /duration such as 10s/],
        ["image", "two words", /without spaces/],
        ["resources.requests.cpu", "lots", /quantity such as "500m" or "1Gi"/],
        ["resources.requests.cpu", 1, /quantity such as "500m" or "1Gi", as a text/],
        ["resources.requests.memory", "1GB", /quantity/],
        ["resources.limits.memory", "-1Gi", /quantity/],
        ["resources.limits.memory", "", /quantity/],
        ["namespaces", [], /1 to 32/],
        ["template.spec.terminationGracePeriodSeconds", 1, /from 10/],
      ] as const
    ).map(([field, value, allowed]) => ({
      what: `${field} ${JSON.stringify(value)}`,
      spec: store(field, value),
      refused: { field: `spec.${field}`, value: JSON.stringify(value), allowed },
    })),
    {
      what: "an even replicationFactor",
      spec: namespaces({ name: "a", replicationFactor: 2 }),
      refused: { field: "spec.namespaces[0].replicationFactor", value: "2", allowed: /odd/ },
    },
    {
      what: "fewer replicas than the largest replicationFactor",
      spec: namespaces({ name: "a" }, { name: "b", replicationFactor: 5 }),
      refused: { field: "spec.replicas", value: "3", allowed: /largest replicationFactor/ },
    },
    {
      what: "a namespace twice",
      spec: namespaces({ name: "a" }, { name: "a" }),
      refused: {
        field: "spec.namespaces[1].name",
        value: '{"name":"a","shards":1,"keySorting":"hierarchical","notifications":false}',
        allowed: /each name once/,
        fieldThere: "spec.namespaces",
      },
    },
    {
      what: "a name of a namespace with a dot",
      spec: namespaces({ name: "a.b" }),
      refused: { field: "spec.namespaces[0].name", value: '"a.b"', allowed: /a-z, 0-9 and '-'/ },
    },
    {
      what: "too many shards together",
      spec: namespaces(...["a", "b", "c", "d", "e"].map((name) => ({ name, shards: 256 }))),
      refused: { field: "spec.namespaces", value: /"shards":256/, allowed: /at most 1024 shards/ },
    },
    {
      what: "a label of the operator's",
      spec: store("template.metadata.labels", { "resilver.io/store": "x" }),
      refused: {
        field: "spec.template.metadata.labels",
        value: '{"resilver.io/store":"x"}',
        allowed: /do not begin with resilver\.io/,
      },
    },
    {
      what: "a container with the sidecar's name",
      spec: store("template.spec.containers", [{ name: "resilver", image: "x" }]),
      refused: {
        field: "spec.template.spec.containers[0].name",
        value: '"resilver"',
        allowed: /any name but resilver/,
      },
    },
    {
      what: "a volume with the name of the store's own",
      spec: store("template.spec.volumes", [{ name: "wal", emptyDir: {} }]),
      refused: {
        field: "spec.template.spec.volumes[0].name",
        value: '"wal"',
        allowed: /any name but data, wal/,
      },
    },
    {
      what: "a name too long for pods",
      name: "a".repeat(41),
      spec: {},
      refused: { field: "metadata.name", value: `"${"a".repeat(41)}"`, allowed: /1 to 40/ },
    },
    {
      what: "a name with a dot",
      name: "a.b",
      spec: {},
      refused: { field: "metadata.name", value: '"a.b"', allowed: /beginning with a letter/ },
    },
  ]);

  const crd = readCrd("replicatedstores");
  const changes: readonly (readonly [string, Spec, Spec, RegExp | null])[] = [
    [
      "a larger volume",
      store("storage.data.size", "10Gi"),
      store("storage.data.size", "1Ti"),
      null,
    ],
    [
      "a smaller volume",
      store("storage.data.size", "10Gi"),
      store("storage.data.size", "9Gi"),
      /^\.spec\.storage\.data\.size: size is 9Gi; allowed: 10Gi or more/,
    ],
    [
      "another storage class",
      store("storage.wal.storageClassName", "a"),
      store("storage.wal.storageClassName", "b"),
      /storageClassName: storageClassName is b; allowed: a, it cannot be changed/,
    ],
    [
      "a storage class taken away",
      store("storage.wal.storageClassName", "a"),
      {},
      /^\.spec\.storage\.wal: storageClassName cannot be added or removed/,
    ],
    [
      "a namespace at the end",
      namespaces({ name: "b" }),
      namespaces({ name: "b" }, { name: "a" }),
      null,
    ],
    [
      "a namespace at the front",
      namespaces({ name: "b" }),
      namespaces({ name: "a" }, { name: "b" }),
      /^\.spec\.namespaces: namespaces can be added at the end only/,
    ],
    [
      "a namespace removed",
      namespaces({ name: "a" }, { name: "b" }),
      namespaces({ name: "a" }),
      /namespaces can be added at the end only/,
    ],
    [
      "more shards",
      namespaces({ name: "a", shards: 1 }),
      namespaces({ name: "a", shards: 2 }),
      /^\.spec\.namespaces\[0\]\.shards: shards is 2; allowed: 1, it cannot be changed/,
    ],
    [
      "another order of keys",
      namespaces({ name: "a", keySorting: "natural" }),
      namespaces({ name: "a" }),
      /keySorting is hierarchical; allowed: natural/,
    ],
    ["another number of replicas", { replicas: 3 }, { replicas: 5 }, null],
  ];
  for (const [what, before, after, refused] of changes) {
    it(`a change: ${refused === null ? "takes" : "refuses"} ${what}`, () => {
      const old = admit(crd, resource("ReplicatedStore", before)).stored;
      const { errors } = admit(crd, resource("ReplicatedStore", after), old);
      if (refused === null) assert.deepEqual(errors, []);
      else assert.match(errors[0] ?? "nothing refused", refused);
    });
  }
});

describe("StoreShard", () => {
  both("StoreShard", [
    { what: "a record with everything in it", spec: { storeName: "demo", ...RECORD } },
    { what: "a record without a leader", spec: { storeName: "demo", ...RECORD, leader: null } },
    {
      what: "a record without a term",
      spec: { storeName: "demo", ...RECORD, term: undefined },
      refused: { field: "spec.term", value: "not set", allowed: /whole number/ },
    },
    {
      what: "a term below -1",
      spec: { storeName: "demo", ...RECORD, term: -2 },
      refused: { field: "spec.term", value: "-2", allowed: /whole number from -1/ },
    },
  ]);

  it("the API server keeps every field of a record", () => {
    const object = resource("StoreShard", { storeName: "demo", ...RECORD });
    assert.deepEqual(admit(readCrd("storeshards"), object).stored, object);
  });
});

describe("ReplicaRecovery", () => {
  const rebuild = { storeName: "demo", rebuild: { pod: "demo-1" } };
  const forceQuorum = {
    shard: { namespace: "default", shard: 0 },
    survivor: "demo-2",
    acknowledgeDataLoss: "lose everything after offset 811",
  };
  both("ReplicaRecovery", [
    { what: "a rebuild of a pod", spec: rebuild },
    {
      what: "a rebuild of one shard",
      spec: { ...rebuild, rebuild: { pod: "demo-1", shard: { namespace: "a", shard: 3 } } },
    },
    { what: "a forced quorum", spec: { storeName: "demo", forceQuorum } },
    {
      what: "a forced quorum though another holds more",
      spec: {
        storeName: "demo",
        forceQuorum: {
          ...forceQuorum,
          acknowledgeDataLoss: acknowledgement({ term: 1, offset: Number.MAX_SAFE_INTEGER }, "d-9"),
        },
      },
    },
    {
      what: "no verb",
      spec: { storeName: "demo" },
      refused: { field: "spec", value: /^\{"storeName":"demo"/, allowed: /exactly one of/ },
    },
    {
      what: "two verbs",
      spec: { ...rebuild, forceQuorum },
      refused: { field: "spec", value: /"rebuild".*"forceQuorum"/, allowed: /exactly one of/ },
    },
    {
      what: "a vague acknowledgement",
      spec: { storeName: "demo", forceQuorum: { ...forceQuorum, acknowledgeDataLoss: "yes" } },
      refused: {
        field: "spec.forceQuorum.acknowledgeDataLoss",
        value: '"yes"',
        allowed: /exactly "lose everything after offset N"/,
      },
    },
    {
      what: "a forced quorum that nobody ordered",
      spec: { storeName: "demo", forceQuorum, trigger: "Detected" },
      refused: { field: "spec.trigger", value: '"Detected"', allowed: /Requested/ },
    },
  ]);

  it("refuses any change of the spec", () => {
    const crd = readCrd("replicarecoveries");
    const old = admit(crd, resource("ReplicaRecovery", rebuild)).stored;
    const changed = resource("ReplicaRecovery", { ...rebuild, rebuild: { pod: "demo-2" } });
    assert.match(
      admit(crd, changed, old).errors[0] ?? "",
      /^\.spec: the spec .* cannot be changed/,
    );
    assert.deepEqual(admit(crd, resource("ReplicaRecovery", rebuild), old).errors, []);
  });
});
