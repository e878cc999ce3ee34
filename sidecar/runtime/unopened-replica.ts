import type { Disk } from "../lib/ports/disk.ts";
import { GarbledFileError } from "../lib/sealed-file.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { WipeReason, type ReplicaStatus } from "../protocol/gen/resilver.ts";
import { ServingStatus } from "../protocol/status.ts";
import { type MasterCookie, readCookie, readMasterCookie } from "./cookie.ts";
import type { ReplicaHandle } from "./ports.ts";
import { type ReplicaMeta, readReplicaMeta } from "./replica-meta.ts";
import { type KnownShard, shardPaths } from "./shard-paths.ts";

/** Where a replica lies that could not be opened, and why it could not. */
export interface UnopenedReplicaOptions {
  readonly disk: Disk;
  readonly node: string;
  readonly walDir: string;
  readonly stateDir: string;
  readonly known: KnownShard;
  readonly reason: string;
}

/**
 * A replica whose volume has no room to open it. Its process serves the others; this one says who
 * it is, so that nobody takes it for lost, and what is wrong, and refuses everything else: it
 * neither votes nor promises before its boot counter is raised (R3).
 */
export class UnopenedReplica implements ReplicaHandle {
  readonly namespace: string;
  readonly shard: number;
  readonly #status: ReplicaStatus;

  /**
   * Null when there is nobody to speak of: no one has heard of this identity yet, or it is lost and
   * opening it makes a new one. It must not be taken for a voter that is whole (R1, R14).
   */
  static async find(options: UnopenedReplicaOptions): Promise<UnopenedReplica | null> {
    const { disk, walDir, stateDir, known } = options;
    const paths = shardPaths({ walDir, stateDir, ...known });
    try {
      const cookie = await readMasterCookie(disk, paths.walDir);
      const stateCookie = await readCookie(disk, paths.stateDir);
      const meta = await readReplicaMeta(disk, paths.walDir);
      if (cookie === null || meta === null || cookie.phase === "FORMING") return null;
      const { replicaUid } = cookie;
      if (replicaUid !== meta.replicaUid || replicaUid !== stateCookie?.replicaUid) return null;
      if (meta.fault !== "") return null;
      return new UnopenedReplica(options, cookie, meta);
    } catch (error) {
      if (error instanceof GarbledFileError) return null;
      throw error;
    }
  }

  private constructor(options: UnopenedReplicaOptions, cookie: MasterCookie, meta: ReplicaMeta) {
    this.namespace = options.known.namespace;
    this.shard = options.known.shard;
    this.#status = statusOf(options, cookie, meta);
  }

  readonly newTerm = (): Promise<never> => this.#refuse();
  readonly becomeLeader = (): Promise<never> => this.#refuse();
  readonly addFollower = (): Promise<never> => this.#refuse();
  readonly removeFollower = (): Promise<never> => this.#refuse();
  readonly promote = (): Promise<never> => this.#refuse();
  readonly updateEnsemble = (): Promise<never> => this.#refuse();
  readonly enrol = (): Promise<never> => this.#refuse();
  readonly truncate = (): Promise<never> => this.#refuse();
  readonly serveReplicate = (): Promise<never> => this.#refuse();
  readonly serveSnapshot = (): Promise<never> => this.#refuse();
  readonly write = (): Promise<never> => this.#refuse();
  readonly readBarrier = (): Promise<never> => this.#refuse();
  readonly checksum = (): Promise<never> => this.#refuse();

  get(): never {
    throw this.#refusal();
  }

  list(): never {
    throw this.#refusal();
  }

  scan(): never {
    throw this.#refusal();
  }

  status(): ReplicaStatus {
    return this.#status;
  }

  async close(): Promise<void> {
    // Nothing is open.
  }

  async #refuse(): Promise<never> {
    throw this.#refusal();
  }

  #refusal(): ProtocolError {
    return new ProtocolError("RESOURCE_UNAVAILABLE", this.#status.fault, { outcome: "none" });
  }
}

function statusOf(
  { node, known, reason }: UnopenedReplicaOptions,
  cookie: MasterCookie,
  meta: ReplicaMeta,
): ReplicaStatus {
  return {
    ...known,
    node,
    replicaUid: meta.replicaUid,
    status: meta.member ? ServingStatus.FENCED : ServingStatus.NOT_MEMBER,
    term: meta.term,
    bootCounter: meta.bootCounter,
    generation: meta.generation,
    // What it holds is not known before it is opened.
    head: undefined,
    commit: undefined,
    commitOffset: -1,
    appliedOffset: -1,
    durableOffset: -1,
    logFirstOffset: 0,
    wipeReason: meta.wipeReason as WipeReason,
    formattedBefore: cookie.reason !== "NEVER_FORMATTED" || meta.member || meta.enrolled !== null,
    leaderUid: "",
    recovery: undefined,
    followers: [],
    serving: false,
    fault: `its volume has no room to open it, more is needed; it goes on by itself then: ${reason}`,
    lossEpoch: meta.lossEpoch,
    previousTerm: meta.previousTerm,
    enrolledTerm: meta.enrolled?.term ?? -1,
    votes: false,
    rolledBack: meta.rolledBack,
    noSpace: true,
    stalledMs: 0,
    roomBytes: 0,
    stateBytes: 0,
  };
}
