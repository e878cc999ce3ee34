/**
 * Where the fake sidecar of each pod is reached. Pods of fake nodes have addresses that lead
 * nowhere; all of 127.0.0.0/8 leads to this machine, so that one port serves them all, and tells
 * them apart by the address that was called.
 */
import type { NodeEndpoint } from "../../operator/controller/ports.ts";

/** Names of the stores: `scale-0`, `scale-1`, ... */
const STORE = /^scale-(\d+)-(\d+)$/u;
/** Pods of a store, at most. */
const PODS_MAX = 8;
/** 127.0.0.x is used by others. */
const FIRST = 1 << 16;

/** Name of the store with this number. */
export function storeName(index: number): string {
  return `scale-${index}`;
}

/** The address of a pod's sidecar. Throws for a name that is not of this run. */
export function scaleEndpoint(node: string, port: number): NodeEndpoint {
  const [, store, ordinal] = STORE.exec(node) ?? [];
  if (store === undefined || ordinal === undefined) throw new Error(`no pod of the run: ${node}`);
  const place = FIRST + Number(store) * PODS_MAX + Number(ordinal);
  const address = `127.${place >> 16}.${(place >> 8) & 0xff}.${place & 0xff}:${port}`;
  return { node, internalAddress: address, publicAddress: address };
}

/** The pod that `address` (host:port) belongs to. */
export function nodeAt(address: string): string {
  const [, high = 0, middle = 0, low = 0] = address.split(":")[0]?.split(".").map(Number) ?? [];
  const place = ((high << 16) | (middle << 8) | low) - FIRST;
  return `${storeName(Math.floor(place / PODS_MAX))}-${place % PODS_MAX}`;
}
