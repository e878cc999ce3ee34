import type { Disk, DiskFile } from "../../sidecar/lib/ports/disk.ts";

/** What of a disk can be made to fail. */
export type DiskAct = "open" | "write" | "sync" | "rename" | "syncDir" | "remove" | "freeBytes";

/**
 * A disk that asks before what it does: `before` throws what the operation on this path shall fail
 * with, or stops what it shall wait for. All else is done by `disk`.
 */
export function meddledDisk(
  disk: Disk,
  before: (act: DiskAct, path: string) => void | Promise<void>,
): Disk {
  return Object.assign(Object.create(disk) as Disk, {
    open: async (path: string, options: Parameters<Disk["open"]>[1]) => {
      await before("open", path);
      return meddledFile(await disk.open(path, options), path, before);
    },
    rename: async (from: string, to: string) => {
      await before("rename", to);
      await disk.rename(from, to);
    },
    syncDir: async (path: string) => {
      await before("syncDir", path);
      await disk.syncDir(path);
    },
    remove: async (path: string) => {
      await before("remove", path);
      await disk.remove(path);
    },
    freeBytes: async (path: string) => {
      await before("freeBytes", path);
      return disk.freeBytes(path);
    },
  });
}

function meddledFile(
  file: DiskFile,
  path: string,
  before: (act: DiskAct, path: string) => void | Promise<void>,
): DiskFile {
  const write = file.write.bind(file);
  const sync = file.sync.bind(file);
  return Object.assign(file, {
    write: async (parts: readonly Uint8Array[], position: number) => {
      await before("write", path);
      await write(parts, position);
    },
    sync: async () => {
      await before("sync", path);
      await sync();
    },
  });
}
