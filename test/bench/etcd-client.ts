import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { Client, credentials } from "@grpc/grpc-js";

/** One put or get of etcd's v3 API. */
export interface EtcdPut {
  readonly key: string;
  readonly value: Uint8Array;
}

/**
 * The part of etcd's v3 API that the benchmarks need, spoken to one server: puts alone or many in
 * one transaction, linearizable gets. The few messages are written by hand: key = 1, value = 2 of
 * PutRequest; RequestOp { request_range = 1, request_put = 2 }; TxnRequest { success = 2 }.
 */
export class EtcdClient {
  private readonly client: Client;
  private readonly timeoutMs: number;

  /** `address` is host:port; each call fails after `timeoutMs`. */
  constructor(address: string, timeoutMs = 30_000) {
    this.timeoutMs = timeoutMs;
    this.client = new Client(address, credentials.createInsecure(), {
      "grpc.max_receive_message_length": -1,
      "grpc.use_local_subchannel_pool": 1,
    });
  }

  async put(put: EtcdPut): Promise<void> {
    await this.call("Put", writePut(new BinaryWriter(), put).finish());
  }

  /** All or nothing; etcd takes at most 128 operations in one transaction unless told otherwise. */
  async putAll(puts: readonly EtcdPut[]): Promise<void> {
    const request = new BinaryWriter();
    for (const put of puts) {
      request.tag(2, 2).fork();
      writePut(request.tag(2, 2).fork(), put).join();
      request.join();
    }
    await this.call("Txn", request.finish());
  }

  /** Linearizable. Rejects when the key is not there. */
  async get(key: string): Promise<void> {
    const answer = await this.call("Range", new BinaryWriter().tag(1, 2).string(key).finish());
    if (countField(answer, 2) === 0) throw new Error(`${key} is gone`);
  }

  /** Linearizable gets of many keys at once. Rejects when an answer is missing. */
  async getAll(keys: readonly string[]): Promise<void> {
    const request = new BinaryWriter();
    for (const key of keys) {
      request.tag(2, 2).fork().tag(1, 2).fork().tag(1, 2).string(key).join().join();
    }
    const answer = await this.call("Txn", request.finish());
    const answers = countField(answer, 3);
    if (answers !== keys.length) throw new Error(`${answers} answers to ${keys.length} gets`);
  }

  close(): void {
    this.client.close();
  }

  private call(method: string, request: Uint8Array): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        `/etcdserverpb.KV/${method}`,
        (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
        (bytes: Buffer) => bytes,
        request,
        { deadline: Date.now() + this.timeoutMs },
        (error, answer) => {
          if (error !== null) reject(error);
          else resolve(answer ?? new Uint8Array());
        },
      );
    });
  }
}

function writePut(into: BinaryWriter, { key, value }: EtcdPut): BinaryWriter {
  return into.tag(1, 2).string(key).tag(2, 2).bytes(value);
}

function countField(message: Uint8Array, number: number): number {
  const reader = new BinaryReader(message);
  let count = 0;
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === number) count += 1;
    reader.skip(type, field);
  }
  return count;
}
