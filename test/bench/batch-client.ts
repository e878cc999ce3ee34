import { Client, type ClientDuplexStream, credentials, Metadata } from "@grpc/grpc-js";
import {
  KeyComparisonType,
  Status,
  type WriteRequest,
  type WriteResponse,
} from "../../sidecar/protocol/gen/oxia-client.ts";
import { OxiaClientService } from "../../sidecar/protocol/service.ts";

const SHARD = 0;
const NAMESPACE = "default";
const WINDOW_BYTES = 8 * 1024 * 1024;
const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;

interface Waiting {
  readonly puts: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/**
 * The least client that speaks the public API as Oxia's do, a stream of write batches and batched
 * reads, to the leader of the only shard. It does nothing per record that it need not: it shares
 * the machine with what it measures.
 */
export class BatchClient {
  private readonly client: Client;
  private readonly writes: ClientDuplexStream<WriteRequest, WriteResponse>;
  private readonly waiting: Waiting[] = [];

  /** `address` is host:port of the leader's public endpoint. */
  constructor(address: string) {
    this.client = new Client(address, credentials.createInsecure(), {
      "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
      "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
      "grpc-node.flow_control_window": WINDOW_BYTES,
      "grpc.use_local_subchannel_pool": 1,
    });
    const metadata = new Metadata();
    metadata.set("namespace", NAMESPACE);
    metadata.set("shard-id", String(SHARD));
    const { path, requestSerialize, responseDeserialize } = OxiaClientService.writeStream;
    this.writes = this.client.makeBidiStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      metadata,
    );
    this.writes.on("data", (response: WriteResponse) => this.answered(response));
    this.writes.on("error", (error) => this.ended(error));
    this.writes.on("end", () => this.ended(new Error("the server ended the stream of writes")));
  }

  /** One request, one log entry. Rejects unless every put succeeded. */
  putAll(keys: readonly string[], value: Uint8Array): Promise<void> {
    const puts = keys.map((key) => ({ key, value, sequenceKeyDelta: [], secondaryIndexes: [] }));
    return new Promise((resolve, reject) => {
      this.waiting.push({ puts: puts.length, resolve, reject });
      this.writes.write({ shard: SHARD, puts, deletes: [], deleteRanges: [] });
    });
  }

  /** One request. Rejects unless every key was there. */
  getAll(keys: readonly string[]): Promise<void> {
    const gets = keys.map((key) => ({
      key,
      includeValue: true,
      comparisonType: KeyComparisonType.EQUAL,
    }));
    const { path, requestSerialize, responseDeserialize } = OxiaClientService.read;
    const call = this.client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, {
      shard: SHARD,
      gets,
    });
    let found = 0;
    return new Promise((resolve, reject) => {
      call.on("data", (response: { gets: readonly { status: Status }[] }) => {
        for (const { status } of response.gets) found += Number(status === Status.OK);
      });
      call.on("error", reject);
      call.on("end", () => {
        if (found === keys.length) resolve();
        else reject(new Error(`${keys.length - found} of ${keys.length} keys are gone`));
      });
    });
  }

  close(): void {
    this.writes.cancel();
    this.client.close();
  }

  private answered(response: WriteResponse): void {
    const first = this.waiting.shift();
    const ok = response.puts.every(({ status }) => status === Status.OK);
    if (ok && response.puts.length === first?.puts) first.resolve();
    else first?.reject(new Error("a put was refused"));
  }

  private ended(error: Error): void {
    for (const { reject } of this.waiting.splice(0)) reject(error);
  }
}
