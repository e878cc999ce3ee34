/**
 * Records as the specs of StoreShard objects. Written by plain updates with the version that was
 * read, never by apply: a merge of two records would be nobody's decision.
 */
import { recordOf, storeShardName } from "../api/v1alpha1/store-shard.ts";
import { parseStoreShard, ResourceInvalid } from "../api/v1alpha1/validation.ts";
import { RecordConflict, type RecordStore, type StoredRecord } from "../controller/ports.ts";
import {
  parseRecord,
  RecordInvalid,
  type ShardKey,
  shardKeyText,
  type ShardRecord,
} from "../core/record.ts";
import { NAMESPACE_LABEL, storeLabels } from "../specs/labels.ts";
import type { ApiClient } from "./api-client.ts";
import { isStatus } from "./api-error.ts";
import { KINDS, type KubeObject } from "./resources.ts";

/**
 * A status that is written between a read and its replace moves the object's version; so often may
 * that happen to one replace.
 */
const REPLACE_ATTEMPTS_MAX = 5;

/** The {@link RecordStore} of one store. */
export class KubeRecordStore implements RecordStore {
  readonly #client: ApiClient;
  readonly #namespace: string;
  readonly #storeName: string;
  /** The objects as last seen: what others noted there is kept, most writes need no read. */
  readonly #objects = new Map<string, KubeObject>();

  /** `namespace` is that of the objects, not the one in a shard's key. */
  constructor(client: ApiClient, namespace: string, storeName: string) {
    this.#client = client;
    this.#namespace = namespace;
    this.#storeName = storeName;
  }

  async read(key: ShardKey, signal: AbortSignal): Promise<StoredRecord | null> {
    const name = this.#name(key);
    const object = await this.#client.get(KINDS.shard, this.#namespace, name, { signal });
    if (object === null) {
      this.#objects.delete(name);
      return null;
    }
    return this.#take(name, object, key);
  }

  async create(record: ShardRecord, signal: AbortSignal): Promise<StoredRecord> {
    const name = this.#name(record);
    const labels = { ...storeLabels(this.#storeName), [NAMESPACE_LABEL]: record.namespace };
    const metadata = { name, namespace: this.#namespace, labels };
    const object = { metadata, spec: this.#spec(record) };
    try {
      const stored = await this.#client.create(KINDS.shard, object, { signal });
      return this.#take(name, stored, record);
    } catch (error) {
      if (isStatus(error, 409)) throw conflict(record, "there is one already", error);
      throw error;
    }
  }

  async replace(record: ShardRecord, version: string, signal: AbortSignal): Promise<StoredRecord> {
    const name = this.#name(record);
    const spec = this.#spec(record);
    for (let attempt = 1; ; attempt += 1) {
      const object = this.#objects.get(name) ?? (await this.#fetch(name, record, signal));
      if (recordVersion(object) !== version) {
        throw conflict(record, `expected version ${version}, found ${recordVersion(object)}`);
      }
      try {
        const next = { metadata: object.metadata, spec };
        const stored = await this.#client.replace(KINDS.shard, next, { signal });
        return this.#take(name, stored, record);
      } catch (error) {
        // Whatever it was, what was seen may no longer be so.
        this.#objects.delete(name);
        if (isStatus(error, 404)) throw conflict(record, "it is gone", error);
        if (!isStatus(error, 409)) throw error;
        if (attempt === REPLACE_ATTEMPTS_MAX) throw conflict(record, "it keeps changing", error);
      }
    }
  }

  async #fetch(name: string, key: ShardKey, signal: AbortSignal): Promise<KubeObject> {
    const object = await this.#client.get(KINDS.shard, this.#namespace, name, { signal });
    if (object === null) throw conflict(key, "it is gone");
    this.#objects.set(name, object);
    return object;
  }

  #take(name: string, object: KubeObject, key: ShardKey): StoredRecord {
    const record = recordIn(object, this.#storeName);
    if (shardKeyText(record) !== shardKeyText(key)) {
      throw new RecordInvalid(
        "shard",
        `record: shard: ${shardKeyText(record)} is in StoreShard ${name}, where ${shardKeyText(key)} belongs`,
      );
    }
    this.#objects.set(name, object);
    return { record, version: recordVersion(object) };
  }

  #name(key: ShardKey): string {
    return storeShardName(this.#storeName, key.namespace, key.shard);
  }

  /** Throws RecordInvalid: what could not be read back must never be written. */
  #spec(record: ShardRecord): Readonly<Record<string, unknown>> {
    parseRecord(record);
    return { storeName: this.#storeName, ...record };
  }
}

/** The record in a StoreShard. Throws RecordInvalid. */
export function recordIn(object: KubeObject, storeName: string): ShardRecord {
  try {
    const { spec } = parseStoreShard(object);
    if (spec.storeName !== storeName) {
      throw new RecordInvalid(
        "storeName",
        `record: storeName: ${spec.storeName}: allowed: ${storeName}`,
      );
    }
    return parseRecord(recordOf(spec));
  } catch (error) {
    if (!(error instanceof ResourceInvalid)) throw error;
    throw new RecordInvalid(error.refusals[0]?.field ?? "(record)", `record: ${error.message}`);
  }
}

/**
 * The version of a StoreShard's record: moves with each change of the spec and with no other. A
 * record that was deleted and made again is another one.
 */
export function recordVersion({ metadata }: KubeObject): string {
  return `${metadata.uid ?? ""}/${metadata.generation ?? 0}`;
}

function conflict(key: ShardKey, why: string, cause?: unknown): RecordConflict {
  return new RecordConflict(`record of ${shardKeyText(key)}: ${why}`, { cause });
}
