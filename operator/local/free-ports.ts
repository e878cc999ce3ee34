import { createServer } from "node:net";

/** Ports one replica takes, from its first: public, internal, metrics. */
export const PORTS_PER_REPLICA = 3;

/**
 * Below the range from which systems take ports for outgoing connections, so that none is taken in
 * between.
 */
const SEARCH_FROM = 10_000;
const SEARCH_TO = 32_000;

/** The first of `ports` that cannot be listened on; null when all can. */
export async function firstBusyPort(ports: readonly number[]): Promise<number | null> {
  for (const port of ports) {
    if (!(await isFree(port))) return port;
  }
  return null;
}

/** First of `count` neighbouring ports that are all free now. Throws when the search finds none. */
export async function findFreePorts(count: number, random: () => number): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const first = SEARCH_FROM + Math.floor(random() * (SEARCH_TO - SEARCH_FROM - count));
    const block = Array.from({ length: count }, (_, index) => first + index);
    if ((await firstBusyPort(block)) === null) return first;
  }
  throw new Error(`--port: found no ${count} neighbouring free ports`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => {
      server.close(() => resolve(true));
    });
  });
}
