/** ReplicaRecovery: one recovery of a pod, seen by the operator or ordered by a person. */
import { z } from "zod";
import { RECOVERY_REASONS } from "../../core/record.ts";
import { BOUNDS } from "./bounds.ts";
import {
  choice,
  fields,
  identity,
  integer,
  label,
  list,
  nodeName,
  note,
  ruled,
  text,
  time,
} from "./fields.ts";
import { API_VERSION, metadataSchema } from "./metadata.ts";

/** Phases of a recovery. The last three end it. */
export const RECOVERY_PHASES = [
  "Detected",
  "Deferred",
  "Enrolled",
  "Transferring",
  "CatchingUp",
  "Promoting",
  "Succeeded",
  "Failed",
  "Rejected",
] as const;
/** See {@link RECOVERY_PHASES}. */
export type ReplicaRecoveryPhase = (typeof RECOVERY_PHASES)[number];

/** True once nothing more happens to a recovery. */
export function isFinished(phase: ReplicaRecoveryPhase | undefined): boolean {
  return phase === "Succeeded" || phase === "Failed" || phase === "Rejected";
}

const shardField = (description: string) =>
  fields(description, {
    namespace: label("Namespace of keys."),
    shard: integer("Number of the shard.", 0, BOUNDS.shardsTotalMax),
  });

const specSchema = ruled(
  fields("What is recovered. Exactly one of rebuild and forceQuorum. Cannot be changed.", {
    storeName: label("The ReplicatedStore, in the same namespace."),
    rebuild: fields("Rebuild a pod's replicas from the leader.", {
      pod: nodeName("Name of the pod."),
      shard: shardField("Only this shard. Absent: all of the pod's.").optional(),
    }).optional(),
    forceQuorum: fields(
      "Go on with one survivor after a majority was lost. What it lacks is lost for good.",
      {
        shard: shardField("The shard that has lost its majority."),
        survivor: nodeName("The pod whose data is kept."),
        acknowledgeDataLoss: text({
          description:
            'Exactly "lose everything after offset N", where N is the survivor\'s last entry. Where another voter had newer ones, with ", although POD has newer entries" behind it.',
          allowed:
            'exactly "lose everything after offset N", or that and ", although POD has newer entries"',
          lengthMin: 1,
          lengthMax: BOUNDS.acknowledgementLengthMax,
          pattern:
            /^lose everything after offset (-1|0|[1-9][0-9]*)(, although [-a-z0-9.]+ has newer entries)?$/u,
        }),
      },
    ).optional(),
    trigger: choice("Requested: a person ordered it. Detected: the operator saw it.", [
      "Requested",
      "Detected",
    ]).default("Requested"),
    ttlSecondsAfterFinished: integer(
      "How long the object is kept after its end. Absent: a week.",
      0,
      BOUNDS.ttlSecondsMax,
    ).default(604_800),
  }),
  {
    rule: "has(self.rebuild) != has(self.forceQuorum)",
    message: "exactly one of rebuild and forceQuorum",
    holds: ({ rebuild, forceQuorum }) => (rebuild === undefined) !== (forceQuorum === undefined),
  },
  {
    rule: "!has(self.forceQuorum) || self.trigger == 'Requested'",
    message: "Requested; a forced quorum is a person's order",
    messageExpression:
      "'trigger is ' + self.trigger + '; allowed: Requested, a forced quorum is a person\\'s order'",
    fieldPath: ".trigger",
    holds: ({ forceQuorum, trigger }) => forceQuorum === undefined || trigger === "Requested",
  },
  {
    rule: "self == oldSelf",
    message: "the spec of a ReplicaRecovery cannot be changed; make another one",
  },
);

const evidenceField = fields("What the recovery was concluded from.", {
  oldReplicaUid: note("The replica that voted before.", BOUNDS.uidLengthMax).optional(),
  newReplicaUid: note("The replica that is there now.", BOUNDS.uidLengthMax).optional(),
  oldDataClaimUid: note("The claim its records were on.", BOUNDS.uidLengthMax).optional(),
  newDataClaimUid: note("The claim its records are on now.", BOUNDS.uidLengthMax).optional(),
  oldWalClaimUid: note("The claim its log was on.", BOUNDS.uidLengthMax).optional(),
  newWalClaimUid: note("The claim its log is on now.", BOUNDS.uidLengthMax).optional(),
  reportedBy: note("Who saw it first.", BOUNDS.nameLengthMax).optional(),
});

const shardItem = fields("One shard of the pod.", {
  namespace: label("Namespace of keys."),
  shard: integer("Number of the shard.", 0, BOUNDS.shardsTotalMax),
  phase: choice("How far it is.", RECOVERY_PHASES),
  newReplicaUid: identity("The replica that is rebuilt.").optional(),
  bytesDone: integer("Bytes that have arrived. Absent: no snapshot is known of.", 0).optional(),
  bytesTotal: integer("Bytes of the whole snapshot.", 0).optional(),
  entriesDone: integer("Without a snapshot: entries of the log it holds.", 0).optional(),
  entriesTotal: integer("Without a snapshot: entries that the leader holds.", 0).optional(),
});

const statusSchema = fields("How far it is.", {
  phase: choice("How far it is; that of the shard that is least far.", RECOVERY_PHASES).optional(),
  reason: choice("Why it is needed.", RECOVERY_REASONS).optional(),
  message: note("What it means, and what a person can do, if anything.").optional(),
  gate: note("What holds it back, while it is Deferred.", BOUNDS.labelLengthMax).optional(),
  evidence: evidenceField.optional(),
  source: note("The pod that sends the data.", BOUNDS.nameLengthMax).optional(),
  progress: note(
    "In per cent: bytes of the snapshots, or entries of the shards that need none; the lesser.",
    BOUNDS.quantityLengthMax,
  ).optional(),
  bytesDone: integer("Bytes that have arrived. Absent: no snapshot is known of.", 0).optional(),
  bytesTotal: integer("Bytes of all snapshots.", 0).optional(),
  entriesDone: integer("Entries held by shards that need no snapshot.", 0).optional(),
  entriesTotal: integer("Entries that their leaders hold.", 0).optional(),
  rate: note("Bytes per second, for people.", BOUNDS.quantityLengthMax).optional(),
  eta: note("Time left, for people.", BOUNDS.quantityLengthMax).optional(),
  attempts: integer("Transfers begun.", 0).optional(),
  lastErrors: list("The last errors, newest last.", note("One error.", BOUNDS.reasonLengthMax), {
    max: BOUNDS.errorsMax,
  }).optional(),
  shards: list("Each shard of the pod.", shardItem, {
    max: BOUNDS.shardsTotalMax,
    keys: ["namespace", "shard"],
  }).optional(),
  startedAt: time("When it was seen or ordered.").optional(),
  finishedAt: time("When it ended.").optional(),
});

/** Describes and checks a ReplicaRecovery; fills in defaults. */
export const replicaRecoverySchema = z
  .object({
    apiVersion: z.literal(API_VERSION),
    kind: z.literal("ReplicaRecovery"),
    metadata: metadataSchema,
    spec: specSchema,
    status: statusSchema.optional(),
  })
  .meta({
    description:
      "One recovery: of a pod whose replicas lost their disk, or of a shard that lost its majority.",
  });

/** A ReplicaRecovery with its defaults filled in. */
export type ReplicaRecovery = z.output<typeof replicaRecoverySchema>;
/** How far a recovery is. */
export type ReplicaRecoveryStatus = NonNullable<ReplicaRecovery["status"]>;
