/** HTTP for kubelets, Prometheus and people. */
import { createServer, type ServerResponse } from "node:http";

/** Path -> what to answer. */
export type Pages = Readonly<Record<string, () => Page | Promise<Page>>>;

/** An answer. */
export interface Page {
  readonly status: number;
  readonly body: string;
  /** Absent: plain text. */
  readonly contentType?: string;
}

/** A listening server. */
export interface PageServer {
  readonly port: number;
  close(): Promise<void>;
}

const REQUEST_MS_MAX = 10_000;
const CONNECTIONS_MAX = 64;

/** Listens on all addresses; port 0 takes any free one. Rejects when it cannot. */
export async function servePages(port: number, pages: Pages): Promise<PageServer> {
  const server = createServer((request, response) => {
    const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
    answer(path, pages, response).catch((error: unknown) => {
      const message = error instanceof Error ? error.message : String(error);
      reply(response, { status: 500, body: `failed: ${message}\n` });
    });
  });
  server.requestTimeout = REQUEST_MS_MAX;
  server.maxConnections = CONNECTIONS_MAX;
  server.on("clientError", (_error, socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => {
      reject(new Error(`port ${port} cannot be listened on: ${error.message}`, { cause: error }));
    });
    server.listen(port, () => {
      server.removeAllListeners("error");
      // A failed accept (no file handles left) must not end the process; the kubelet asks again.
      server.on("error", () => {});
      resolve();
    });
  });
  const bound = server.address();
  return {
    port: typeof bound === "object" && bound !== null ? bound.port : port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(path: string, pages: Pages, response: ServerResponse): Promise<void> {
  const page = Object.hasOwn(pages, path) ? pages[path] : undefined;
  if (page === undefined) {
    const there = Object.keys(pages).join(", ");
    reply(response, { status: 404, body: `not found; there are ${there}\n` });
    return;
  }
  reply(response, await page());
}

function reply(response: ServerResponse, { status, body, contentType }: Page): void {
  response.writeHead(status, { "content-type": contentType ?? "text/plain; charset=utf-8" });
  response.end(body);
}
