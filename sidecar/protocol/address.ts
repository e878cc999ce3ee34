/** A host and a port. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** host:port; an IPv6 host in brackets. */
const ADDRESS = /^(\[[0-9a-fA-F:.]+\]|[^\s:[\]/]+):(\d{1,5})$/u;

/** host:port in its parts, the host without brackets; null when the text is none. */
export function splitAddress(text: string): Address | null {
  const parts = ADDRESS.exec(text);
  const host = parts?.[1]?.replace(/^\[(.*)\]$/u, "$1");
  const port = Number(parts?.[2]);
  return host === undefined || !(port <= 65_535) ? null : { host, port };
}
