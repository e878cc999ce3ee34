/** host:port in its parts; the host of IPv6 is in brackets. */
export function splitAddress(address: string): { readonly host: string; readonly port: number } {
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/u, "$1");
  return { host, port: Number(address.slice(colon + 1)) };
}
