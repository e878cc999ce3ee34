import type { Chance } from "./chance.ts";
import type { SimCluster } from "./cluster.ts";
import { isEngineFile } from "./sim-engine.ts";
import type { SimNode } from "./sim-node.ts";

/** Faults that leave the process alone, and change what it will find on its disk. */
export const DISK_FAULTS = ["bitRot", "lostWrite", "misdirectedWrite", "readError"] as const;
export type DiskFault = (typeof DISK_FAULTS)[number];

/** In every shard's directory. */
const LOG_FILE = /^\/wal\/[^/]+\/\d+\/log\//u;
const SECTOR_BYTES = 512;
/** A write that went astray is found out at the next restart, which comes within this. */
const FOUND_OUT_MS = 1_500;
/** A sector that cannot be read is written again, or replaced, within this. */
const UNREADABLE_MS_MAX = 4_000;

/** What the harm is done with. */
export interface DiskFaultsOptions {
  readonly cluster: SimCluster;
  readonly chance: Chance;
  /** Acts after a while, unless everything was healed by then. */
  readonly later: (delayMs: number, act: () => void) => void;
  /** A majority keeps its data though this node loses its own. */
  readonly mayLose: (node: SimNode) => boolean;
  /** Something on a disk is no longer what was written there. */
  readonly damaged: () => void;
}

/**
 * Damage of one place on a disk. Its node may lose its data by it, so whoever asks for it has made
 * sure that a majority keeps theirs. Only one such place at a time: against damage that a power
 * loss hides (its mark was not durable yet) nobody is promised anything.
 */
export class DiskFaults {
  readonly #o: DiskFaultsOptions;

  constructor(options: DiskFaultsOptions) {
    this.#o = options;
  }

  /** True when it was begun. */
  inject(fault: DiskFault, node: SimNode): boolean {
    if (node.keepsItsPower) return false;
    switch (fault) {
      case "bitRot":
        return this.#rot(node);
      case "lostWrite":
        return this.#astray(node, () => null);
      case "misdirectedWrite":
        return this.#astray(node, (position) => {
          const sectors = Math.floor(position / SECTOR_BYTES);
          return sectors === 0 ? position + SECTOR_BYTES : this.#below(sectors) * SECTOR_BYTES;
        });
      case "readError":
        return this.#unreadable(node);
    }
  }

  /**
   * A bit changes in a file while the node is down: of a cookie, the promises, a mark, the pointer,
   * a manifest, a journal. In the log it is `corrupt`. Not in the engine's file: LMDB has checksums
   * of records, the simulator's engine one of each commit, which it takes for a torn one.
   */
  #rot(node: SimNode): boolean {
    const { cluster } = this.#o;
    const files = node.disk
      .files()
      .filter(({ path, bytes }) => bytes > 0 && !isLog(path) && !isEngineFile(path));
    const file = files[this.#below(files.length)];
    if (file === undefined) return false;
    cluster.kill(node, { power: false, silent: false });
    cluster.bootLater(node, this.#below(1_000));
    const at = this.#below(file.bytes);
    cluster.note(node.name, `a bit of ${file.path} changes at ${at}`);
    node.disk.corrupt(file.path, at, 1 << this.#below(8));
    for (const harm of node.harmAt(file.path)) {
      harm.damaged = true;
      harm.corrupted = true;
    }
    this.#o.damaged();
    return true;
  }

  /** The disk says that it wrote, and did not, or did so elsewhere; its pages cover it up. */
  #astray(node: SimNode, landing: (position: number) => number | null): boolean {
    const { cluster } = this.#o;
    let skip = this.#below(8);
    node.disk.setAstray((path, position) => {
      // Pages of an engine that are not where they should be are not modelled.
      if (isEngineFile(path)) return undefined;
      if (skip > 0) {
        skip -= 1;
        return undefined;
      }
      node.disk.setAstray(null);
      // Since it was asked for, others may have lost what they had.
      if (!this.#o.mayLose(node)) return undefined;
      const lands = landing(position);
      const where = lands === null ? "nowhere" : `to ${lands}`;
      cluster.note(node.name, `a write to ${path} at ${position} goes ${where}`);
      for (const harm of node.harmAt(path)) harm.latent = true;
      this.#o.damaged();
      this.#o.later(this.#below(FOUND_OUT_MS), () => this.#findOut(node));
      return lands;
    });
    return true;
  }

  #findOut(node: SimNode): void {
    const { cluster } = this.#o;
    if (node.process === null || !node.hasLatentHarm) return;
    cluster.kill(node, { power: false, silent: false });
    cluster.bootLater(node, this.#below(1_000));
  }

  /** A sector of any file cannot be read for a while, and a process that reads it may end. */
  #unreadable(node: SimNode): boolean {
    const { cluster } = this.#o;
    const files = node.disk.files().filter(({ bytes }) => bytes > 0);
    const file = files[this.#below(files.length)];
    if (file === undefined) return false;
    const at = this.#below(file.bytes);
    cluster.note(node.name, `${file.path} cannot be read at ${at}`);
    node.disk.failReads(file.path, at);
    // Whoever is up has most of it in memory.
    if (this.#o.chance.happens(0.5)) {
      cluster.kill(node, { power: false, silent: false });
      cluster.bootLater(node, this.#below(500));
    }
    this.#o.later(this.#below(UNREADABLE_MS_MAX), () => node.disk.healReads());
    return true;
  }

  #below(bound: number): number {
    return this.#o.chance.below(Math.max(1, bound));
  }
}

function isLog(path: string): boolean {
  return LOG_FILE.test(path);
}
