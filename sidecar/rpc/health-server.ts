/**
 * HTTP for kubelets, Prometheus and people: /healthz (the event loop answers), /readyz (all
 * replicas vote), /metrics. It stays green during a transfer: rebuilding is no reason to restart a
 * process.
 */
import { createServer, type Server, type ServerResponse } from "node:http";
import { ListenError } from "./server.ts";

/** What the pages show. */
export interface HealthSources {
  /** Why the pod is not ready; null when it is. */
  notReadyBecause(): string | null;
  readonly contentType: string;
  metricsPage(): Promise<string>;
}

/** A listening HTTP server. */
export interface HealthServer {
  readonly portNumber: number;
  close(): Promise<void>;
}

const TEXT = "text/plain; charset=utf-8";
const REQUEST_MS_MAX = 10_000;
const CONNECTIONS_MAX = 256;

/** Listens on host:port; port 0 takes any free one. Rejects with ListenError. */
export async function openHealthServer(
  address: { readonly host: string; readonly port: number },
  sources: HealthSources,
): Promise<HealthServer> {
  const server = createServer((request, response) => {
    answer(request.url ?? "/", response, sources).catch((error: unknown) => {
      reply(response, 500, `failed: ${error instanceof Error ? error.message : String(error)}\n`);
    });
  });
  server.requestTimeout = REQUEST_MS_MAX;
  server.maxConnections = CONNECTIONS_MAX;
  // Garbage instead of HTTP: the connection is closed, nothing else happens.
  server.on("clientError", (_error, socket) => socket.destroy());
  await listen(server, address);
  const bound = server.address();
  return {
    portNumber: typeof bound === "object" && bound !== null ? bound.port : address.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(
  server: Server,
  address: { readonly host: string; readonly port: number },
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const name = `metricsAddress ${address.host}:${address.port}`;
      const why =
        error.code === "EADDRINUSE"
          ? "is in use by another process; allowed: a free port, or 0"
          : `cannot be listened on: ${error.message}`;
      reject(new ListenError(`${name} ${why}`, { cause: error }));
    });
    server.listen(address.port, address.host, () => {
      server.removeAllListeners("error");
      // A failed accept (no file handles left) must not end the process; the kubelet asks again.
      server.on("error", () => {});
      resolve();
    });
  });
}

async function answer(
  url: string,
  response: ServerResponse,
  sources: HealthSources,
): Promise<void> {
  switch (url.split("?", 1)[0]) {
    case "/healthz":
      reply(response, 200, "ok\n");
      return;
    case "/readyz": {
      const why = sources.notReadyBecause();
      reply(response, why === null ? 200 : 503, why === null ? "ok\n" : `not ready: ${why}\n`);
      return;
    }
    case "/metrics":
      reply(response, 200, await sources.metricsPage(), sources.contentType);
      return;
    default:
      reply(response, 404, "not found; there are /healthz, /readyz and /metrics\n");
  }
}

function reply(response: ServerResponse, code: number, body: string, type: string = TEXT): void {
  response.writeHead(code, { "content-type": type });
  response.end(body);
}
