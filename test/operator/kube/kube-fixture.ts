import { ApiClient } from "../../../operator/kube/api-client.ts";
import { ApiTransport } from "../../../operator/kube/api-transport.ts";
import type { KubeLimits } from "../../../operator/kube/limits.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import type { FakeApiServer } from "../../support/fake-api-server.ts";

/** Waits short enough for tests; those that are not named stay as they are. */
export const QUICK: Partial<KubeLimits> = {
  watchIdleMs: 300,
  retryMinMs: 10,
  retryMaxMs: 40,
  relistMs: 1_000_000,
};

/** A client of the fake server. */
export function clientOf(
  server: FakeApiServer,
  observe?: (method: string, code: string) => void,
  more: { readonly connectionIdleMs?: number } = {},
): { readonly client: ApiClient; readonly transport: ApiTransport } {
  const transport = new ApiTransport({
    config: server.config(),
    clock: systemClock,
    userAgent: "resilver-test",
    ...more,
    ...(observe === undefined ? {} : { observe }),
  });
  return { client: new ApiClient(transport, "resilver"), transport };
}

/** A call with a deadline far beyond what a test should take. */
export function call(deadlineMs = 5_000) {
  return { signal: new AbortController().signal, deadlineMs };
}
