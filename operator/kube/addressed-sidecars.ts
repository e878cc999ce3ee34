/**
 * Calls to sidecars, each to where its pod is now: a pod that is made again has another address,
 * while the coordinator knows it by its name.
 */
import type { NodeEndpoint, SidecarClient } from "../controller/ports.ts";
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
    openShard: async (to, request, call) => await sidecars.openShard(at(to), request, call),
    newTerm: async (to, request, call) => await sidecars.newTerm(at(to), request, call),
    becomeLeader: async (to, request, call) => await sidecars.becomeLeader(at(to), request, call),
    addFollower: async (to, request, call) => await sidecars.addFollower(at(to), request, call),
    removeFollower: async (to, request, call) =>
      await sidecars.removeFollower(at(to), request, call),
    promote: async (to, request, call) => await sidecars.promote(at(to), request, call),
    updateEnsemble: async (to, request, call) =>
      await sidecars.updateEnsemble(at(to), request, call),
    enrol: async (to, request, call) => await sidecars.enrol(at(to), request, call),
    deleteShard: async (to, request, call) => await sidecars.deleteShard(at(to), request, call),
    getInfo: async (to, call) => await sidecars.getInfo(at(to), call),
    // No generator in between: each would handle every sign of life of every pod once more.
    watchStatus: (to, request, signal) => sidecars.watchStatus(at(to), request, signal),
    pushAssignments: async (to, updates, signal) =>
      await sidecars.pushAssignments(at(to), updates, signal),
    close: () => Promise.resolve(),
  };
}
