/** The server behind which all fake sidecars of a run are. */
import { EventEmitter } from "node:events";
import type { Server as NetServer, Socket } from "node:net";
import {
  Metadata,
  Server,
  ServerCredentials,
  status,
  type sendUnaryData,
  type ServerUnaryCall,
} from "@grpc/grpc-js";
import { systemClock } from "../../operator/local/system-clock.ts";
import { type DuplexCall, TransportError } from "../../sidecar/lib/ports/duplex-call.ts";
import { DETAILS_KEY, encodeErrorDetail } from "../../sidecar/protocol/error-detail.ts";
import { ProtocolError } from "../../sidecar/protocol/errors.ts";
import type { NodeStatus, OpenShardRequest } from "../../sidecar/protocol/gen/resilver.ts";
import { CoordinationService } from "../../sidecar/protocol/service.ts";
import { type FramedHandlers, serveFramedCalls } from "../../sidecar/rpc/framed-server.ts";
import {
  answerAddFollower,
  answerEnrol,
  answerNewTerm,
  answerPromote,
  answerRemoveFollower,
  beginToLead,
  changeSets,
} from "../operator/controller/fake-replica-calls.ts";
import type { FakeReplica } from "../operator/controller/fake-replica.ts";
import { nodeAt } from "./address-map.ts";
import { FakeGroup, type FakeNode } from "./fake-node.ts";

/** Parts of the time between two signs of life: each has its share of the watches. */
export const BEATS = 20;
/** A store's name in a pod's: all before the ordinal. */
const ORDINAL = /-\d+$/u;

/** See the file's header. */
export class FakeSidecars {
  private readonly groups = new Map<string, FakeGroup>();
  private readonly server = new Server({
    "grpc.max_concurrent_streams": 1_000,
  });
  /** End the connections that are open. */
  private readonly framed = new Set<() => void>();
  private readonly beating = Array.from({ length: BEATS }, () => new Set<() => void>());
  private beats = 0;
  private watches = 0;
  /** Calls by name. */
  readonly calls = new Map<string, number>();

  /** A pod runs. */
  started(pod: string, podUid: string, claimUid: string): void {
    const group = this.group(pod);
    group.node(pod).start(podUid, claimUid);
    group.settle();
  }

  /** A pod's process has ended, and its connections with it. */
  stopped(pod: string): void {
    const group = this.group(pod);
    const node = group.node(pod);
    node.stop();
    for (const end of [...node.ends]) end();
    group.settle();
  }

  /** The uid of the pod that runs under this name; null: none does. */
  running(pod: string): string | null {
    return this.group(pod).node(pod).podUid;
  }

  /**
   * Has the next ones say that they live: each watch hears so once in {@link BEATS} times. At once
   * they would be a burst that real sidecars, which know nothing of each other, never make.
   */
  beat(): void {
    this.beats = (this.beats + 1) % BEATS;
    for (const beat of this.beating[this.beats] ?? []) beat();
  }

  /** How many fake sidecars somebody follows. */
  watched(): number {
    const nodes = [...this.groups.values()].flatMap(({ nodes }) => [...nodes.values()]);
    return nodes.filter(({ streams }) => streams.size > 0).length;
  }

  async listen(port: number): Promise<void> {
    this.server.addService(CoordinationService, {
      getInfo: this.unary("getInfo", (_replica, node) => ({
        featuresSupported: [],
        version: "0",
        node: node.name,
        bootId: node.bootId,
      })),
      openShard: this.unary("openShard", (_replica, node, request: OpenShardRequest, group) =>
        node.open(request.storeId).report(group.live()),
      ),
      newTerm: this.unary("newTerm", this.of(answerNewTerm)),
      becomeLeader: this.unary("becomeLeader", (replica, _node, request, group) => {
        const offset = beginToLead(present(replica), request);
        group.settle();
        this.mustHold(replica, offset);
        return { barrier: { term: request.term, offset, crc: 0 } };
      }),
      addFollower: this.unary("addFollower", this.of(answerAddFollower)),
      removeFollower: this.unary("removeFollower", this.of(answerRemoveFollower)),
      promote: this.unary("promote", this.of(answerPromote)),
      updateEnsemble: this.unary("updateEnsemble", (replica, _node, request, group) => {
        const offset = changeSets(present(replica), request);
        group.settle();
        this.mustHold(replica, offset);
        return { committed: { term: request.term, offset, crc: 0 } };
      }),
      enrol: this.unary("enrol", this.of(answerEnrol)),
      deleteShard: this.unary("deleteShard", (_replica, node) => {
        node.replica = null;
        return {};
      }),
    });
    await new Promise<void>((resolve, reject) => {
      const credentials = ServerCredentials.createInsecure();
      this.server.bindAsync(`0.0.0.0:${port}`, credentials, (error) =>
        error === null ? resolve() : reject(error),
      );
    });
    this.takeFrames();
  }

  /** The streams that stay open come in frames, over connections that say whom they are for. */
  private takeFrames(): void {
    const servers = Reflect.get(this.server, "http2Servers") as Map<NetServer, unknown>;
    for (const server of servers.keys()) {
      const http2 = server.listeners("connection");
      server.removeAllListeners("connection");
      server.on("connection", (socket: Socket) => {
        const pod = new EventEmitter();
        for (const listener of http2) pod.on("connection", listener.bind(server));
        const name = nodeAt(socket.localAddress ?? "");
        const end = serveFramedCalls(pod as NetServer, systemClock, this.framedOf(name));
        this.framed.add(end);
        socket.once("close", () => this.framed.delete(end));
        pod.emit("connection", socket);
      });
    }
  }

  private framedOf(name: string): FramedHandlers {
    const node = (): FakeNode | null => {
      const found = this.group(name).node(name);
      return found.podUid === null ? null : found;
    };
    const never = (call: { cancel(): void }): void => call.cancel();
    return {
      sendSnapshot: (_peer, call) => never(call),
      replicate: (_peer, call) => never(call),
      watchStatus: (_request, call) => this.serve(node(), call, (found) => this.watch(found, call)),
      pushAssignments: (call) => this.serve(node(), call, () => () => undefined),
    };
  }

  /** A stream that breaks when its process does. */
  private serve(
    node: FakeNode | null,
    call: DuplexCall<never, unknown>,
    begin: (node: FakeNode) => () => void,
  ): void {
    if (node === null) {
      call.fail(new TransportError("no process there"));
      return;
    }
    const end = (): void => call.cancel();
    node.ends.add(end);
    const leave = begin(node);
    const over = (): void => {
      node.ends.delete(end);
      leave();
    };
    drain(call.messages).then(over, over);
  }

  close(): void {
    for (const end of this.framed) end();
    this.server.forceShutdown();
  }

  private group(pod: string): FakeGroup {
    const store = pod.replace(ORDINAL, "");
    const group = this.groups.get(store) ?? new FakeGroup();
    this.groups.set(store, group);
    return group;
  }

  /** Whose address was called; null when no process is there. */
  private called(call: { getHost(): string }): FakeNode | null {
    const name = nodeAt(call.getHost());
    const node = this.group(name).node(name);
    return node.podUid === null ? null : node;
  }

  private watch(node: FakeNode, call: DuplexCall<NodeStatus, unknown>): () => void {
    this.count("watchStatus");
    const send = (report: NodeStatus): void => {
      call.write(report);
    };
    send(node.status(this.group(node.name).live(), true));
    node.streams.add(send);
    const beat = (): void => node.beat(send);
    const beating = this.beating[this.watches % BEATS];
    this.watches += 1;
    beating?.add(beat);
    return () => {
      node.streams.delete(send);
      beating?.delete(beat);
    };
  }

  private of<Request, Response>(answer: (replica: FakeReplica, request: Request) => Response) {
    return (replica: FakeReplica | null, _node: FakeNode, request: Request) =>
      answer(present(replica), request) ?? {};
  }

  private unary<Request, Response>(
    name: string,
    answer: (
      replica: FakeReplica | null,
      node: FakeNode,
      request: Request,
      group: FakeGroup,
    ) => Response,
  ) {
    return (call: ServerUnaryCall<Request, Response>, done: sendUnaryData<Response>): void => {
      this.count(name);
      const node = this.called(call);
      if (node === null) {
        done({ code: status.UNAVAILABLE, details: "no process there" });
        return;
      }
      const group = this.group(node.name);
      try {
        const response = answer(node.replica, node, call.request, group);
        if (name !== "getInfo") group.settle();
        done(null, response);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        const metadata = new Metadata();
        const code = status.FAILED_PRECONDITION;
        metadata.set(DETAILS_KEY, Buffer.from(encodeErrorDetail(code, error)));
        done({ code, details: error.message, metadata });
      }
    };
  }

  private mustHold(replica: FakeReplica | null, offset: number): void {
    if ((replica?.commit ?? -1) >= offset) return;
    // A real one would answer late; whoever asked asks again.
    throw new ProtocolError("INVALID_STATUS", "no majority took it yet");
  }

  private count(name: string): void {
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1);
  }
}

async function drain(messages: AsyncIterable<unknown>): Promise<void> {
  for await (const _message of messages) continue;
}

function present(replica: FakeReplica | null): FakeReplica {
  if (replica === null) throw new ProtocolError("SHARD_NOT_FOUND", "not open");
  return replica;
}
