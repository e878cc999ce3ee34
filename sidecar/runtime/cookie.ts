import type { Disk } from "../lib/ports/disk.ts";
import { integerField, readSealed, stringField, writeSealed } from "../lib/sealed-file.ts";
import type { Term } from "../protocol/entry.ts";

/** Name of the cookie in each directory of a shard. */
export const COOKIE_FILE = "cookie.json";

/**
 * Whose directory this is (R1). Every directory of a replica holds the same one; a missing or
 * different one means that something was lost, never that "nothing is there yet".
 */
export interface Cookie {
  readonly storeId: string;
  readonly namespace: string;
  readonly shard: number;
  /** Made anew at each format; no two lives of a replica share one. */
  readonly replicaUid: string;
  /** The term when it was formatted, -1 when none was known. */
  readonly createdTerm: Term;
}

/** Why a replica was formatted: the names of the wire's WipeReason that can lead to a format. */
export const FORMAT_REASONS = [
  "NEVER_FORMATTED",
  "VOLUME_EMPTY",
  "IDENTITY_MISMATCH",
  "CORRUPT",
  "REQUESTED",
] as const;
/** One of FORMAT_REASONS. */
export type FormatReason = (typeof FORMAT_REASONS)[number];

/**
 * How far the format of this identity has come:
 * FORMING the cookies are being written, nobody has heard of the uid;
 * SET_ASIDE_PENDING files of an older identity still lie where they lay (until Enrol);
 * READY every file here belongs to this identity.
 */
export const FORMAT_PHASES = ["FORMING", "SET_ASIDE_PENDING", "READY"] as const;
/** One of FORMAT_PHASES. */
export type FormatPhase = (typeof FORMAT_PHASES)[number];

/** The WAL directory's cookie: it alone also decides how far the format has come. */
export interface MasterCookie extends Cookie {
  readonly reason: FormatReason;
  readonly phase: FormatPhase;
  /** While FORMING: the uid in the state directory's cookie that this one is to replace. */
  readonly replaces: string | null;
}

/** Reads a directory's cookie; null when missing, GarbledFileError when damaged. */
export function readCookie(disk: Disk, dir: string): Promise<Cookie | null> {
  return readSealed(disk, `${dir}/${COOKIE_FILE}`, "cookie", parseCookie);
}

/** Reads the WAL directory's cookie; null when missing, GarbledFileError when damaged. */
export function readMasterCookie(disk: Disk, dir: string): Promise<MasterCookie | null> {
  return readSealed(disk, `${dir}/${COOKIE_FILE}`, "master-cookie", (body) => ({
    ...parseCookie(body),
    reason: oneOf(body, "reason", FORMAT_REASONS),
    phase: oneOf(body, "phase", FORMAT_PHASES),
    replaces: body["replaces"] === null ? null : stringField(body, "replaces"),
  }));
}

/** Durably writes a directory's cookie. */
export function writeCookie(disk: Disk, dir: string, cookie: Cookie): Promise<void> {
  const { storeId, namespace, shard, replicaUid, createdTerm } = cookie;
  const body = { storeId, namespace, shard, replicaUid, createdTerm };
  return writeSealed(disk, `${dir}/${COOKIE_FILE}`, "cookie", body);
}

/** Durably writes the WAL directory's cookie. */
export function writeMasterCookie(disk: Disk, dir: string, cookie: MasterCookie): Promise<void> {
  return writeSealed(disk, `${dir}/${COOKIE_FILE}`, "master-cookie", cookie);
}

function parseCookie(body: Record<string, unknown>): Cookie {
  return {
    storeId: stringField(body, "storeId"),
    namespace: stringField(body, "namespace"),
    shard: integerField(body, "shard", 0),
    replicaUid: stringField(body, "replicaUid"),
    createdTerm: integerField(body, "createdTerm", -1),
  };
}

function oneOf<T extends string>(
  body: Record<string, unknown>,
  field: string,
  allowed: readonly T[],
): T {
  const value = body[field];
  const found = allowed.find((name) => name === value);
  if (found !== undefined) return found;
  throw new Error(`${field} is ${JSON.stringify(value)}, allowed: ${allowed.join(", ")}`);
}
