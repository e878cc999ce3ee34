/**
 * What happens to a store while a look at it is being written down. With real sidecars; the API
 * server and the kubelet are stand-ins.
 */
import assert from "node:assert/strict";
import type { Seen } from "../support/fake-api-server.ts";
import { OperatorLife, WAIT_MS } from "../support/operator-life.ts";

/** Long enough for the kubelet to make a pod anew meanwhile. */
const LATE_MS = 6_000;

describe("a volume that is replaced while a look at its store is written down", () => {
  let life: OperatorLife;

  beforeEach(async () => {
    life = await OperatorLife.begin();
  });
  afterEach(async () => {
    await life.close();
  });

  const isMade = ({ method, path }: Seen): boolean =>
    method === "POST" && path.endsWith("/replicarecoveries");
  const isStatus = ({ method, path }: Seen): boolean =>
    method === "PATCH" && path === `${life.storePath}/status`;

  /**
   * Has the status of the shard written late, and the volumes of a pod replaced meanwhile. Gives
   * what is asked for from then on, of recoveries made and the store's status, as M and S.
   */
  async function replaceMeanwhile(mayBeMade: () => boolean): Promise<() => string> {
    const { server } = life;
    life.start("one");
    life.apply({});
    await life.whole(3);
    const pod = life.follower();
    let from: number | null = null;
    server.fault = (request) => {
      const { method, path } = request;
      if (isMade(request) && !mayBeMade()) return { kind: "status", status: 403 };
      const isShard = method === "PATCH" && path.endsWith("/storeshards/demo.default.0/status");
      if (!isShard || from !== null) return undefined;
      from = server.requests.length;
      life.replaceVolumes(pod);
      return { kind: "late", afterMs: LATE_MS };
    };
    server.remove(life.path("v1", "pods", pod));
    await server.until("the status of the shard is written", () => from !== null, WAIT_MS);
    const since = from ?? 0;
    return () =>
      server.requests
        .slice(since)
        .flatMap((request) => (isMade(request) ? "M" : isStatus(request) ? "S" : []))
        .join("");
  }

  it("is told of before the rest is written", async () => {
    const asked = await replaceMeanwhile(() => true);
    await life.server.until("it is made", () => /M/u.test(asked()), WAIT_MS);
    assert.match(asked(), /^M/u);
    await life.server.until(
      "the recovery succeeded",
      () => life.recoveries().some(({ phase }) => phase === "Succeeded"),
      WAIT_MS,
    );
    assert.equal(life.recoveries().length, 1, JSON.stringify(life.recoveries()));
  });

  it("where that is refused, the store says so all the same", async () => {
    let refusing = true;
    const asked = await replaceMeanwhile(() => !refusing);
    await life.server.until("the store's status is written", () => /MS/u.test(asked()), WAIT_MS);
    assert.match(asked(), /^MS/u);
    const told = () => life.condition("Progressing")?.reason === "ApplyRejected";
    await life.server.until("it is told", told, WAIT_MS);
    refusing = false;
    await life.server.until(
      "the recovery succeeded",
      () => life.recoveries().some(({ phase }) => phase === "Succeeded"),
      WAIT_MS,
    );
  });
});
