import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import type { Timer } from "../../../sidecar/lib/ports/clock.ts";
import { LIMITS } from "../../../sidecar/limits.ts";
import { NodeClock } from "../../../sidecar/os/node-clock.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import {
  GetRequest,
  GetResponse,
  ListRequest,
  RangeScanRequest,
  ReadRequest,
} from "../../../sidecar/protocol/gen/oxia-client.ts";
import { OxiaClientService as Api } from "../../../sidecar/protocol/service.ts";
import { type ReadHold, ReadMemory } from "../../../sidecar/rpc/read-memory.ts";
import { FakeRuntime, fakeReplica, type Overrides } from "./fake-runtime.ts";
import { collect, type Harness, openHarness, openStream, within } from "./harness.ts";

/** Real but for the time of readers, which passes when the test says so. */
class ReaderClock extends NodeClock {
  readonly due = new Set<() => void>();

  override timer(delayMs: number, fire: () => void): Timer {
    if (delayMs !== LIMITS.readViewMsMax) return super.timer(delayMs, fire);
    this.due.add(fire);
    return { cancel: () => void this.due.delete(fire) };
  }

  pass(): void {
    const fired = [...this.due];
    this.due.clear();
    for (const fire of fired) fire();
  }
}

/** What a call is to the memory of reads, with the library's stream below it. */
class FakeCall extends EventEmitter {
  cancelled = false;
  readonly codes: number[] = [];
  readonly call = { stream: { close: (code: number) => void this.codes.push(code) } };
}

const HALF = LIMITS.readBytesMax / 2;

function isRefused(error: unknown): boolean {
  assert.ok(error instanceof ProtocolError, String(error));
  assert.equal(error.reason, "RESOURCE_UNAVAILABLE");
  assert.match(error.message, /reads keep .* allowed: at most 67108864 bytes/);
  return true;
}

describe("memory of reads", () => {
  let clock: ReaderClock;
  let nowMs: number;
  let memory: ReadMemory;

  beforeEach(() => {
    nowMs = 0;
    clock = new ReaderClock();
    clock.monotonicMs = () => nowMs;
    memory = new ReadMemory(clock);
  });

  function reading(call: FakeCall = new FakeCall()): { call: FakeCall; hold: ReadHold } {
    return { call, hold: memory.hold(call, 0) };
  }

  it("counts requests and pages until they have left or the call is over", () => {
    const call = new FakeCall();
    const hold = memory.hold(call, 1_000);
    const request = memory.bytes;
    assert.ok(request >= 1_000);
    hold.page(500);
    hold.page(600);
    assert.equal(memory.bytes, request + 1_100);
    hold.left(500);
    assert.equal(memory.bytes, request + 600);
    assert.equal(clock.due.size, 1);
    call.emit("cancelled");
    assert.deepEqual([memory.bytes, clock.due.size], [0, 0]);
    hold.left(600);
    hold.page(1);
    assert.deepEqual([memory.bytes, clock.due.size], [0, 0]);
    call.cancelled = true;
    assert.throws(() => memory.hold(call, 0), { name: "AbortError" });
  });

  it("refuses calls and pages beyond the bound, until there is room again", () => {
    const first = reading();
    const second = reading();
    first.hold.page(HALF);
    assert.throws(() => second.hold.page(HALF), isRefused);
    second.hold.page(HALF - 4_096);
    assert.throws(() => memory.hold(new FakeCall(), 4_096), isRefused);
    first.hold.left(HALF);
    second.hold.page(HALF - 4_096);
    assert.deepEqual([first.call.codes, second.call.codes], [[], []]);
  });

  it("ends those that have stalled longest, and no others, for the sake of new ones", () => {
    const [longest, shorter, moves] = [reading(), reading(), reading()];
    longest.hold.page(HALF / 2);
    nowMs += 1;
    moves.hold.page(HALF / 4);
    moves.hold.page(HALF / 4);
    shorter.hold.page(HALF / 2);
    nowMs += LIMITS.readStallMs;
    moves.hold.left(HALF / 4);
    const { hold } = reading();
    hold.page(HALF);
    const ended = [longest, shorter, moves].map(({ call }) => call.codes.length);
    assert.deepEqual(ended, [1, 0, 0]);
    hold.page(HALF / 2);
    assert.equal(shorter.call.codes.length, 1);
    assert.throws(() => hold.page(HALF / 2), isRefused);
    assert.equal(moves.call.codes.length, 0);
  });

  it("ends one that takes nothing for as long as a view may last", () => {
    const { call, hold } = reading();
    hold.page(10);
    hold.page(10);
    hold.left(10);
    assert.equal(clock.due.size, 1);
    clock.pass();
    assert.deepEqual([call.codes.length, memory.bytes, clock.due.size], [1, 0, 0]);
  });
});

describe("a reader that stalls", () => {
  const value = Buffer.alloc(1024 * 1024);
  let harness: Harness;
  let clock: ReaderClock;
  let signals: AbortSignal[];

  beforeEach(() => {
    clock = new ReaderClock();
    signals = [];
  });

  afterEach(() => harness.close());

  async function open(overrides: Overrides): Promise<void> {
    const readBarrier = async (signal: AbortSignal): Promise<void> => void signals.push(signal);
    const replica = fakeReplica("default", 0, { readBarrier, ...overrides });
    harness = await openHarness(new FakeRuntime([replica]), clock);
  }

  it("has its call ended, whether the answer is all made or not", async () => {
    const record = GetResponse.create({ key: "k", value });
    const wanted = { page: 0 };
    const made = new EventEmitter();
    const next = (): void => void (--wanted.page === 0 && made.emit("made"));
    await open({
      get: () => {
        next();
        return record;
      },
      *scan() {
        for (;;) {
          next();
          yield [record];
        }
      },
      *list() {
        for (;;) {
          next();
          yield Array.from({ length: 1_000 }, () => "k".repeat(1_000));
        }
      },
    });
    const gets = (length: number): ReadRequest =>
      ReadRequest.create({ shard: 0, gets: Array.from({ length }, () => GetRequest.create()) });
    for (const [api, request, pages] of [
      // One message, and its handler is done; and one with more to come.
      [Api.read, gets(1), 1],
      [Api.read, gets(10), 4],
      [Api.list, ListRequest.create({ shard: 0 }), 2],
      [Api.rangeScan, RangeScanRequest.create({ shard: 0 }), 2],
    ] as const) {
      wanted.page = pages;
      const ready = once(made, "made");
      // Nobody reads it.
      const stream = openStream<unknown, unknown>(harness.public, api as never, request);
      stream.on("error", () => undefined);
      await within(ready);
      await new Promise(setImmediate);
      const signal = signals.at(-1);
      assert.ok(signal !== undefined && !signal.aborted);
      const over = once(signal, "abort");
      assert.ok(clock.due.size > 0, "nothing watches the reader");
      clock.pass();
      await within(over);
      assert.equal(clock.due.size, 0);
    }
    // The connection goes on.
    const request = ReadRequest.create({ shard: 0, gets: [GetRequest.create()] });
    assert.equal((await collect(harness.public, Api.read, request)).length, 1);
  });

  it("makes room for those that read, when all of it is taken", async () => {
    let nowMs = 0;
    clock.monotonicMs = () => nowMs;
    await open({ get: () => GetResponse.create({ value }) });
    const big = ReadRequest.create({
      shard: 0,
      gets: Array.from({ length: 8 }, () => GetRequest.create()),
    });
    const small = ReadRequest.create({ shard: 0, gets: [GetRequest.create()] });
    const read = () => collect(harness.public, Api.read, small);
    // Nobody reads these.
    for (let at = 0; at < 48; at++) {
      openStream(harness.public, Api.read, big).on("error", () => undefined);
    }
    // They come first on the connection, but fill it only bit by bit.
    let refusal: string | null = null;
    while (refusal === null) {
      refusal = await read().then(
        () => null,
        (error: Error) => error.message,
      );
    }
    assert.match(refusal, /^14 UNAVAILABLE: reads keep \d+ bytes in memory/);
    nowMs += LIMITS.readStallMs;
    assert.equal((await read()).length, 1);
  });
});
