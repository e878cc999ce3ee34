/**
 * The record: what the coordinator durably decided about one shard (DESIGN section 3).
 *
 * It is changed only by compare-and-swap, before anything is done because of it, and dropped and
 * read again on a conflict (R18). It is JSON: a file in local mode, the spec of a StoreShard on
 * Kubernetes.
 */
import { z } from "zod";

const offset = z.int().min(-1);
const term = z.int().min(-1);
const uid = z.string().min(1);
const node = z.string().min(1);

const entryIdSchema = z.strictObject({ term, offset }).readonly();
const positionSchema = z
  .strictObject({ term, offset, crc: z.int().min(0).max(0xffff_ffff) })
  .readonly();

/** Why a replica is being rebuilt; a closed list, since it is a metric label. */
export const RECOVERY_REASONS = [
  "VolumeEmpty",
  "IdentityMismatch",
  "Corrupt",
  "RolledBack",
  "PVCReplaced",
  "Requested",
  "Joining",
] as const;
/** One of RECOVERY_REASONS. */
export type RecoveryReason = (typeof RECOVERY_REASONS)[number];

const memberSchema = z
  .strictObject({
    node,
    /** The only replica uid on this node that may count, be fed or be promoted (R2). */
    replicaUid: uid,
    role: z.enum(["voter", "learner", "leaving"]),
    /**
     * Highest term this uid is known to have persisted; less in a later reply is a regression (R3).
     * -1: none.
     */
    ackedTerm: term,
    /**
     * Boot counter of the process that answered with it: a later process below that term, or an
     * earlier process later on, has been set back (R3). Absent: not known.
     */
    ackedBoot: z.int().min(0).optional(),
    /**
     * Learners: the term they were enrolled in; absent or older than the record's: enrol (again).
     */
    enrolTerm: term.optional(),
    /** Learners: what they must hold durably, under this enrolment, to be promoted (R16). */
    target: positionSchema.optional(),
    /** Why it became a learner the last time. */
    reason: z.enum(RECOVERY_REASONS).optional(),
    /** Recoveries of the replica on this node so far, for the Cooldown gate. */
    recoveries: z.int().min(0).optional(),
    /** Wall clock in ms when the last of them began. */
    lastRecoveryAtMs: z.int().min(0).optional(),
    /** Kubernetes: the claims this replica's data was on. */
    pvcUids: z.strictObject({ data: uid, wal: uid }).readonly().optional(),
  })
  .readonly();

const recordSchema = z
  .strictObject({
    storeId: uid,
    namespace: z.string().min(1),
    shard: z.int().min(0),
    /**
     * Turns true once, by the bootstrap, for ever: from then on an empty replica is a wiped one
     * (R11).
     */
    initialized: z.boolean(),
    /** Raised at each save; every call to a sidecar carries it (R18). */
    generation: z.int().min(0),
    /** Raised by each forced quorum; goes into the high bits of version ids (R6). */
    lossEpoch: z.int().min(0),
    /** Last term raised. -1: none yet. */
    term,
    /** Who leads `term`, from before BecomeLeader is sent; null while an election is going on. */
    leader: z.strictObject({ node, uid, bootCounter: z.int() }).readonly().nullable(),
    /**
     * Node names of the current voter set. Its size, not the number of voters, gives the quorum
     * (R2).
     */
    ensemble: z.array(node).min(1).readonly(),
    /** Where the ensemble is to get to, one replica at a time. */
    desired: z.array(node).min(1).readonly(),
    members: z.array(memberSchema).readonly(),
    /** The change under way. `joint`: both sets' majorities are needed (R13). */
    next: z
      .strictObject({ ensemble: z.array(node).min(1).readonly(), joint: z.boolean() })
      .readonly()
      .optional(),
    /** The term in which the voter sets last changed; its leader must be told of them. */
    ensembleTerm: term.optional(),
    /** Something committed: nobody below it is ever elected (R6). */
    commitFloor: entryIdSchema,
    replicationFactor: z.int().min(1),
    keySorting: z.enum(["natural", "hierarchical"]),
    notifications: z.boolean(),
  })
  .readonly();

/** What was durably decided about a shard (DESIGN section 3). */
export type ShardRecord = z.infer<typeof recordSchema>;
/** One replica in a record. */
export type RecordMember = z.infer<typeof memberSchema>;

/** Names a shard. */
export interface ShardKey {
  readonly namespace: string;
  readonly shard: number;
}

/** `namespace/shard`: for maps and for people. */
export function shardKeyText(key: ShardKey): string {
  return `${key.namespace}/${key.shard}`;
}

/** A record that cannot be believed. `field` says where; the message says what is allowed there. */
export class RecordInvalid extends Error {
  override readonly name = "RecordInvalid";
  readonly field: string;
  constructor(field: string, message: string) {
    super(message);
    this.field = field;
  }
}

/** Checks what a store returned. Throws {@link RecordInvalid}, which names the field. */
export function parseRecord(value: unknown): ShardRecord {
  const parsed = recordSchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const field = issue === undefined ? "(record)" : issuePath(issue);
    throw new RecordInvalid(field, `record: ${field}: ${issue?.message ?? "not a record"}`);
  }
  checkRelations(parsed.data);
  return parsed.data;
}

function issuePath(issue: z.core.$ZodIssue): string {
  const path = issue.path.map(String).join(".");
  if (issue.code === "unrecognized_keys") return [path, ...issue.keys].filter(Boolean).join(".");
  return path === "" ? "(record)" : path;
}

function checkRelations(record: ShardRecord): void {
  for (const [field, nodes] of [
    ["ensemble", record.ensemble],
    ["desired", record.desired],
    ["next.ensemble", record.next?.ensemble ?? []],
    ["members", record.members.map((member) => member.node)],
  ] as const) {
    if (new Set(nodes).size !== nodes.length) {
      throw new RecordInvalid(field, `record: ${field}: ${nodes.join(", ")} names a node twice`);
    }
  }
  const { leader } = record;
  if (leader !== null && !record.members.some((m) => m.replicaUid === leader.uid)) {
    throw new RecordInvalid(
      "leader.uid",
      `record: leader.uid: ${leader.uid} is not the uid of a member`,
    );
  }
}

/** What a record starts from. */
export interface NewRecord extends ShardKey {
  readonly storeId: string;
  readonly ensemble: readonly string[];
  readonly replicationFactor: number;
  readonly keySorting: "natural" | "hierarchical";
  readonly notifications: boolean;
}

/**
 * The record of a shard that never existed: not initialized, so only never-formatted replicas will
 * do (R11).
 */
export function newRecord(start: NewRecord): ShardRecord {
  return {
    ...start,
    initialized: false,
    generation: 0,
    lossEpoch: 0,
    term: -1,
    leader: null,
    desired: start.ensemble,
    members: [],
    commitFloor: { term: -1, offset: -1 },
  };
}

/** The member on a node, if any: there is at most one. */
export function memberOn(record: ShardRecord, nodeName: string): RecordMember | undefined {
  return record.members.find((member) => member.node === nodeName);
}

/** The same record with the member on `member.node` replaced or added. */
export function withMember(record: ShardRecord, member: RecordMember): ShardRecord {
  const present = record.members.some((other) => other.node === member.node);
  const members = present
    ? record.members.map((other) => (other.node === member.node ? member : other))
    : [...record.members, member];
  return { ...record, members };
}

/** Node names of the voter sets in force: one, or two while a change is joint (R13). */
export function voterSets(record: ShardRecord): readonly (readonly string[])[] {
  return record.next?.joint === true ? [record.ensemble, record.next.ensemble] : [record.ensemble];
}
