import {
  type PutRequest,
  Status,
  type Version,
  type WriteRequest,
  type WriteResponse,
} from "../../../sidecar/protocol/gen/oxia-client.ts";
import { put, remove } from "./state-fixture.ts";

interface ModelRecord {
  readonly version: Version;
  readonly value: Uint8Array;
}

/**
 * The semantics of WIRE.md on a plain map, sorted when asked: what the real state is compared with.
 */
export class StateModel {
  readonly records = new Map<string, ModelRecord>();
  #nextVersion = 0;

  apply(request: WriteRequest, timestampMs: number): WriteResponse {
    return {
      puts: request.puts.map((each) => this.#put(each, timestampMs)),
      deletes: request.deletes.map(({ key, expectedVersionId }) => {
        const found = this.records.get(key)?.version.versionId ?? -1;
        if (expectedVersionId !== undefined && expectedVersionId !== found) {
          return { status: Status.UNEXPECTED_VERSION_ID };
        }
        return { status: this.records.delete(key) ? Status.OK : Status.KEY_NOT_FOUND };
      }),
      deleteRanges: request.deleteRanges.map(({ startInclusive, endExclusive }) => {
        const keys = this.keys().filter((key) => !key.startsWith("__oxia/"));
        for (const key of keys) {
          const ends = endExclusive !== "" && modelCompare(key, endExclusive) >= 0;
          if (modelCompare(key, startInclusive) >= 0 && !ends) this.records.delete(key);
        }
        return { status: Status.OK };
      }),
    };
  }

  #put(request: PutRequest, timestampMs: number): WriteResponse["puts"][number] {
    const found = this.records.get(request.key)?.version;
    const { expectedVersionId } = request;
    if (expectedVersionId !== undefined && expectedVersionId !== (found?.versionId ?? -1)) {
      return { status: Status.UNEXPECTED_VERSION_ID, version: undefined };
    }
    const version: Version = {
      versionId: this.#nextVersion++,
      modificationsCount: found === undefined ? 0 : found.modificationsCount + 1,
      createdTimestamp: found?.createdTimestamp ?? timestampMs,
      modifiedTimestamp: timestampMs,
      ...(request.clientIdentity === undefined ? {} : { clientIdentity: request.clientIdentity }),
    };
    this.records.set(request.key, { version, value: Uint8Array.from(request.value) });
    return { status: Status.OK, version };
  }

  keys(): string[] {
    return [...this.records.keys()].sort(modelCompare);
  }
}

/** Hierarchical order, internal keys last. */
export function modelCompare(a: string, b: string): number {
  const internal = Number(a.startsWith("__oxia/")) - Number(b.startsWith("__oxia/"));
  const level = a.split("/").length - b.split("/").length;
  return internal || level || Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** A seeded generator (mulberry32), uniform in [0, 1). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const SHAPES = ["", "a/", "a/b/", "__oxia/", "é"];

function randomKey(unit: () => number, keyCount: number): string {
  return SHAPES[Math.floor(unit() * SHAPES.length)] + String(Math.floor(unit() * keyCount));
}

/**
 * A write request with everything a client can ask for. `versions`: what expected versions are
 * drawn from.
 */
export function randomRequest(
  unit: () => number,
  keyCount: number,
  nextVersion: number,
): WriteRequest {
  const expected = (): { expectedVersionId?: number } => {
    const draw = unit();
    if (draw < 0.6) return {};
    if (draw < 0.8) return { expectedVersionId: -1 };
    return { expectedVersionId: Math.floor(unit() * nextVersion) };
  };
  const some = <T>(max: number, make: () => T): T[] =>
    Array.from({ length: Math.floor(unit() * (max + 1)) }, make);
  return {
    puts: some(12, () => {
      const value = Buffer.alloc(Math.floor(unit() * 40), Math.floor(unit() * 256));
      const identity = unit() < 0.2 ? { clientIdentity: `c${Math.floor(unit() * 9)}` } : {};
      return put(randomKey(unit, keyCount), value, { ...expected(), ...identity });
    }),
    deletes: some(3, () => remove(randomKey(unit, keyCount), expected().expectedVersionId)),
    deleteRanges:
      unit() < 0.1
        ? [
            {
              startInclusive: randomKey(unit, keyCount),
              endExclusive: unit() < 0.2 ? "" : randomKey(unit, keyCount),
            },
          ]
        : [],
  };
}
