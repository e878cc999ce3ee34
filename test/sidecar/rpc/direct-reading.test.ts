import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { readingInto } from "../../../sidecar/rpc/direct-reading.ts";
import { within } from "./harness.ts";

describe("direct reading", () => {
  let server: Server;
  let client: Socket;
  let accepted: Socket;

  beforeEach(async () => {
    server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    client = connect((server.address() as AddressInfo).port, "127.0.0.1");
    [accepted] = (await within(once(server, "connection"))) as [Socket];
  });

  afterEach(async () => {
    client.destroy();
    accepted.destroy();
    // Does not end while the server counts a connection.
    await within(new Promise((resolve) => server.close(resolve)));
  });

  /** The socket that reads into `place`, with what came before, until `bytes` were read. */
  function read(place: Buffer, bytes: number): { socket: Socket | null; done: Promise<Buffer> } {
    let finish: (early: Buffer) => void = () => {};
    const done = new Promise<Buffer>((resolve) => {
      finish = resolve;
    });
    const early: Buffer[] = [];
    let at = 0;
    const count = (more: number): void => {
      at += more;
      if (at + early.reduce((sum, part) => sum + part.length, 0) === bytes) {
        finish(Buffer.concat(early));
      }
    };
    const socket = readingInto(accepted, {
      room: () => place.subarray(at),
      filled: count,
      before: (data) => {
        early.push(Buffer.from(data));
        count(0);
      },
    });
    socket?.resume();
    return { socket, done };
  }

  it("puts all but what was read before where it belongs, and answers", async () => {
    client.write("early");
    await within(once(accepted, "readable"));
    const sent = Buffer.alloc(1_000_000, "late ");
    const place = Buffer.alloc(2_000_000);
    const { socket, done } = read(place, 5 + sent.length);
    // Without it every transfer is slower, and nothing else shows that.
    assert.ok(socket !== null, "this Node has no direct reading");
    client.write(sent);
    const early = await within(done);
    assert.equal(early.toString("latin1", 0, 5), "early");
    assert.ok(early.length <= 5 + 4_096, `${early.length} bytes came another way`);
    const direct = sent.length + 5 - early.length;
    assert.ok(place.subarray(0, direct).equals(sent.subarray(early.length - 5)));
    socket.write("answer");
    const [answer] = (await within(once(client, "data"))) as [Buffer];
    assert.equal(answer.toString(), "answer");
  });

  it("reads nothing while it is paused", async () => {
    const place = Buffer.alloc(1_000);
    const { socket, done } = read(place, 100);
    socket?.pause();
    client.write(Buffer.alloc(100, 7));
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(socket?.bytesRead, 0);
    socket?.resume();
    await within(done);
  });

  it("ends with the other end, and with the socket that it was made from", async () => {
    const first = read(Buffer.alloc(10), 10).socket;
    assert.ok(first !== null);
    client.end();
    await within(once(first, "close"));
    assert.ok(accepted.destroyed);
    client = connect((server.address() as AddressInfo).port, "127.0.0.1");
    [accepted] = (await within(once(server, "connection"))) as [Socket];
    const second = read(Buffer.alloc(10), 10).socket;
    assert.ok(second !== null);
    accepted.destroy();
    await within(once(second, "close"));
  });
});
