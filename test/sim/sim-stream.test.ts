import assert from "node:assert/strict";
import { Ack, Append } from "../../sidecar/protocol/gen/resilver.ts";
import { Chance } from "./chance.ts";
import { SimProcess, SimTime } from "./sim-clock.ts";
import { SimNetwork } from "./sim-network.ts";

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
});
