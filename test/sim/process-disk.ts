import type { Disk, DiskFile, DiskLock } from "../../sidecar/lib/ports/disk.ts";
import type { SimProcess, SimTime } from "./sim-clock.ts";
import type { SimDisk } from "./sim-disk.ts";

/** How long a disk takes, in milliseconds; drawn anew for each operation. */
export interface DiskSpeed {
  syncMsMin: number;
  syncMsMax: number;
  /** Every other operation. */
  otherMsMax: number;
  /** Multiplies all of it; more than 1 while the disk is slow. */
  factor: number;
}

/** What happens around the operations of one process. */
export interface DiskEvents {
  /** An operation is about to take effect; `kill` may end the process instead. */
  before(operation: string): void;
}

/**
 * A node's disk as one process of it sees it: each operation takes time, takes effect at its end,
 * and never when the process died meanwhile.
 */
export class ProcessDisk implements Disk {
  readonly #disk: SimDisk;
  readonly #process: SimProcess;
  readonly #time: SimTime;
  readonly #speed: DiskSpeed;
  readonly #events: DiskEvents;

  constructor(
    disk: SimDisk,
    process: SimProcess,
    time: SimTime,
    speed: DiskSpeed,
    events: DiskEvents,
  ) {
    this.#disk = disk;
    this.#process = process;
    this.#time = time;
    this.#speed = speed;
    this.#events = events;
  }

  open(path: string, options: { readonly create: boolean }): Promise<DiskFile> {
    return this.#do("open", async () => {
      const file = await this.#disk.open(path, options);
      return this.#file(file);
    });
  }

  readFile(path: string): Promise<Uint8Array | null> {
    return this.#do("readFile", () => this.#disk.readFile(path));
  }

  makeDir(path: string): Promise<void> {
    return this.#do("makeDir", () => this.#disk.makeDir(path));
  }

  list(path: string): Promise<readonly string[]> {
    return this.#do("list", () => this.#disk.list(path));
  }

  exists(path: string): Promise<boolean> {
    return this.#do("exists", () => this.#disk.exists(path));
  }

  rename(from: string, to: string): Promise<void> {
    return this.#do("rename", () => this.#disk.rename(from, to));
  }

  remove(path: string): Promise<void> {
    return this.#do("remove", () => this.#disk.remove(path));
  }

  syncDir(path: string): Promise<void> {
    return this.#do("syncDir", () => this.#disk.syncDir(path));
  }

  freeBytes(path: string): Promise<number> {
    return this.#do("freeBytes", () => this.#disk.freeBytes(path));
  }

  usedBytes(path: string): Promise<number> {
    return this.#do("usedBytes", () => this.#disk.usedBytes(path));
  }

  lock(path: string): Promise<DiskLock | null> {
    return this.#do("lock", () => this.#disk.lock(path));
  }

  #file(file: DiskFile): DiskFile {
    return {
      read: (into, position) => this.#do("read", () => file.read(into, position)),
      write: (parts, position) => {
        // The caller may reuse its buffers once this resolves, not before.
        return this.#do("write", () => file.write(parts, position));
      },
      sync: () => this.#do("sync", () => file.sync()),
      truncate: (bytes) => this.#do("truncate", () => file.truncate(bytes)),
      size: () => this.#do("size", () => file.size()),
      close: () => file.close(),
    };
  }

  #do<T>(operation: string, act: () => Promise<T>): Promise<T> {
    const { syncMsMin, syncMsMax, otherMsMax, factor } = this.#speed;
    const part = this.#process.chance.unit();
    const syncs = operation === "sync" || operation === "syncDir";
    const ms = syncs ? syncMsMin + part * (syncMsMax - syncMsMin) : part * otherMsMax;
    return new Promise((resolve, reject) => {
      this.#time.after(ms * factor, this.#process, operation, () => {
        this.#events.before(operation);
        // Killed at this very operation: it neither happens nor ends.
        if (this.#process.alive) act().then(resolve, reject);
      });
    });
  }
}
