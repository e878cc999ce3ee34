/** A pod's fake sidecar: the replica of one shard, its process and its streams. */
import { FakeReplica } from "../operator/controller/fake-replica.ts";
import type { NodeStatus } from "../../sidecar/protocol/gen/resilver.ts";
import { WipeReason } from "../../sidecar/protocol/gen/resilver.ts";

/** Told of each status that changed. */
export type StatusStream = (status: NodeStatus) => void;

/** All fake sidecars of one store; they replicate in no time. */
export class FakeGroup {
  readonly nodes = new Map<string, FakeNode>();

  node(name: string): FakeNode {
    const present = this.nodes.get(name);
    if (present !== undefined) return present;
    const node = new FakeNode(name);
    this.nodes.set(name, node);
    return node;
  }

  /** Replicates what the leader has, and tells of all that is different since the last time. */
  settle(): void {
    const live = this.live();
    // Once to copy, once to tell the followers what that has committed.
    for (let round = 0; round < 2; round += 1) {
      for (const replica of live.values()) replica.replicate(live);
    }
    for (const node of this.nodes.values()) node.report(live);
  }

  live(): ReadonlyMap<string, FakeReplica> {
    const live = [...this.nodes.values()].flatMap(({ name, podUid, replica }) =>
      podUid === null || replica === null ? [] : [[name, replica] as const],
    );
    return new Map(live);
  }
}

/** See the file's header. */
export class FakeNode {
  readonly name: string;
  /** Null while there is no running pod. */
  podUid: string | null = null;
  bootId = 0;
  replica: FakeReplica | null = null;
  readonly streams = new Set<StatusStream>();
  /** Breaks the calls off that are open. */
  readonly ends = new Set<() => void>();
  private claimUid = "";
  private reported = "";

  constructor(name: string) {
    this.name = name;
  }

  /** A pod runs with this claim. On another claim than the last one the disk is empty. */
  start(podUid: string, claimUid: string): void {
    const wiped = this.claimUid !== "" && this.claimUid !== claimUid;
    this.podUid = podUid;
    this.claimUid = claimUid;
    this.bootId += 1;
    this.replica?.restart();
    if (!wiped || this.replica === null) return;
    this.replica.wipe(claimUid);
    this.replica.wipeReason = WipeReason.VOLUME_EMPTY;
  }

  /** The pod has gone; its calls are broken off by {@link ends}. */
  stop(): void {
    this.podUid = null;
  }

  /** The shard's replica, formatted the first time. */
  open(storeId: string): FakeReplica {
    this.replica ??= new FakeReplica(this.name, this.claimUid);
    this.replica.storeId = storeId;
    return this.replica;
  }

  status(live: ReadonlyMap<string, FakeReplica>, full: boolean): NodeStatus {
    const replicas = this.replica === null ? [] : [this.replica.report(live)];
    return { node: this.name, bootId: this.bootId, full, replicas };
  }

  /** Says that it lives, as a sidecar does. */
  beat(stream: StatusStream): void {
    if (this.podUid === null) return;
    stream({ node: this.name, bootId: this.bootId, full: false, replicas: [] });
  }

  report(live: ReadonlyMap<string, FakeReplica>): void {
    if (this.streams.size === 0) return;
    const status = this.status(live, false);
    const text = JSON.stringify(status);
    if (text === this.reported) return;
    this.reported = text;
    for (const stream of this.streams) stream(status);
  }
}
