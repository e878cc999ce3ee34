import type { PromisedState } from "../core/effect.ts";
import { assert } from "../lib/assert.ts";
import type { Disk } from "../lib/ports/disk.ts";
import {
  booleanField,
  integerField,
  objectField,
  readSealed,
  stringField,
  writeSealed,
} from "../lib/sealed-file.ts";
import type { Term } from "../protocol/entry.ts";
import { isFull, SpaceReserve } from "./space-reserve.ts";

/** Name of the file in a shard's WAL directory. */
export const META_FILE = "replica.json";

/**
 * What a replica promised, outside of anything a snapshot install swaps (R12).
 * Lost with the WAL directory, and then the replica has a new uid anyway (R1).
 */
export interface ReplicaMeta {
  readonly replicaUid: string;
  /** Nothing of an older term is accepted (I2, I12). -1: no term yet. */
  readonly term: Term;
  /** The term persisted before the last NewTerm; kept while `rolledBack` (R3). */
  readonly previousTerm: Term;
  /**
   * The disk was set back below a promise that the record knows. Durable with the promise that
   * hides it: the answer that would have told of it may be lost (R3).
   */
  readonly rolledBack: boolean;
  /** Raised durably at each open (R3, R7). */
  readonly bootCounter: number;
  /** Highest generation of the record seen (R18). */
  readonly generation: number;
  readonly lossEpoch: number;
  /** False: NOT_MEMBER. */
  readonly member: boolean;
  /**
   * Set from Enrol until the next term: the only term and leader whose data a learner takes (R4).
   */
  readonly enrolled: { readonly term: Term; readonly leaderUid: string } | null;
  /** The wire's WipeReason of this identity; 0 once it votes. */
  readonly wipeReason: number;
  /** The wire's KeySortingType; 0 until a term named one. */
  readonly keySorting: number;
  readonly notifications: boolean;
  /** What went wrong and what a person can do; empty when nothing did. */
  readonly fault: string;
  /**
   * How its log differs from a leader's at what is committed here (R9); empty: it does not. Until
   * it votes again no snapshot takes the place of what it holds: that may be the only copy.
   */
  readonly diverged: string;
}

/** What the core has promised; the rest of the file is not its to write. */
export function promisedIn(meta: ReplicaMeta): PromisedState {
  const { term, previousTerm, rolledBack, generation, lossEpoch, member, enrolled } = meta;
  return { term, previousTerm, rolledBack, generation, lossEpoch, member, enrolled };
}

/** The promises of a replica nobody has talked to yet. */
export function newReplicaMeta(replicaUid: string, wipeReason: number): ReplicaMeta {
  return {
    replicaUid,
    term: -1,
    previousTerm: -1,
    rolledBack: false,
    bootCounter: 0,
    generation: 0,
    lossEpoch: 0,
    member: false,
    enrolled: null,
    wipeReason,
    keySorting: 0,
    notifications: false,
    fault: "",
    diverged: "",
  };
}

/**
 * Reads the promises in a shard's WAL directory; null when missing, GarbledFileError when damaged.
 */
export function readReplicaMeta(disk: Disk, dir: string): Promise<ReplicaMeta | null> {
  return readSealed(disk, `${dir}/${META_FILE}`, "replica", parseMeta);
}

/**
 * Durably replaces the promises, whole or not at all. Only {@link ReplicaMetaStore} and the format
 * call it.
 */
export function writeReplicaMeta(disk: Disk, dir: string, meta: ReplicaMeta): Promise<void> {
  return writeSealed(disk, `${dir}/${META_FILE}`, "replica", meta);
}

/**
 * The promises of one open replica. Saves are serialised; `current` is always what the disk holds.
 */
export class ReplicaMetaStore {
  #current: ReplicaMeta;
  #tail: Promise<void> = Promise.resolve();
  #broken: Error | null = null;
  /** Space that is given up for a promise when the volume is full. */
  readonly reserve: SpaceReserve;
  /**
   * When there is no space even so: resolves to have the update, and those behind it, tried again,
   * rejects to end it. Null: the update rejects.
   */
  whenFull: ((error: Error) => Promise<void>) | null = null;
  readonly #disk: Disk;
  readonly #dir: string;

  private constructor(disk: Disk, dir: string, current: ReplicaMeta) {
    this.#disk = disk;
    this.#dir = dir;
    this.#current = current;
    this.reserve = new SpaceReserve(disk, dir);
  }

  /**
   * Opens the promises of `replicaUid` and durably raises its boot counter. `dir` is the shard's
   * WAL directory, which `openDirectories` has just found whole. Throws GarbledFileError,
   * DiskError.
   */
  static async open(disk: Disk, dir: string, replicaUid: string): Promise<ReplicaMetaStore> {
    const found = await readReplicaMeta(disk, dir);
    assert(found !== null, `${dir}/${META_FILE} is missing after its directory was opened`);
    assert(
      found.replicaUid === replicaUid,
      `${dir}/${META_FILE} is of replica ${found.replicaUid}, the cookie says ${replicaUid}`,
    );
    const store = new ReplicaMetaStore(disk, dir, found);
    await store.update({ bootCounter: found.bootCounter + 1 });
    await store.reserve.keep();
    return store;
  }

  /** What is durably promised now. */
  get current(): ReplicaMeta {
    return this.#current;
  }

  /**
   * Durably changes the named fields and resolves then. Updates happen in call order. Rejects with
   * the DiskError when the disk refuses; unless it only was full, it then is unknown what the disk
   * holds, and every later update rejects too: the replica must end (R14). A decrease of term, boot
   * counter or generation breaks a promise and throws InvariantError (I2).
   */
  update(change: Partial<Omit<ReplicaMeta, "replicaUid">>): Promise<void> {
    const done = this.#tail.then(() => this.#save({ ...this.#current, ...change }));
    this.#tail = done.catch(() => undefined);
    return done;
  }

  async #save(next: ReplicaMeta): Promise<void> {
    if (this.#broken !== null) throw this.#broken;
    const now = this.#current;
    assert(next.term >= now.term, `term ${now.term} would fall to ${next.term}`);
    assert(next.bootCounter >= now.bootCounter, "the boot counter would fall");
    assert(next.generation >= now.generation, "the generation would fall");
    assert(next.lossEpoch >= now.lossEpoch, "the loss epoch would fall");
    try {
      await this.#write(next);
    } catch (error) {
      if (!isFull(error)) this.#broken = error as Error;
      throw error;
    }
    this.#current = next;
  }

  /** On a full volume again, in the space that was kept for it, then for as long as `whenFull`. */
  async #write(next: ReplicaMeta): Promise<void> {
    for (;;) {
      try {
        await writeReplicaMeta(this.#disk, this.#dir, next);
        return;
      } catch (error) {
        if (!isFull(error)) throw error;
        if (await this.reserve.release()) continue;
        if (this.whenFull === null) throw error;
        await this.whenFull(error as Error);
      }
    }
  }
}

function parseMeta(body: Record<string, unknown>): ReplicaMeta {
  const enrolled = body["enrolled"] === null ? null : objectField(body, "enrolled");
  return {
    replicaUid: stringField(body, "replicaUid"),
    term: integerField(body, "term", -1),
    previousTerm: integerField(body, "previousTerm", -1),
    // Files written before this field was known lack it.
    rolledBack: "rolledBack" in body && booleanField(body, "rolledBack"),
    bootCounter: integerField(body, "bootCounter", 0),
    generation: integerField(body, "generation", 0),
    lossEpoch: integerField(body, "lossEpoch", 0),
    member: booleanField(body, "member"),
    enrolled:
      enrolled === null
        ? null
        : {
            term: integerField(enrolled, "term", -1),
            leaderUid: stringField(enrolled, "leaderUid"),
          },
    wipeReason: integerField(body, "wipeReason", 0, 100),
    keySorting: integerField(body, "keySorting", 0, 100),
    notifications: booleanField(body, "notifications"),
    fault: stringField(body, "fault", /^[^]*$/),
    // Files written before this field was known lack it.
    diverged: "diverged" in body ? stringField(body, "diverged", /^[^]*$/) : "",
  };
}
