/**
 * Stops: states in which going on by itself could lose data. Each has a name and says what a person
 * can do; each is concluded anew from the record and from what is seen, so it ends when the
 * evidence does.
 */
import { compareEntryIds, LOG_START } from "../../sidecar/protocol/entry.ts";
import { ServingStatus } from "../../sidecar/protocol/status.ts";
import { entryText } from "./election.ts";
import {
  currentReplica,
  type Observed,
  type OpenRefusal,
  voterEvidence,
  voterReach,
} from "./observed.ts";
import { isQuorum } from "./quorum.ts";
import { voterSets, type ShardRecord } from "./record.ts";

/** Names of all stops; people find a page of that name. */
export const STOP_REASONS = [
  "RecordStale",
  "RecordLost",
  "RecordInvalid",
  "WrongStore",
  "DataLossSuspected",
  "QuorumLost",
] as const;

/** Name of a stop. */
export type StopReason = (typeof STOP_REASONS)[number];

/** What to do about it, among the files of the chart. */
export function stopPage(reason: StopReason): string {
  return `runbooks/conditions/${reason}.md`;
}

/** Why nothing more is done for a shard until a person says so. */
export interface Stop {
  readonly reason: StopReason;
  readonly message: string;
}

/** The record is not to be believed: till a person puts another in place, nobody saves it. */
const DISTRUSTED: ReadonlySet<string> = new Set<StopReason>([
  "RecordStale",
  "RecordLost",
  "RecordInvalid",
  "WrongStore",
]);

/**
 * True when the stop says that the record is not to be believed. No order may change it then: each
 * save raises its generation, until nothing tells an old record from the newest (R18).
 */
export function distrustsRecord(stop: { readonly reason: string } | null): boolean {
  return stop !== null && DISTRUSTED.has(stop.reason);
}

/** An older record was restored: replicas know a higher term or generation than it (R18). */
export function staleRecord(record: ShardRecord, observed: Observed): Stop | null {
  for (const seen of observed.nodes.values()) {
    const replica = currentReplica(observed, seen.node);
    if (replica === null || replica.storeId !== record.storeId) continue;
    for (const [field, theirs, ours] of [
      ["term", replica.term, record.term],
      ["generation", replica.generation, record.generation],
    ] as const) {
      if (theirs <= ours) continue;
      return {
        reason: "RecordStale",
        message:
          `${seen.node} has seen ${field} ${theirs}, the record says ${ours}: an older record was restored, ` +
          "or another coordinator is at work. Put the newest copy of the record back; nothing is done till then",
      };
    }
  }
  return null;
}

/** The record is gone, the data is not: an empty record must never look like a new store (R11). */
export function lostRecord(record: ShardRecord, observed: Observed): Stop | null {
  if (record.initialized) return null;
  for (const seen of observed.nodes.values()) {
    if (seen.reach === "up" && seen.openRefusal?.reason === "WRONG_STORE") {
      return lostToAnother(seen.node, seen.openRefusal);
    }
    const replica = currentReplica(observed, seen.node);
    if (replica === null) continue;
    if (!replica.formattedBefore && replica.status === ServingStatus.NOT_MEMBER) continue;
    return {
      reason: "RecordLost",
      message:
        `there is no record of this shard, yet ${seen.node} holds data of it (replica ${replica.replicaUid}, ` +
        `term ${replica.term}). Restore the record from a backup; to start empty, give every node an empty volume`,
    };
  }
  return null;
}

/** A store that is made again without its records has another identity than its data. */
function lostToAnother(node: string, { message, dataOf }: OpenRefusal): Stop {
  if (dataOf !== null) {
    return {
      reason: "RecordLost",
      message:
        `there is no record of this shard, yet ${node} holds data of it that store ${dataOf} wrote (${message}). ` +
        `If this store was made again, restore the records of store ${dataOf} from a backup; to start ` +
        "empty, or where a volume came here by mistake, give every such node an empty volume",
    };
  }
  return {
    reason: "WrongStore",
    message:
      `${node} is not this shard's: ${message}. A volume or an address that came here by mistake is to be ` +
      "given back, and the node an empty volume",
  };
}

/** Nobody who answered the last election holds what was committed (R6). */
export function belowFloor(record: ShardRecord, observed: Observed): Stop | null {
  const found = observed.belowFloor;
  if (found === null || found.evidence !== voterEvidence(record, observed)) return null;
  return {
    reason: "DataLossSuspected",
    message:
      `entry ${entryText(record.commitFloor)} was committed, the newest log found is on ` +
      `${found.best.node} and ends at ${entryText(found.best.head)}. ` +
      "Bring the missing replicas back, or order a forced quorum and accept the loss",
  };
}

/** A majority of voters is wiped, and no leader is left that holds everything acknowledged. */
export function lostQuorum(record: ShardRecord, observed: Observed): Stop | null {
  const { intact } = voterReach(record, observed);
  if (isQuorum(voterSets(record), intact)) return null;
  const left =
    intact.size === 0
      ? "No voter holds data. Bring back a lost disk if there is one; otherwise order a forced quorum " +
        "of a replica whose volumes were moved or set back, if there is one; else its data is gone"
      : `Left with data, the newest first: ${survivorsText(intact, observed)}. ` +
        "Bring back a lost disk if there is one; otherwise order a forced quorum of one survivor";
  return {
    reason: "QuorumLost",
    message: `a majority of the voters has lost its data, and no leader is left that held everything. ${left}`,
  };
}

/** By what each said last, wherever it is now. */
function survivorsText(nodes: ReadonlySet<string>, observed: Observed): string {
  const survivors = [...nodes].map((node) => {
    return { node, head: observed.nodes.get(node)?.replica?.head ?? LOG_START };
  });
  return survivors
    .toSorted((a, b) => compareEntryIds(b.head, a.head))
    .map(({ node, head }) => {
      const held = head === LOG_START ? "not known" : `up to ${entryText(head)}`;
      return `${node} (${held})`;
    })
    .join(", ");
}
