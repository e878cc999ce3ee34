/** Who talks to whom on a replication stream, as request metadata (R4; WIRE.md). */
import { Metadata } from "@grpc/grpc-js";
import type { Peer } from "../protocol/gen/resilver.ts";
import { metadataInteger, metadataText } from "./handlers.ts";

/** The metadata that a leader opens a stream with. */
export function peerToMetadata(peer: Peer): Metadata {
  const metadata = new Metadata();
  metadata.set("namespace", peer.namespace);
  metadata.set("shard-id", String(peer.shard));
  metadata.set("term", String(peer.term));
  metadata.set("generation", String(peer.generation));
  metadata.set("leader-uid", peer.leaderUid);
  metadata.set("target-uid", peer.targetUid);
  metadata.set("store-id", peer.storeId);
  if (peer.majorityHolds) metadata.set("majority-holds", "true");
  return metadata;
}

/** The inverse. Throws INVALID_ARGUMENT when a number is absent or none; a text may be empty. */
export function peerFromMetadata(metadata: Metadata): Peer {
  return {
    namespace: metadataText(metadata, "namespace") ?? "",
    shard: metadataInteger(metadata, "shard-id"),
    term: metadataInteger(metadata, "term"),
    generation: metadataInteger(metadata, "generation"),
    leaderUid: metadataText(metadata, "leader-uid") ?? "",
    targetUid: metadataText(metadata, "target-uid") ?? "",
    storeId: metadataText(metadata, "store-id") ?? "",
    majorityHolds: metadataText(metadata, "majority-holds") === "true",
  };
}
