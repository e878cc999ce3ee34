import { constants, open, readFile, rename } from "node:fs/promises";
import type { Disk, DiskFile } from "../../sidecar/lib/ports/disk.ts";

/** What the records need of a disk: so little that tests can put a simulated one in its place. */
export interface RecordDisk extends Pick<Disk, "readFile" | "rename" | "syncDir"> {
  open(
    path: string,
    options: { readonly create: boolean },
  ): Promise<Pick<DiskFile, "write" | "sync" | "truncate" | "close">>;
}

/** The disk of this machine. Rejects with the system's errors. */
export const systemRecordDisk: RecordDisk = {
  async open(path, { create }) {
    // Not to append: then the positions of writes would be passed over.
    const file = await open(path, create ? constants.O_RDWR | constants.O_CREAT : "r+");
    return {
      write: async (parts, position) => {
        const bytes = Buffer.concat(parts);
        for (let done = 0; done < bytes.byteLength; ) {
          const left = bytes.byteLength - done;
          done += (await file.write(bytes, done, left, position + done)).bytesWritten;
        }
      },
      sync: () => file.sync(),
      truncate: (bytes) => file.truncate(bytes),
      close: () => file.close(),
    };
  },
  async readFile(path) {
    try {
      return await readFile(path);
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
      throw error;
    }
  },
  rename,
  async syncDir(path) {
    const handle = await open(path, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
};
