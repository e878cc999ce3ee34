/** The CustomResourceDefinitions of all resources, as `crds` holds them. Pure. */
import type { z } from "zod";
import { GROUP, VERSION } from "./metadata.ts";
import { replicaRecoverySchema } from "./replica-recovery.ts";
import { replicatedStoreSchema } from "./replicated-store.ts";
import { storeShardSchema } from "./store-shard.ts";
import { structuralSchema, type StructuralSchema } from "./structural-schema.ts";

/** A column of `kubectl get`. Those of priority 1 show with `-o wide`. */
interface Column {
  readonly name: string;
  readonly jsonPath: string;
  readonly type: "string" | "integer" | "date";
  readonly description: string;
  readonly priority?: 1;
}

interface Definition {
  readonly kind: string;
  readonly plural: string;
  readonly shortName: string;
  readonly schema: z.ZodType;
  readonly columns: readonly Column[];
  readonly scale?: Readonly<Record<string, string>>;
}

const AGE: Column = {
  name: "Age",
  jsonPath: ".metadata.creationTimestamp",
  type: "date",
  description: "Time since it was made.",
};

function column(
  name: string,
  jsonPath: string,
  description: string,
  type: Column["type"] = "string",
): Column {
  return { name, jsonPath, type, description };
}

function wide(name: string, jsonPath: string, description: string): Column {
  return { ...column(name, jsonPath, description), priority: 1 };
}

const DEFINITIONS: readonly Definition[] = [
  {
    kind: "ReplicatedStore",
    plural: "replicatedstores",
    shortName: "rstore",
    schema: replicatedStoreSchema,
    columns: [
      column("Ready", ".status.ready", "Ready pods of all."),
      column("Quorate", ".status.quorate", "Shards that serve of all."),
      column("Rebuilding", ".status.rebuilding", "Pods that are being rebuilt now.", "integer"),
      column("Leader", ".status.leaders", "Pods that lead shards."),
      column("State", ".status.state", "Available, or what keeps it from that."),
      AGE,
      wide(
        "Message",
        ".status.conditions[?(@.type=='Available')].message",
        "What it means, and what to do.",
      ),
    ],
    scale: {
      specReplicasPath: ".spec.replicas",
      statusReplicasPath: ".status.replicas",
      labelSelectorPath: ".status.selector",
    },
  },
  {
    kind: "StoreShard",
    plural: "storeshards",
    shortName: "rshard",
    schema: storeShardSchema,
    columns: [
      column("Store", ".spec.storeName", "The store it belongs to."),
      column("Term", ".spec.term", "The last term that was raised.", "integer"),
      // Not the record's word alone: it names one whose data is gone until another is elected.
      column("Leader", ".status.replicas[?(@.role=='leader')].node", "The pod that leads it."),
      column("Voters", ".status.voters", "Replicas that vote now, of the voter set."),
      column("Learners", ".status.learners", "Replicas that are being rebuilt.", "integer"),
      column(
        "Commit",
        ".status.commitOffset",
        "The last committed entry, up to a minute ago.",
        "integer",
      ),
      column("State", ".status.state", "Available, or what keeps it from that."),
      AGE,
      wide(
        "Message",
        ".status.conditions[?(@.type=='Available')].message",
        "What it means, and what to do.",
      ),
    ],
  },
  {
    kind: "ReplicaRecovery",
    plural: "replicarecoveries",
    shortName: "rrec",
    schema: replicaRecoverySchema,
    columns: [
      column("Store", ".spec.storeName", "The store it belongs to."),
      column("Pod", ".spec.rebuild.pod", "The pod that is rebuilt."),
      column("Reason", ".status.reason", "Why it is needed."),
      column("Phase", ".status.phase", "How far it is."),
      column("Progress", ".status.progress", "Done of all bytes, or of all entries."),
      column("Rate", ".status.rate", "Bytes per second."),
      AGE,
      wide("ETA", ".status.eta", "Time left."),
      wide("Source", ".status.source", "The pod that sends the data."),
      wide("Message", ".status.message", "What it means, and what to do."),
    ],
  },
];

/** A definition as it is applied; plain JSON. */
export interface CustomResourceDefinition {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: StructuralSchema;
}

/** All of them, in the order of their file names. */
export function customResourceDefinitions(): readonly CustomResourceDefinition[] {
  return DEFINITIONS.map(definition).toSorted((a, b) =>
    a.metadata.name < b.metadata.name ? -1 : 1,
  );
}

/** Name of the file that holds a definition. */
export function definitionFile({ metadata }: CustomResourceDefinition): string {
  const plural = metadata.name.split(".", 1)[0] ?? "";
  return `${GROUP}_${plural}.yaml`;
}

function definition({
  kind,
  plural,
  shortName,
  schema,
  columns,
  scale,
}: Definition): CustomResourceDefinition {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${GROUP}` },
    spec: {
      group: GROUP,
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular: kind.toLowerCase(),
        shortNames: [shortName],
        categories: ["resilver"],
      },
      scope: "Namespaced",
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          schema: { openAPIV3Schema: rootSchema(schema) },
          subresources: { status: {}, ...(scale === undefined ? {} : { scale }) },
          additionalPrinterColumns: columns,
        },
      ],
    },
  };
}

/** The API server knows the frame of every object, and allows no more of it to be described. */
function rootSchema(schema: z.ZodType): StructuralSchema {
  const root = structuralSchema(schema);
  const properties = root["properties"] as Readonly<Record<string, StructuralSchema>>;
  return {
    ...root,
    properties: {
      apiVersion: {
        type: "string",
        description: "Version of this kind of object: group and version.",
      },
      kind: { type: "string", description: "Kind of the object." },
      // A rule can point at a field only where the schema names it.
      metadata: { type: "object", properties: { name: { type: "string" } } },
      ...Object.fromEntries(
        Object.entries(properties).filter(([name]) => name === "spec" || name === "status"),
      ),
    },
    required: ["spec"],
  };
}
