import { mkdir, open, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";

/**
 * A data directory cannot be used. The message names the setting, the path, why, and what is
 * allowed.
 */
class DataDirectoryError extends Error {
  override readonly name = "DataDirectoryError";
}

const PROBE = ".resilver-probe";

/** Makes the directory and its parents if need be, and tries that this process may write there. */
export async function prepareDataDirectory(setting: string, path: string): Promise<void> {
  try {
    await makeDirectories(path);
    const probe = join(path, PROBE);
    const file = await open(probe, "w");
    await file.close();
    await rm(probe, { force: true });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new DataDirectoryError(
      `${setting} is ${JSON.stringify(path)}, which cannot be used: ${why}; ` +
        "allowed: a directory that this process may make and write",
      { cause: error },
    );
  }
}

/**
 * One by one: the recursive form of mkdir never returns for some paths, such as one below /proc.
 */
async function makeDirectories(path: string): Promise<void> {
  const found = await statOrNull(path);
  if (found?.isDirectory() === true) return;
  if (found !== null) throw new Error("it is no directory");
  const parent = dirname(path);
  if (parent !== path) await makeDirectories(parent);
  try {
    await mkdir(path);
  } catch (error) {
    // Another process may have made it in between.
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

async function statOrNull(path: string): Promise<Awaited<ReturnType<typeof stat>> | null> {
  try {
    return await stat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
