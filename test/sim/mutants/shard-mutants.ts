/** One shard taken for another: of a node's several, or of a coordinator's. */
import type { CoordinatorOptions } from "../../../operator/controller/coordinator.ts";
import type { Disk } from "../../../sidecar/lib/ports/disk.ts";
import type { DuplexCall } from "../../../sidecar/lib/ports/duplex-call.ts";
import type {
  Ack,
  Append,
  Peer,
  RemoveFollowerResponse,
} from "../../../sidecar/protocol/gen/resilver.ts";
import type { NodeOptions } from "../../../sidecar/runtime/node.ts";
import type { PeerTransport } from "../../../sidecar/runtime/ports.ts";
import { simEngineFactory } from "../sim-engine.ts";
import type { Mutant } from "./mutant.ts";

const SHARD_DIR = /^(\/(?:wal|state)\/[^/]+)\/\d+$/u;

/** All replicas that a process formats are one. */
function oneIdentity({ random }: NodeOptions): NodeOptions["random"] {
  let own = "";
  return {
    unit: () => random.unit(),
    uid: () => {
      if (own === "") own = random.uid();
      return own;
    },
  };
}

/** A disk on which a shard that is removed takes all others of its namespace along. */
function removesNeighbours(disk: Disk): Disk {
  return new Proxy(disk, {
    get(target, name) {
      if (name !== "remove") return Reflect.get(target, name).bind(target);
      return async (path: string): Promise<void> => {
        const [, namespace] = SHARD_DIR.exec(path) ?? [];
        if (namespace !== undefined) {
          for (const shard of await target.list(namespace)) {
            await target.remove(`${namespace}/${shard}`);
          }
        }
        await target.remove(path);
      };
    },
  });
}

/** What any stream to an address acknowledged is taken for acknowledged by each. */
function anyonesAcks(transport: PeerTransport): PeerTransport {
  const newest = new Map<string, number>();
  return {
    ...transport,
    replicate: (address: string, peer: Peer): DuplexCall<Append, Ack> => {
      const call = transport.replicate(address, peer);
      let sent = -1;
      async function* acks(): AsyncGenerator<Ack, void, void> {
        for await (const ack of call.messages) {
          const known = Math.max(newest.get(address) ?? -1, ack.synced ? ack.offset : -1);
          newest.set(address, known);
          const offset = Math.max(ack.offset, Math.min(known, sent));
          yield ack.synced ? { ...ack, offset } : ack;
        }
      }
      return {
        ...call,
        messages: acks(),
        write: (append, written) => {
          sent = append.entry?.offset ?? sent;
          return call.write(append, written);
        },
      };
    },
  };
}

/** A coordinator that takes the target of one shard's learner from another shard's leader. */
function anyonesTarget(options: CoordinatorOptions): CoordinatorOptions {
  const { sidecars } = options;
  const answers = new Map<number, RemoveFollowerResponse>();
  return {
    ...options,
    sidecars: {
      ...sidecars,
      removeFollower: async (to, request, call) => {
        const answer = await sidecars.removeFollower(to, request, call);
        answers.set(request.shard, answer);
        const other = [...answers.keys()].find((shard) => shard !== request.shard);
        return answers.get(other ?? request.shard) ?? answer;
      },
    },
  };
}

function onDisk(change: (disk: Disk) => Disk): (options: NodeOptions) => NodeOptions {
  return (options) => {
    const disk = change(options.disk);
    return { ...options, disk, engine: simEngineFactory(disk) };
  };
}

export const SHARD_MUTANTS: readonly Mutant[] = [
  {
    name: "identity-of-a-process",
    does: "gives all replicas that a process formats one identity",
    breaks: ["R1"],
    caughtBy: ["R1"],
    faults: ["wipeShard"],
    force: { namespaces: [2] },
    alterNode: (options) => ({ ...options, random: oneIdentity(options) }),
  },
  {
    name: "remove-the-neighbours",
    does: "removes all shards of a namespace with one",
    breaks: ["R1", "R14"],
    caughtBy: ["I13", "broken"],
    faults: ["changeEnsemble", "crash"],
    force: { namespaces: [3], spares: 1 },
    alterNode: onDisk(removesNeighbours),
  },
  {
    name: "acks-of-a-neighbour",
    does: "counts what a node acknowledged of one shard for the others it has",
    breaks: ["R4"],
    caughtBy: ["I11", "I5"],
    faults: ["moveLeader", "powerLoss", "slowDisk"],
    force: { namespaces: [3] },
    alterNode: (options) => ({ ...options, transport: anyonesAcks(options.transport) }),
  },
  {
    name: "target-of-a-neighbour",
    does: "takes a learner's target from what another shard's leader appended",
    breaks: ["R16"],
    caughtBy: ["R16"],
    faults: ["wipe", "moveLeader"],
    force: { namespaces: [2] },
    alterCoordinator: anyonesTarget,
  },
];
