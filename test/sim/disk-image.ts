import type { SimDisk } from "./sim-disk.ts";

/** A node's disk as it was at some moment, like a volume snapshot of it (H19). */
export interface DiskImage {
  readonly disk: SimDisk;
  readonly replicaUid: string;
  /** The term that its replica had promised then. */
  readonly term: number;
}
