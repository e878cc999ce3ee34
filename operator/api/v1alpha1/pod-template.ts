/** What people may add to the pods of a store: their own containers, scheduling, labels. */
import { BOUNDS } from "./bounds.ts";
import { fields, foreign, integer, label, list, nodeName, ruled, textMap } from "./fields.ts";

/** Labels and annotations under this prefix are the operator's. */
export const OWN_PREFIX = "resilver.io/";

/** Name of the sidecar's container. */
export const SIDECAR_CONTAINER = "resilver";

/** Names of the volumes that hold a store's data. */
export const DATA_VOLUMES = Object.freeze({ data: "data", wal: "wal" });

const RESERVED_VOLUMES: readonly string[] = [...Object.values(DATA_VOLUMES), "config", "tmp"];

/** A name that none of `taken` may have. */
function freeName(description: string, taken: readonly string[], whose: string) {
  return ruled(label(description), {
    rule: `!(self in [${taken.map((name) => `'${name}'`).join(", ")}])`,
    message: `any name but ${taken.join(", ")}, ${whose}`,
    messageExpression: `'name is ' + self + '; allowed: any but ${taken.join(", ")}, ${whose}'`,
    holds: (name) => !taken.includes(name),
  });
}

function containers(description: string) {
  const item = foreign("A container, as in a pod.", {
    name: freeName(
      "Name of the container, once per pod.",
      [SIDECAR_CONTAINER],
      "which is the sidecar",
    ),
  });
  return list(description, item, { max: BOUNDS.containersMax, keys: ["name"] });
}

function volumes() {
  const item = foreign("A volume, as in a pod.", {
    name: freeName(
      "Name of the volume, once per pod.",
      RESERVED_VOLUMES,
      "which the store itself uses",
    ),
  });
  const description = "Volumes for your containers.";
  return list(description, item, { max: BOUNDS.volumesMax, keys: ["name"] });
}

function ownMap(what: string, valueLengthMax: number) {
  return ruled(
    textMap(`${what} for the pods, beside the operator's own.`, BOUNDS.labelsMax, valueLengthMax),
    {
      rule: `self.all(key, !key.startsWith('${OWN_PREFIX}'))`,
      message: `keys that do not begin with ${OWN_PREFIX}, which are the operator's`,
      holds: (map) => Object.keys(map).every((key) => !key.startsWith(OWN_PREFIX)),
    },
  );
}

const podFields = fields("Parts of the pods' spec.", {
  containers: containers(
    "Your own containers. The sidecar then starts before them and ends after them.",
  ).optional(),
  initContainers: containers("Your own init containers; they run before the sidecar.").optional(),
  volumes: volumes().optional(),
  nodeSelector: textMap(
    "Labels a node must have for a pod to be put there.",
    BOUNDS.labelsMax,
    BOUNDS.labelValueLengthMax,
  ).optional(),
  tolerations: list(
    "Taints of nodes that the pods tolerate.",
    foreign("A toleration, as in a pod.", {}),
    { max: BOUNDS.tolerationsMax },
  ).optional(),
  affinity: foreign("Affinity and anti-affinity, as in a pod.", {}).optional(),
  topologySpreadConstraints: list(
    "How pods are spread. Absent: over nodes, where that is possible.",
    foreign("A constraint, as in a pod.", {}),
    { max: BOUNDS.topologySpreadConstraintsMax },
  ).optional(),
  priorityClassName: nodeName("Priority class of the pods.").optional(),
  imagePullSecrets: list(
    "Secrets to pull images with.",
    fields("A secret of this namespace.", { name: nodeName("Name of the secret.") }),
    { max: BOUNDS.pullSecretsMax, keys: ["name"] },
  ).optional(),
  terminationGracePeriodSeconds: integer(
    "How long a pod may take to end. Absent: 30.",
    10,
    3_600,
  ).optional(),
});

/** The field `template`. */
export const podTemplateField = fields("What is added to the pods.", {
  metadata: fields("Labels and annotations of the pods.", {
    labels: ownMap("Labels", BOUNDS.labelValueLengthMax).optional(),
    annotations: ownMap("Annotations", BOUNDS.annotationLengthMax).optional(),
  }).optional(),
  spec: podFields.optional(),
});
