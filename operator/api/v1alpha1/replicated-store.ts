/** ReplicatedStore: what a person asks for, and how far it has come. */
import { z } from "zod";
import { BOUNDS } from "./bounds.ts";
import { DURATION_PATTERN } from "./duration.ts";
import {
  choice,
  fields,
  flag,
  identity,
  integer,
  label,
  list,
  namespacedName,
  nodeName,
  note,
  ruled,
  text,
  textMap,
} from "./fields.ts";
import { API_VERSION, conditionsField, metadataSchema } from "./metadata.ts";
import { podTemplateField } from "./pod-template.ts";
import { AMOUNT_PATTERN, parseQuantity, QUANTITY_PATTERN } from "./quantity.ts";

const GIBIBYTE = 2 ** 30;

function quantity(description: string, allowed: string) {
  return text({
    description,
    allowed,
    lengthMin: 1,
    lengthMax: BOUNDS.quantityLengthMax,
    pattern: QUANTITY_PATTERN,
  });
}

function size(description: string) {
  return ruled(
    quantity(description, "a quantity such as 10Gi"),
    {
      rule: "quantity(self).compareTo(quantity('1Gi')) >= 0",
      message: "1Gi or more",
      messageExpression: "'size is ' + self + '; allowed: 1Gi or more'",
      holds: (value) => (parseQuantity(value) ?? 0) >= GIBIBYTE,
    },
    {
      rule: "quantity(self).compareTo(quantity(oldSelf)) >= 0",
      message: "a volume can only grow",
      messageExpression:
        "'size is ' + self + '; allowed: ' + oldSelf + ' or more, a volume can only grow'",
    },
  );
}

/** One claim per pod, of each kind. The default differs, hence a function. */
function volume(description: string, defaultSize: string) {
  return ruled(
    fields(description, {
      size: size("Size of the volume; can grow where the storage class allows it.").default(
        defaultSize,
      ),
      storageClassName: ruled(
        nodeName("Storage class. Absent: the cluster's default. Cannot be changed."),
        {
          rule: "self == oldSelf",
          message: "the storage class cannot be changed",
          messageExpression:
            "'storageClassName is ' + self + '; allowed: ' + oldSelf + ', it cannot be changed'",
        },
      ).optional(),
    }),
    {
      rule: "has(self.storageClassName) == has(oldSelf.storageClassName)",
      message:
        "storageClassName cannot be added or removed; make a new store with the other storage class",
    },
  ).prefault({});
}

const storageField = fields("Where the data is kept.", {
  data: volume("One volume per pod for the records.", "10Gi"),
  wal: volume("One volume per pod for the log.", "8Gi"),
  deletionPolicy: choice(
    "What becomes of volumes and StoreShards when the store is deleted. Retain: they stay, and a store of the same name takes them over. Delete: they are deleted with it.",
    ["Retain", "Delete"],
  ).default("Retain"),
});

const namespaceItem = fields("One namespace of keys.", {
  name: label("Name of the namespace, as clients give it."),
  shards: ruled(
    integer("How many shards its keys are spread over. Cannot be changed.", 1, BOUNDS.shardsMax),
    {
      rule: "self == oldSelf",
      message: "shards cannot be changed; add another namespace",
      messageExpression:
        "'shards is %d; allowed: %d, it cannot be changed'.format([self, oldSelf])",
    },
  ).default(1),
  replicationFactor: ruled(
    integer(
      "Copies of each shard, an odd number; fewer than 3 survive no loss. Absent: the largest odd number up to `replicas`, so that 2 replicas hold 1 copy and 4 hold 3.",
      1,
      BOUNDS.replicationFactorMax,
    ),
    {
      rule: "self % 2 == 1",
      message: "an odd number; an even one needs more copies without surviving more losses",
      messageExpression: "'replicationFactor is %d; allowed: an odd number'.format([self])",
      holds: (factor) => factor % 2 === 1,
    },
  ).optional(),
  keySorting: ruled(
    choice("How keys are ordered: by parts between '/' first, or byte by byte.", [
      "hierarchical",
      "natural",
    ]),
    {
      rule: "self == oldSelf",
      message: "keySorting cannot be changed; add another namespace",
      messageExpression:
        "'keySorting is ' + self + '; allowed: ' + oldSelf + ', it cannot be changed'",
    },
  ).default("hierarchical"),
  notifications: flag(
    "Whether clients may watch for changes. Not there yet: with true as well they are refused.",
  ).default(false),
});

const PLACES = Array.from({ length: BOUNDS.namespacesMax }, (_, place) => place);

const namespacesField = ruled(
  list("Namespaces of keys. More can be added at the end.", namespaceItem, {
    min: 1,
    max: BOUNDS.namespacesMax,
    keys: ["name"],
  }),
  {
    rule: `self.map(n, n.shards).sum() <= ${BOUNDS.shardsTotalMax}`,
    message: `at most ${BOUNDS.shardsTotalMax} shards in all namespaces together`,
    messageExpression: `'there are %d shards; allowed: at most ${BOUNDS.shardsTotalMax} in all namespaces together'.format([self.map(n, n.shards).sum()])`,
    holds: (namespaces) =>
      namespaces.reduce((sum, { shards }) => sum + shards, 0) <= BOUNDS.shardsTotalMax,
  },
  {
    // Shards are numbered through all namespaces in their order. Place by place, since comparing
    // each name with each costs more than the API server lets a rule cost.
    rule: `[${PLACES.join(", ")}].all(i, i >= oldSelf.size() || (i < self.size() && self[i].name == oldSelf[i].name))`,
    message:
      "namespaces can be added at the end only, not removed, moved or renamed: shards are numbered through all of them",
  },
).prefault([{ name: "default" }]);

function duration(description: string) {
  return text({
    description,
    allowed: "a duration such as 10s or 1h30m",
    lengthMin: 1,
    lengthMax: BOUNDS.durationLengthMax,
    pattern: DURATION_PATTERN,
  });
}

const recoveryField = fields("How replicas are rebuilt.", {
  mode: choice(
    "Automatic: by itself. Manual: only those that a ReplicaRecovery orders. Paused: none.",
    ["Automatic", "Manual", "Paused"],
  ).default("Automatic"),
  maxConcurrent: integer(
    "How many pods may be rebuilt at the same time.",
    1,
    BOUNDS.replicasMax,
  ).default(1),
  bandwidthLimit: quantity(
    "Bytes per second of one transfer, for example 100Mi. Absent: no limit. A change restarts all pods, one by one.",
    "a quantity such as 100Mi",
  ).optional(),
  cooldown: duration(
    "Wait before the second rebuild of one replica within six hours; doubles with each further one.",
  ).default("10s"),
  onNodeLoss: choice(
    "What becomes of a pod whose volumes are bound to a machine that is lost: its Node is deleted or has the taint node.kubernetes.io/out-of-service. Retain: it waits. Replace: its claims are deleted and it is rebuilt elsewhere, one pod at a time, while a majority votes without it.",
    ["Retain", "Replace"],
  ).default("Retain"),
  nodeLossGrace: duration(
    "How long a machine has to be found lost, at every look, before the claims are replaced.",
  ).default("5m"),
});

function amounts(description: string) {
  return textMap(description, BOUNDS.resourceNamesMax, BOUNDS.quantityLengthMax, {
    allowed: 'a quantity such as "500m" or "1Gi", as a text',
    pattern: AMOUNT_PATTERN,
  });
}

const resourcesField = fields("Requests and limits of the sidecar.", {
  requests: amounts("What is set aside for it.").default({ cpu: "100m", memory: "256Mi" }),
  limits: amounts("What it may use at most.").optional(),
});

const specSchema = ruled(
  fields("What is asked for.", {
    replicas: integer(
      "Number of pods. An even one gives no more copies of a shard than the odd one below it: with 2 there is 1 copy, and its loss is final. See `replicationFactor` of a namespace.",
      1,
      BOUNDS.replicasMax,
    ).default(3),
    namespaces: namespacesField,
    storage: storageField.prefault({}),
    recovery: recoveryField.prefault({}),
    reads: choice(
      "Linearizable: a read sees every write that was acknowledged before it; the leader asks a majority first. Leader: it asks nobody, so that one that was deposed and does not know it yet answers with older data.",
      ["Linearizable", "Leader"],
    ).default("Linearizable"),
    image: text({
      description: "Image of the sidecar. Absent: the one the operator comes with.",
      allowed: "an image reference without spaces",
      lengthMin: 1,
      lengthMax: BOUNDS.imageLengthMax,
      pattern: /^\S+$/u,
    }).optional(),
    resources: resourcesField.prefault({}),
    template: podTemplateField.optional(),
  }),
  {
    rule: "self.namespaces.all(n, !has(n.replicationFactor) || n.replicationFactor <= self.replicas)",
    message: "at least the largest replicationFactor",
    messageExpression:
      "'replicas is %d; allowed: at least the largest replicationFactor'.format([self.replicas])",
    fieldPath: ".replicas",
    holds: ({ replicas, namespaces }) =>
      namespaces.every(({ replicationFactor = 1 }) => replicationFactor <= replicas),
  },
);

const claimsField = fields("Identities of a pod's claims.", {
  data: identity("Of the claim for the records.").optional(),
  wal: identity("Of the claim for the log.").optional(),
});

const podItem = fields("One pod.", {
  name: nodeName("Name of the pod."),
  ready: flag("Whether it is ready.").optional(),
  inSync: flag("Whether all its replicas vote.").optional(),
  nodeName: note("The machine it runs on.", BOUNDS.nameLengthMax).optional(),
  claimUids: claimsField.optional(),
});

const statusSchema = fields("How far it has come.", {
  observedGeneration: integer("The generation of the spec that was seen last.", 0).optional(),
  replicas: integer("Pods there are.", 0).optional(),
  selector: note(
    "Selects the pods, for the scale subresource.",
    BOUNDS.annotationLengthMax,
  ).optional(),
  storeId: identity("Identity of the data; a volume of another store is refused.").optional(),
  operator: namespacedName(
    "Namespace and name of the Lease of the operator that looks after the store. Others leave it alone while that Lease is held and its holder watches the namespace, and else take the store over.",
  ).optional(),
  ready: note("Ready pods of all, as 3/3.", BOUNDS.quantityLengthMax).optional(),
  quorate: note("Shards that serve of all, as 4/4.", BOUNDS.quantityLengthMax).optional(),
  rebuilding: integer("Pods that are being rebuilt.", 0).optional(),
  leaders: note("Pods that lead shards.", BOUNDS.reasonLengthMax).optional(),
  state: note(
    "In one word: Available, or what keeps it from that.",
    BOUNDS.reasonLengthMax,
  ).optional(),
  pods: list("What is known of each pod.", podItem, {
    max: BOUNDS.replicasMax,
    keys: ["name"],
  }).optional(),
  conditions: conditionsField.optional(),
});

const STORE_NAME_ALLOWED = `1 to ${BOUNDS.storeNameLengthMax} of a-z, 0-9 and '-', beginning with a letter, ending with a letter or digit: pods and Services are named after it`;
const STORE_NAME = /^[a-z]([-a-z0-9]*[a-z0-9])?$/u;

/** The rule on a store's name, with that of the value in its message. */
const storeNameRule = Object.freeze({
  rule: `self.metadata.name.size() <= ${BOUNDS.storeNameLengthMax} && self.metadata.name.matches('${STORE_NAME.source}')`,
  message: STORE_NAME_ALLOWED,
  messageExpression: `'name is ' + self.metadata.name + '; allowed: ${STORE_NAME_ALLOWED.replaceAll("'", "\\'")}'`,
  fieldPath: ".metadata.name",
  holds: ({ metadata: { name } }: { readonly metadata: { readonly name: string } }) =>
    name.length <= BOUNDS.storeNameLengthMax && STORE_NAME.test(name),
});

/** Describes and checks a ReplicatedStore; fills in defaults. */
export const replicatedStoreSchema = ruled(
  z.object({
    apiVersion: z.literal(API_VERSION),
    kind: z.literal("ReplicatedStore"),
    metadata: metadataSchema,
    spec: specSchema.prefault({}),
    status: statusSchema.optional(),
  }),
  storeNameRule,
).meta({
  description:
    "A replicated key-value store whose replicas are rebuilt by themselves when their disks are lost.",
});

/** A ReplicatedStore with its defaults filled in. */
export type ReplicatedStore = z.output<typeof replicatedStoreSchema>;
/** What a person asked for. */
export type ReplicatedStoreSpec = ReplicatedStore["spec"];
/** How far it has come. */
export type ReplicatedStoreStatus = NonNullable<ReplicatedStore["status"]>;
