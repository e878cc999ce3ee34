/**
 * Calls to sidecars, each to where its pod is now: a pod that is made again has another address,
 * while the coordinator knows it by its name. The address of a pod that ends goes to another one,
 * of the same store perhaps, before the API server says so: what that one reports must never be
 * taken for the first one's. Nearly all other calls name the replica's uid, and are refused by any
 * other; assignments name nobody, and are believed until the next that come.
 */
import { CallFailed, type NodeEndpoint, type SidecarClient } from "../controller/ports.ts";
import type { ResolveAddress } from "./kube-platform.ts";

/**
 * A {@link SidecarClient} over another one. The other one is not closed by it: all stores of a
 * process share its connections.
 */
export function addressedSidecars(sidecars: SidecarClient, resolve: ResolveAddress): SidecarClient {
  const at = (endpoint: NodeEndpoint): NodeEndpoint => ({
    ...endpoint,
    internalAddress: resolve(endpoint.node),
  });
  return {
    openShard: async (to, request, call) => {
      const there = at(to);
      return saidBy(there, await sidecars.openShard(there, request, call));
    },
    newTerm: async (to, request, call) => await sidecars.newTerm(at(to), request, call),
    becomeLeader: async (to, request, call) => await sidecars.becomeLeader(at(to), request, call),
    addFollower: async (to, request, call) => await sidecars.addFollower(at(to), request, call),
    removeFollower: async (to, request, call) =>
      await sidecars.removeFollower(at(to), request, call),
    promote: async (to, request, call) => await sidecars.promote(at(to), request, call),
    updateEnsemble: async (to, request, call) =>
      await sidecars.updateEnsemble(at(to), request, call),
    enrol: async (to, request, call) => await sidecars.enrol(at(to), request, call),
    deleteShard: async (to, request, call) => {
      const there = at(to);
      // It names no replica, and what it deletes cannot be had back.
      saidBy(there, await sidecars.getInfo(there, call));
      await sidecars.deleteShard(there, request, call);
    },
    getInfo: async (to, call) => {
      const there = at(to);
      return saidBy(there, await sidecars.getInfo(there, call));
    },
    // No generator in between: each would handle every sign of life of every pod once more. Whose
    // report it is, who watches looks at (NodeWatch).
    watchStatus: (to, request, signal) => sidecars.watchStatus(at(to), request, signal),
    pushAssignments: async (to, updates, signal) =>
      await sidecars.pushAssignments(at(to), updates, signal),
    close: () => Promise.resolve(),
  };
}

/** What was said, by the node that was asked. */
function saidBy<T extends { readonly node: string }>(asked: NodeEndpoint, said: T): T {
  const { node, internalAddress } = asked;
  if (said.node === node) return said;
  const message = `${node}: at ${internalAddress} there is ${said.node} now`;
  throw new CallFailed(node, message, false);
}
