import type { KubeObject } from "../../operator/kube/resources.ts";

/** A volume for one claim, on a machine that does not exist. */
export function lostVolume(
  name: string,
  of: { readonly claim: string; readonly namespace: string; readonly storageClassName: string },
): object {
  const key = "kubernetes.io/hostname";
  const matchExpressions = [{ key, operator: "In", values: ["lost-machine"] }];
  return {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name },
    spec: {
      capacity: { storage: "100Gi" },
      accessModes: ["ReadWriteOnce"],
      persistentVolumeReclaimPolicy: "Retain",
      storageClassName: of.storageClassName,
      claimRef: { namespace: of.namespace, name: of.claim },
      local: { path: "/lost" },
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions }] } },
    },
  };
}

/** Claims like these as a person would write them: with nothing but what has to be there. */
export function claimsByHand(claims: readonly KubeObject[]): string {
  const items = claims.map(({ metadata: { name, namespace }, spec }) => {
    const { volumeName: _volumeName, ...wanted } = spec as { readonly volumeName?: string };
    const metadata = { name, namespace };
    return { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata, spec: wanted };
  });
  return JSON.stringify({ apiVersion: "v1", kind: "List", items });
}
