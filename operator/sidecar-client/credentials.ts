/** The only place that decides how connections to sidecars are secured; mutual TLS comes here. */
import { type ChannelCredentials, credentials } from "@grpc/grpc-js";

/** Which of a sidecar's two ports. */
export type SidecarPort = "public" | "internal";

/** What a client of this port presents, and whom it trusts. */
export function sidecarCredentials(_port: SidecarPort): ChannelCredentials {
  return credentials.createInsecure();
}
