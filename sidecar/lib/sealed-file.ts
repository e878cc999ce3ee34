import { crcOf } from "./crc.ts";
import { type Disk, DiskError, madeFatal } from "./ports/disk.ts";

/**
 * Small JSON documents that must never be half written: cookies, promises, the state pointer.
 * Written aside, fsynced, renamed, directory fsynced; a checksum tells a damaged file from a
 * missing one. After a crash at any point a reader sees the old document or the new one, whole.
 */

/** Longest sealed file, in bytes. These are documents of a few hundred bytes; more is damage. */
const BYTES_MAX = 64 * 1024;
/** What {@link writeSealed} appends to the name of the file it writes aside. */
export const ASIDE_SUFFIX = ".new";

/** A sealed file that is there and cannot be believed. Never the same as a missing one. */
export class GarbledFileError extends Error {
  override readonly name = "GarbledFileError";
  readonly path: string;
  constructor(path: string, what: string) {
    super(`${path} is damaged: ${what}`);
    this.path = path;
  }
}

/**
 * Reads the document `kind` at `path`, or null when there is no such file.
 * `parse` checks the body's fields and throws with a message naming field, value and what is
 * allowed. Throws {@link GarbledFileError} when the file is not exactly what {@link writeSealed}
 * wrote.
 */
export async function readSealed<T>(
  disk: Disk,
  path: string,
  kind: string,
  parse: (body: Record<string, unknown>) => T,
): Promise<T | null> {
  const bytes = await disk.readFile(path);
  if (bytes === null) return null;
  if (bytes.length > BYTES_MAX) {
    throw new GarbledFileError(path, `${bytes.length} bytes, allowed: up to ${BYTES_MAX}`);
  }
  const text = new TextDecoder().decode(bytes);
  const body = bodyOf(path, text);
  // Rendering again compares every byte, so that no flipped bit outside the body goes unseen
  // either.
  if (render(kind, body) !== text) {
    throw new GarbledFileError(path, `checksum or form is not that of a ${kind} file`);
  }
  try {
    return parse(body as Record<string, unknown>);
  } catch (error) {
    throw new GarbledFileError(path, (error as Error).message);
  }
}

function bodyOf(path: string, text: string): unknown {
  let outer: unknown;
  try {
    outer = JSON.parse(text);
  } catch {
    throw new GarbledFileError(path, "not JSON");
  }
  const body = typeof outer === "object" && outer !== null && "body" in outer ? outer.body : null;
  if (typeof body !== "object" || body === null) throw new GarbledFileError(path, "no body");
  return body;
}

/**
 * Durably replaces the document at `path`. Rejects with the DiskError of the step that failed,
 * which is fatal once readers may see the new document.
 */
export async function writeSealed(
  disk: Disk,
  path: string,
  kind: string,
  body: object,
): Promise<void> {
  await replaceFile(disk, path, new TextEncoder().encode(render(kind, body)));
}

/** Durably gives the file at `path` these contents, all or nothing; fails as writeSealed does. */
export async function replaceFile(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const aside = path + ASIDE_SUFFIX;
  const file = await disk.open(aside, { create: true });
  try {
    await file.truncate(0);
    await file.write([bytes], 0);
    await file.sync();
  } catch (error) {
    // Whether it closes is nothing beside a failed sync.
    await file.close().catch(() => undefined);
    throw error;
  }
  await file.close();
  await disk.rename(aside, path);
  try {
    await disk.syncDir(parentOf(path));
  } catch (error) {
    // The new contents are there and may go again: nobody can go on with the old ones or with
    // these, whatever it was that failed (R14).
    throw error instanceof DiskError ? madeFatal(error) : error;
  }
}

/** Makes a directory and its parents so that they outlive a power loss. */
export async function makeDirDurable(disk: Disk, path: string): Promise<void> {
  const fresh: string[] = [];
  for (let at = path; at !== "" && !(await disk.exists(at)); at = parentOf(at)) fresh.push(at);
  await disk.makeDir(path);
  // Also when it was there: whoever made it may have crashed before its name was durable.
  if (fresh.length === 0) fresh.push(path);
  for (const made of fresh.reverse()) await disk.syncDir(parentOf(made));
}

/** The directory a path is in. */
export function parentOf(path: string): string {
  const cut = path.lastIndexOf("/");
  return cut <= 0 ? "/" : path.slice(0, cut);
}

function render(kind: string, body: unknown): string {
  const text = JSON.stringify(body);
  const crc = crcOf(new TextEncoder().encode(`${kind}\n${text}`))
    .toString(16)
    .padStart(8, "0");
  return `{"kind":${JSON.stringify(kind)},"version":1,"crc":"${crc}","body":${text}}\n`;
}

/** The string in `body[field]`; throws naming the field unless it matches `allowed`. */
export function stringField(
  body: Record<string, unknown>,
  field: string,
  allowed: RegExp = /^[^]+$/,
): string {
  const value = body[field];
  if (typeof value === "string" && allowed.test(value)) return value;
  throw new Error(`${field} is ${JSON.stringify(value)}, allowed: text like ${allowed.source}`);
}

/** The whole number in `body[field]`; throws naming the field unless it is within the bounds. */
export function integerField(
  body: Record<string, unknown>,
  field: string,
  min: number,
  max: number = Number.MAX_SAFE_INTEGER,
): number {
  const value = body[field];
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= min && value <= max) {
    return value;
  }
  throw new Error(`${field} is ${JSON.stringify(value)}, allowed: ${min} to ${max}`);
}

/** The boolean in `body[field]`; throws naming the field otherwise. */
export function booleanField(body: Record<string, unknown>, field: string): boolean {
  const value = body[field];
  if (typeof value === "boolean") return value;
  throw new Error(`${field} is ${JSON.stringify(value)}, allowed: true or false`);
}

/** The object in `body[field]`; throws naming the field otherwise. */
export function objectField(body: Record<string, unknown>, field: string): Record<string, unknown> {
  const value = body[field];
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new Error(`${field} is ${JSON.stringify(value)}, allowed: an object`);
}
