/**
 * StoreShard: what was durably decided about one shard. Its spec is the coordinator's record, since
 * backups and restores drop a status; it has no owner, and outlives its store while data is kept.
 */
import { z } from "zod";
import { RECOVERY_REASONS, type ShardRecord } from "../../core/record.ts";
import { BOUNDS } from "./bounds.ts";
import { choice, fields, flag, identity, integer, label, list, nodeName, note } from "./fields.ts";
import { API_VERSION, conditionsField, metadataSchema } from "./metadata.ts";

const term = (description: string) => integer(description, -1);
const offset = (description: string) => integer(description, -1);

const entryId = (description: string) =>
  fields(description, {
    term: term("Term of the entry."),
    offset: offset("Its place in the log."),
  });

const ensemble = (description: string) =>
  list(description, nodeName("Name of a pod."), { min: 1, max: BOUNDS.ensembleMax });

const memberItem = fields("One replica that was ever let in and has not left.", {
  node: nodeName("The pod it is on."),
  replicaUid: identity("The only replica on this pod that may count, be fed or be promoted."),
  role: choice("voter: counted in quorums. learner: fed, never counted. leaving: to be removed.", [
    "voter",
    "learner",
    "leaving",
  ]),
  ackedTerm: term("Highest term it is known to have promised; -1: none."),
  ackedBoot: integer("Which start of it answered with that promise.", 0).optional(),
  enrolTerm: term("Learners: the term they were enrolled in.").optional(),
  target: fields("Learners: what they must hold durably to be promoted.", {
    term: term("Term of the entry."),
    offset: offset("Its place in the log."),
    crc: integer("Chained checksum of the log up to it.", 0, 0xffff_ffff),
  }).optional(),
  reason: choice("Why it became a learner the last time.", RECOVERY_REASONS).optional(),
  recoveries: integer("Recoveries of the replica on this pod so far.", 0).optional(),
  lastRecoveryAtMs: integer("When the last of them began, ms since 1970.", 0).optional(),
  pvcUids: fields("The claims its data was on.", {
    data: identity("Of the claim for the records."),
    wal: identity("Of the claim for the log."),
  }).optional(),
});

const specSchema = fields(
  "What was decided. Written by the operator alone: a change by hand can lose data.",
  {
    storeName: label("Name of the ReplicatedStore."),
    storeId: identity("Identity of the data; a volume of another store is refused."),
    namespace: label("Namespace of keys."),
    shard: integer(
      "Number of the shard, counted through all namespaces.",
      0,
      BOUNDS.shardsTotalMax,
    ),
    initialized: flag("True for ever once replicas were formatted: an empty one is lost since."),
    generation: integer("Raised at each change; sidecars refuse orders of an older one.", 0),
    lossEpoch: integer("Raised by each forced quorum.", 0),
    term: term("The last term that was raised; -1: none."),
    leader: fields("Who leads the term; null during an election.", {
      node: nodeName("The pod it is on."),
      uid: identity("Its replica."),
      bootCounter: integer("Which start of that replica leads.", -1),
    }).nullable(),
    ensemble: ensemble("Pods of the voter set."),
    desired: ensemble("Pods the voter set is to have, reached one at a time."),
    members: list("All replicas.", memberItem, { max: BOUNDS.membersMax, keys: ["node"] }),
    next: fields("The change of the voter set under way.", {
      ensemble: ensemble("Pods of the next voter set."),
      joint: flag("Whether majorities of both sets are needed."),
    }).optional(),
    ensembleTerm: term("The term in which the voter sets last changed.").optional(),
    commitFloor: entryId("An entry that was committed: nobody without it is ever elected."),
    replicationFactor: integer("Copies asked for.", 1, BOUNDS.replicationFactorMax),
    keySorting: choice("How keys are ordered.", ["natural", "hierarchical"]),
    notifications: flag("Whether clients may watch for changes, once that is there."),
  },
);

const replicaItem = fields("One replica as it is seen now.", {
  node: nodeName("The pod it is on."),
  uid: note("Its identity.", BOUNDS.uidLengthMax).optional(),
  role: note("leader, voter, learner, leaving, wiped or none.", BOUNDS.labelLengthMax).optional(),
  voting: flag("Whether it counts right now.").optional(),
  status: note("What it says of itself.", BOUNDS.labelLengthMax).optional(),
  phase: note("Where its recovery stands; empty: none.", BOUNDS.labelLengthMax).optional(),
  reason: note("Why it is rebuilt.", BOUNDS.labelLengthMax).optional(),
  head: entryId("Its last entry, up to a minute ago; absent: none, or not known.").optional(),
  fault: note("What is wrong with it; empty: nothing.", BOUNDS.reasonLengthMax).optional(),
});

const statusSchema = fields("What is seen now; nothing is decided by it.", {
  voters: note(
    "Replicas that vote now, of the voter set, as 3/3.",
    BOUNDS.quantityLengthMax,
  ).optional(),
  learners: integer("Replicas that are being rebuilt.", 0).optional(),
  commitOffset: offset("The leader's last committed entry, up to a minute ago.").optional(),
  state: note(
    "In one word: Available, or what keeps it from that.",
    BOUNDS.reasonLengthMax,
  ).optional(),
  replicas: list("Each replica.", replicaItem, {
    max: BOUNDS.membersMax,
    keys: ["node"],
  }).optional(),
  conditions: conditionsField.optional(),
});

/** Describes and checks a StoreShard. */
export const storeShardSchema = z
  .object({
    apiVersion: z.literal(API_VERSION),
    kind: z.literal("StoreShard"),
    metadata: metadataSchema,
    spec: specSchema,
    status: statusSchema.optional(),
  })
  .meta({
    description:
      "What the operator durably decided about one shard of a store. Back it up with the volumes; never edit it.",
  });

/** A StoreShard. */
export type StoreShard = z.output<typeof storeShardSchema>;
/** What is seen of a shard now. */
export type StoreShardStatus = NonNullable<StoreShard["status"]>;

/** Writable all the way down, so that two types can be compared. */
type Plain<T> = T extends object ? { -readonly [K in keyof T]: Plain<T[K]> } : T;
/** Exactly the same, optional fields included: the compiler compares such functions as they are. */
type Same<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/**
 * The API server drops what the schema does not name: a field of the record that is missing above
 * would be lost without a word. This line then no longer compiles.
 */
const RECORD_IS_COMPLETE: Same<
  Plain<Omit<z.output<typeof specSchema>, "storeName">>,
  Plain<ShardRecord>
> = true;

/** Name of a shard's object: unique, since no part has a dot in it. */
export function storeShardName(storeName: string, namespace: string, shard: number): string {
  return `${storeName}.${namespace}.${shard}`;
}

/** The record in a StoreShard's spec. Not checked yet: see `parseRecord`. */
export function recordOf(spec: Readonly<Record<string, unknown>>): unknown {
  const { storeName: _storeName, ...record } = spec;
  return RECORD_IS_COMPLETE ? record : null;
}
