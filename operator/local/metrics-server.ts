import { createServer, type Server } from "node:http";
import type { Registry } from "prom-client";

/** Serves `/metrics` and `/healthz` on a loopback port. */
export class MetricsServer {
  private readonly server: Server;

  constructor(registry: Registry) {
    this.server = createServer((request, response) => {
      if (request.url === "/healthz") {
        response.end("ok\n");
        return;
      }
      if (request.url !== "/metrics") {
        response.writeHead(404).end("not found; try /metrics or /healthz\n");
        return;
      }
      registry.metrics().then(
        (text) => response.writeHead(200, { "content-type": registry.contentType }).end(text),
        (error: unknown) => response.writeHead(500).end(`${String(error)}\n`),
      );
    });
  }

  /** Rejects with the system's error when the port is taken. */
  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.server.once("error", reject);
      this.server.listen(port, "127.0.0.1", resolve);
    });
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
  }
}
