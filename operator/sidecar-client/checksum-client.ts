import { Client } from "@grpc/grpc-js";
import type { ChecksumResponse } from "../../sidecar/protocol/gen/resilver.ts";
import { CoordinationService } from "../../sidecar/protocol/service.ts";
import { sidecarCredentials } from "./credentials.ts";
import { callErrorOf } from "./store-error.ts";

/** Names one replica's state at or after an offset. */
export interface ChecksumQuery {
  /** host:port of the internal endpoint. */
  readonly internalAddress: string;
  readonly namespace: string;
  readonly shard: number;
  /** Answered once this much is applied. */
  readonly atLeastOffset: number;
  readonly timeoutMs: number;
}

/** The checksum of a replica's applied state, for audits. Throws CallError. */
export async function replicaChecksum(query: ChecksumQuery): Promise<ChecksumResponse> {
  const { namespace, shard, atLeastOffset } = query;
  const client = new Client(query.internalAddress, sidecarCredentials("internal"), {
    "grpc.use_local_subchannel_pool": 1,
  });
  const method = CoordinationService.checksum;
  try {
    return await new Promise<ChecksumResponse>((resolve, reject) => {
      client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        { namespace, shard, atLeastOffset },
        { deadline: Date.now() + query.timeoutMs },
        (error, response) => {
          if (error !== null) reject(callErrorOf(error));
          else if (response === undefined) reject(new Error("Checksum: no answer"));
          else resolve(response);
        },
      );
    });
  } finally {
    client.close();
  }
}
