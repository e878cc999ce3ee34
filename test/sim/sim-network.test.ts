import assert from "node:assert/strict";
import { Ack, Append } from "../../sidecar/protocol/gen/resilver.ts";
import { Chance } from "./chance.ts";
import { SimProcess, SimTime } from "./sim-clock.ts";
import { SimNetwork } from "./sim-network.ts";

const SPEED = { latencyMsMin: 1, latencyMsMax: 1, slowOneIn: 0, slowMs: 0 };

function twoHosts() {
  const time = new SimTime();
  const network = new SimNetwork(time, new Chance(1), SPEED);
  const a = new SimProcess("a", time, new Chance(2));
  const b = new SimProcess("b", time, new Chance(3));
  network.up(a);
  network.up(b);
  /** When requests of `a` arrived at `b`. */
  const arrivedMs: number[] = [];
  const answeredMs: number[] = [];
  const ask = (mayRepeat: boolean): void => {
    const serve = async (): Promise<number> => arrivedMs.push(time.nowMs);
    const { answer } = network.unary({ from: a, to: "b", label: "ask", mayRepeat, serve });
    answer.then(
      () => answeredMs.push(time.nowMs),
      () => undefined,
    );
  };
  return { time, network, a, ask, arrivedMs, answeredMs };
}

describe("SimNetwork", () => {
  it("makes one way slow, and the other not", async () => {
    const { time, network, ask, arrivedMs, answeredMs } = twoHosts();
    network.impair("a", "b", { delayMs: 50 });
    ask(false);
    await time.run(200, () => false);
    assert.deepEqual([arrivedMs, answeredMs], [[51], [52]]);
    network.impair("a", "b", null);
    ask(false);
    await time.run(200, () => false);
    assert.deepEqual(arrivedMs, [51, 201]);
  });

  it("loses requests on a way that is not cut off", async () => {
    const { time, network, ask, arrivedMs, answeredMs } = twoHosts();
    network.impair("a", "b", { lostShare: 1 });
    ask(false);
    network.impair("a", "b", null);
    ask(false);
    await time.run(200, () => false);
    assert.deepEqual([arrivedMs.length, answeredMs.length], [1, 1]);
  });

  it("delivers messages of a stream late and in order where requests would be lost", async () => {
    const { time, network, a } = twoHosts();
    const offsets: number[] = [];
    let reading = Promise.resolve();
    const stream = network.stream<Append, Ack>({
      from: a,
      to: "b",
      label: "replicate",
      up: Append,
      down: Ack,
      window: 8,
      serve: (_server, { server }) => {
        reading = (async () => {
          for await (const { commitOffset } of server.messages) offsets.push(commitOffset);
        })();
      },
    });
    network.impair("a", "b", { lostShare: 1 });
    stream.client.write(Append.fromPartial({ commitOffset: 1 }));
    network.impair("a", "b", null);
    stream.client.write(Append.fromPartial({ commitOffset: 2 }));
    await time.run(150, () => false);
    assert.deepEqual(offsets, []);
    await time.run(2_000, () => false);
    assert.deepEqual(offsets, [1, 2]);
    stream.client.end();
    await time.run(2_000, () => false);
    await reading;
  });

  it("repeats what may come twice, and nothing else; one answer is enough", async () => {
    const { time, network, ask, arrivedMs, answeredMs } = twoHosts();
    network.impair("a", "b", { repeatedShare: 1 });
    ask(false);
    await time.run(5_000, () => false);
    assert.deepEqual([arrivedMs.length, answeredMs.length], [1, 1]);
    ask(true);
    await time.run(5_000, () => false);
    assert.deepEqual([arrivedMs.length, answeredMs.length], [3, 2]);
  });

  it("is whole again when all is healed", async () => {
    const { time, network, ask, answeredMs } = twoHosts();
    network.impair("a", "b", { lostShare: 1 });
    network.unblockAll();
    ask(false);
    await time.run(200, () => false);
    assert.equal(answeredMs.length, 1);
  });
});
