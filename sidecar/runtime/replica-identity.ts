import type { ReplicaMetaStore } from "./replica-meta.ts";
import type { ReplicaStorage } from "./replica-storage.ts";
import type { ShardDirectories } from "./shard-directories.ts";
import type { StateRoom } from "./state-room.ts";

/** Which replica to open, and who hears of it. */
export interface ReplicaIdentity {
  readonly storeId: string;
  readonly namespace: string;
  readonly shard: number;
  readonly directories: ShardDirectories;
  readonly meta: ReplicaMetaStore;
  /** Null while files of an older identity wait to be set aside. */
  readonly storage: ReplicaStorage | null;
  readonly room: StateRoom;
  /** Something that watchers must learn at once changed. */
  readonly changed: () => void;
  /** The process must end (R14). */
  readonly fatal: (error: Error) => void;
}
