/**
 * The only place that decides how connections are secured. Mutual TLS for the internal port comes
 * here.
 */
import { type ChannelCredentials, credentials, ServerCredentials } from "@grpc/grpc-js";

/** Which of the sidecar's two ports. */
export type Port = "public" | "internal";

/** What a server on this port presents. */
export function serverCredentials(_port: Port): ServerCredentials {
  return ServerCredentials.createInsecure();
}

/** What this sidecar presents to its peers' internal ports. */
export function peerCredentials(): ChannelCredentials {
  return credentials.createInsecure();
}
