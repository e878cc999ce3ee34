/**
 * Streams to other sidecars. A connection that failed is thrown away, not waited for: the next call
 * resolves the name and connects at once, so that how often to try is the caller's decision alone.
 * Each stream has a connection of its own, in frames; a peer that takes none gets it over gRPC,
 * where snapshots have their own connection, or appends would queue behind their chunks.
 */
import { connect } from "node:net";
import { Client, connectivityState, type ChannelOptions } from "@grpc/grpc-js";
import type { Clock, Timer } from "../lib/ports/clock.ts";
import { type DuplexCall, TransportError } from "../lib/ports/duplex-call.ts";
import { LIMITS } from "../limits.ts";
import { FramedCaller } from "../protocol/framed-caller.ts";
import { type FramedCall, REPLICATE_CALL, SNAPSHOT_CALL } from "../protocol/framed-calls.ts";
import {
  type Ack,
  type Append,
  Peer,
  type SnapshotChunk,
  type SnapshotResponse,
} from "../protocol/gen/resilver.ts";
import { LogReplicationService, type MethodDefinition } from "../protocol/service.ts";
import type { PeerTransport } from "../runtime/ports.ts";
import { peerCredentials } from "./credentials.ts";
import { clientDuplexCall } from "./duplex-call.ts";
import { peerToMetadata } from "./peer-metadata.ts";

const CHANNEL_OPTIONS: ChannelOptions = {
  "grpc.max_receive_message_length": LIMITS.messageBytesMax,
  "grpc.max_send_message_length": LIMITS.messageBytesMax,
  "grpc-node.flow_control_window": LIMITS.http2WindowBytes,
  // One silent second, one for the answer: within the 2 s after which a peer counts as gone.
  "grpc.keepalive_time_ms": LIMITS.peerTimeoutMs / 2,
  "grpc.keepalive_timeout_ms": LIMITS.peerTimeoutMs / 2,
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 500,
  "grpc.dns_min_time_between_resolutions_ms": 500,
  // Peers are in the same network; a proxy of the environment is for other traffic.
  "grpc.enable_http_proxy": 0,
  "grpc.enable_retries": 0,
  "grpc.enable_channelz": 0,
  // Two clients of one address are two connections.
  "grpc.use_local_subchannel_pool": 1,
  "grpc.service_config_disable_resolution": 1,
};

/** A connection and the calls that use it. */
interface Connection {
  readonly client: Client;
  readonly calls: Set<DuplexCall<never, unknown>>;
  /** Runs while calls wait for the connection: the library itself would wait for minutes. */
  connecting: Timer | null;
}

/** PeerTransport over framed streams, and over gRPC towards peers that know no others. */
export class NetworkPeerTransport implements PeerTransport {
  readonly #clock: Clock;
  readonly #connections = new Map<string, Connection>();
  readonly #framed: FramedCaller;
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#framed = new FramedCaller(clock, (address) => connect({ ...address, noDelay: true }));
  }

  replicate(address: string, peer: Peer): DuplexCall<Append, Ack> {
    return (
      this.#openFramed(REPLICATE_CALL, address, peer) ??
      this.#open("append", address, peer, LogReplicationService.replicate)
    );
  }

  sendSnapshot(address: string, peer: Peer): DuplexCall<SnapshotChunk, SnapshotResponse> {
    return (
      this.#openFramed(SNAPSHOT_CALL, address, peer) ??
      this.#open("bulk", address, peer, LogReplicationService.sendSnapshot)
    );
  }

  /** Ends all calls and connections; a later call throws TransportError. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const key of [...this.#connections.keys()]) this.#drop(key);
    this.#framed.close();
  }

  #openFramed<Out, In>(
    framed: FramedCall<Out, In>,
    address: string,
    peer: Peer,
  ): DuplexCall<Out, In> | null {
    if (this.#closed) throw new TransportError("the transport to peers is closed");
    return this.#framed.open(framed, address, Peer.encode(peer).finish())?.call ?? null;
  }

  #open<Out, In>(
    kind: string,
    address: string,
    peer: Peer,
    method: MethodDefinition<Out, In>,
  ): DuplexCall<Out, In> {
    if (this.#closed) throw new TransportError("the transport to peers is closed");
    const key = `${kind} ${address}`;
    const connection = this.#connection(key, address);
    const stream = connection.client.makeBidiStreamRequest<Out, In>(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      peerToMetadata(peer),
    );
    const call = clientDuplexCall<Out, In>(stream);
    connection.calls.add(call);
    this.#limitConnecting(key, connection);
    stream.on("status", () => {
      connection.calls.delete(call);
      this.#release(key, connection);
    });
    return call;
  }

  #connection(key: string, address: string): Connection {
    const open = this.#connections.get(key);
    if (open !== undefined) return open;
    if (this.#connections.size >= LIMITS.peerConnectionsMax) this.#dropIdle();
    const client = new Client(address, peerCredentials(), CHANNEL_OPTIONS);
    const connection: Connection = { client, calls: new Set(), connecting: null };
    this.#connections.set(key, connection);
    return connection;
  }

  /** After a call: keeps a connection that works, and throws away one that does not. */
  #release(key: string, connection: Connection): void {
    if (connection.calls.size > 0 || this.#connections.get(key) !== connection) return;
    if (!isReady(connection)) this.#drop(key);
  }

  /** A host that answers nothing: its calls fail when it counts as gone. */
  #limitConnecting(key: string, connection: Connection): void {
    if (connection.connecting !== null || isReady(connection)) return;
    connection.connecting = this.#clock.timer(LIMITS.peerTimeoutMs, () => {
      connection.connecting = null;
      if (isReady(connection) || this.#connections.get(key) !== connection) return;
      this.#connections.delete(key);
      // Calls that wait for the connection fail with UNAVAILABLE.
      connection.client.close();
    });
  }

  #dropIdle(): void {
    for (const [key, connection] of this.#connections) {
      if (connection.calls.size === 0) this.#drop(key);
    }
  }

  #drop(key: string): void {
    const connection = this.#connections.get(key);
    this.#connections.delete(key);
    connection?.connecting?.cancel();
    // Closing a connection waits for its calls; they end now.
    for (const call of connection?.calls ?? []) call.cancel();
    connection?.client.close();
  }
}

function isReady(connection: Connection): boolean {
  return connection.client.getChannel().getConnectivityState(false) === connectivityState.READY;
}
