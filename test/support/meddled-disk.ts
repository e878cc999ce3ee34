import type { Disk, DiskFile } from "../../sidecar/lib/ports/disk.ts";

/** What of a disk can be made to fail. */
export type DiskAct =
  | "open"
  | "readFile"
  | "write"
  | "sync"
  | "rename"
  | "syncDir"
  | "remove"
  | "freeBytes";
type Before = (act: DiskAct, path: string) => Promise<void> | void;

/**
 * A disk that asks before what it does: `before` throws what the operation on this path shall fail
 * with, or keeps it waiting (a rename's path is the new name). All else is done by `disk`.
 */
export function meddledDisk(disk: Disk, before: Before): Disk {
  const asked = async <T>(act: DiskAct, path: string, work: () => Promise<T>): Promise<T> => {
    await before(act, path);
    return work();
  };
  return {
    open: (path, options) =>
      asked("open", path, async () => meddledFile(await disk.open(path, options), path, before)),
    readFile: (path) => asked("readFile", path, () => disk.readFile(path)),
    makeDir: (path) => disk.makeDir(path),
    list: (path) => disk.list(path),
    exists: (path) => disk.exists(path),
    rename: (from, to) => asked("rename", to, () => disk.rename(from, to)),
    remove: (path) => asked("remove", path, () => disk.remove(path)),
    syncDir: (path) => asked("syncDir", path, () => disk.syncDir(path)),
    freeBytes: (path) => asked("freeBytes", path, () => disk.freeBytes(path)),
    usedBytes: (path) => disk.usedBytes(path),
    lock: (path) => disk.lock(path),
  };
}

function meddledFile(file: DiskFile, path: string, before: Before): DiskFile {
  return {
    read: (into, position) => file.read(into, position),
    write: async (parts, position) => {
      await before("write", path);
      await file.write(parts, position);
    },
    sync: async () => {
      await before("sync", path);
      await file.sync();
    },
    truncate: (bytes) => file.truncate(bytes),
    size: () => file.size(),
    close: () => file.close(),
  };
}
