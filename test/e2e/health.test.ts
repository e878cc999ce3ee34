import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { Client, credentials } from "@grpc/grpc-js";
import type { MethodDefinition } from "@grpc/grpc-js";
import { TestStore } from "../support/local-store.ts";

const { Check } = (
  createRequire(import.meta.url)("grpc-health-check") as {
    service: { Check: MethodDefinition<{ service: string }, { status: string }> };
  }
).service;

describe("Health of a real store", function () {
  this.timeout(60_000);
  let test: TestStore;

  before(async () => {
    test = await TestStore.start();
  });

  after(async () => {
    await test.close();
  });

  /** What grpc.health.v1 says at an address; rejects after five seconds. */
  async function check(address: string): Promise<string> {
    const client = new Client(address, credentials.createInsecure());
    try {
      return await new Promise((resolve, reject) => {
        const deadline = Date.now() + 5_000;
        const { path, requestSerialize, responseDeserialize } = Check;
        client.makeUnaryRequest(
          path,
          requestSerialize,
          responseDeserialize,
          { service: "" },
          { deadline },
          (error, response) => {
            if (error !== null) reject(error);
            else resolve(response?.status ?? "");
          },
        );
      });
    } finally {
      client.close();
    }
  }

  it("is served by gRPC on both ports and by HTTP, by the program that ships", async () => {
    for (const node of ["resilver-0", "resilver-1", "resilver-2"]) {
      const { publicAddress, internalAddress, metricsAddress } = test.store.endpoint(node);
      assert.equal(await check(publicAddress), "SERVING");
      assert.equal(await check(internalAddress), "SERVING");
      for (const path of ["/healthz", "/readyz", "/metrics"]) {
        assert.equal(
          (await fetch(`http://${metricsAddress}${path}`)).status,
          200,
          `${node} ${path}`,
        );
      }
    }
  });
});
