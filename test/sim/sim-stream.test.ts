import assert from "node:assert/strict";
import { Ack, Append } from "../../sidecar/protocol/gen/resilver.ts";
import { Chance } from "./chance.ts";
import { SimProcess, SimTime } from "./sim-clock.ts";
import { SimNetwork } from "./sim-network.ts";
import { SimLane } from "./sim-stream.ts";

describe("SimStream", () => {
  it("is over for a server whose client died, and not before it hears of that", async () => {
    const time = new SimTime();
    const speed = { latencyMsMin: 5, latencyMsMax: 5, slowOneIn: 0, slowMs: 0 };
    const network = new SimNetwork(time, new Chance(1), speed);
    const client = new SimProcess("client", time, new Chance(2));
    const server = new SimProcess("server", time, new Chance(3));
    network.up(client);
    network.up(server);
    const stream = network.stream<Append, Ack>({
      from: client,
      to: "server",
      label: "replicate",
      up: Append,
      down: Ack,
      window: 4,
      serve: () => undefined,
    });
    await time.run(10, () => false);
    client.alive = false;
    network.down(client, false);
    assert.equal(stream.overForServer, false);
    await time.run(10, () => false);
    assert.equal(stream.overForServer, true);
  });

  it("gives the reader a message of its own each time, also of one that says the same", async () => {
    const time = new SimTime();
    const lane = new SimLane(Append, 4, (deliver) => void time.after(1, null, "way", deliver));
    const previous = { term: 1, offset: 2, crc: 3 };
    const beat = (round: number): Append => Append.fromPartial({ term: 1, round, previous });
    for (const round of [1, 1, 2]) assert.equal(lane.write(beat(round)), true);
    lane.close(null);
    await time.run(10, () => false);
    const read: Append[] = [];
    for await (const message of lane) read.push(message);
    assert.deepEqual(read, [beat(1), beat(1), beat(2)]);
    assert.notEqual(read[0], read[1]);
    assert.notEqual(read[0]?.previous, read[1]?.previous);
  });
});
