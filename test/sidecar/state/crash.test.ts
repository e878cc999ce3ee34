import assert from "node:assert/strict";
import type { Clock } from "../../../sidecar/lib/ports/clock.ts";
import {
  KeyComparisonType,
  type WriteResponse,
} from "../../../sidecar/protocol/gen/oxia-client.ts";
import type { WriteRequest } from "../../../sidecar/protocol/gen/oxia-client.ts";
import { MemoryBudget } from "../../../sidecar/state/memory-budget.ts";
import { ShardState } from "../../../sidecar/state/shard-state.ts";
import { simEngineFactory } from "../../sim/sim-engine.ts";
import { CrashDisk } from "./crash-disk.ts";
import {
  clock as realClock,
  getRequest,
  listOf,
  NEVER,
  openState,
  put,
  TestLog,
  withDir,
} from "./state-fixture.ts";
import { modelCompare, randomRequest, seeded, StateModel } from "./state-model.ts";

const DIR = "/state";

/** A process that dies for good at the n-th step of its disk, engine or clock. */
class MortalProcess {
  #stepsLeft: number;
  #died = (): void => undefined;
  readonly death: Promise<"died">;

  constructor(stepsLeft: number) {
    this.#stepsLeft = stepsLeft;
    this.death = new Promise((resolve) => {
      this.#died = () => resolve("died");
    });
  }

  readonly step = async (): Promise<void> => {
    this.#stepsLeft -= 1;
    if (this.#stepsLeft > 0) return;
    this.#died();
    await new Promise<never>(() => undefined);
  };
}

/** One disk and one log; processes come and go. */
class World {
  readonly unit: () => number;
  readonly log = new TestLog();
  readonly responses: (WriteResponse | null)[] = [];
  readonly model = new StateModel();
  readonly #disk: CrashDisk;
  #process = new MortalProcess(Number.POSITIVE_INFINITY);
  readonly #keyCount: number;
  durable = -1;

  constructor(seed: number, keyCount: number) {
    this.unit = seeded(seed);
    this.#keyCount = keyCount;
    this.#disk = new CrashDisk(() => this.#process.step());
  }

  /** Appends a random entry and says what it must answer. */
  append(putsMin: number): void {
    const request: WriteRequest = randomRequest(
      this.unit,
      this.#keyCount,
      this.responses.length * 6 + 1,
    );
    for (let at = 0; at < putsMin; at++) {
      request.puts.push(put(`many/${Math.floor(this.unit() * putsMin * 20)}`, `${this.unit()}`));
    }
    const entry = this.log.write(request);
    this.responses.push(this.model.apply(request, entry.timestampMs));
  }

  open(stepsLeft: number): Promise<ShardState> {
    const process = new MortalProcess(stepsLeft);
    this.#process = process;
    const clock: Clock = {
      nowMs: () => realClock.nowMs(),
      monotonicMs: () => realClock.monotonicMs(),
      sleep: (delayMs, signal) => realClock.sleep(delayMs, signal),
      timer: (delayMs, fire) => realClock.timer(delayMs, fire),
      yield: () => process.step(),
    };
    return ShardState.open({
      dir: DIR,
      disk: this.#disk,
      engine: simEngineFactory(this.#disk, () => process.step()),
      clock,
      budget: new MemoryBudget(),
      keySorting: "hierarchical",
    });
  }

  /** Runs `work` in a process that dies after so many steps; true when it finished before. */
  async run(stepsLeft: number, work: (state: ShardState) => Promise<void>): Promise<boolean> {
    const running = (async () => work(await this.open(stepsLeft)))();
    const end = await Promise.race([running.then(() => "done" as const), this.#process.death]);
    this.#process = new MortalProcess(Number.POSITIVE_INFINITY);
    this.#disk.crash(this.unit);
    return end === "done";
  }

  /** Replays from where the state is; every response must be the one given the first time. */
  replay(state: ShardState, to: number): void {
    assert.ok(state.applied.offset >= this.durable, "a durable checkpoint went back");
    for (let at = state.applied.offset + 1; at < to; at++) {
      const entry = this.log.entries[at];
      assert.ok(entry !== undefined);
      assert.deepEqual(state.apply(entry), this.responses[at]);
    }
  }

  /** The whole state equals the model. */
  check(state: ShardState): void {
    const keys = this.model.keys();
    assert.deepEqual(listOf(state, "", "", true), keys);
    assert.equal(state.stats.records, keys.length);
    const all = { startInclusive: "", endExclusive: "", includeInternalKeys: true };
    const scanned = [...state.scan(all)].flat();
    for (const [at, key] of keys.entries()) {
      const expected = this.model.records.get(key);
      assert.deepEqual(scanned[at]?.version, expected?.version);
      assert.deepEqual(Buffer.from(scanned[at]?.value ?? []), Buffer.from(expected?.value ?? []));
    }
    for (let probe = 0; probe < 5; probe++) this.#checkNeighbours(state, keys);
  }

  #checkNeighbours(state: ShardState, keys: readonly string[]): void {
    const key = `a/${Math.floor(this.unit() * this.#keyCount)}`;
    const users = keys.filter((each) => !each.startsWith("__oxia/"));
    const { FLOOR, CEILING, LOWER, HIGHER } = KeyComparisonType;
    const expected = [
      [FLOOR, users.findLast((each) => modelCompare(each, key) <= 0)],
      [LOWER, users.findLast((each) => modelCompare(each, key) < 0)],
      [CEILING, users.find((each) => modelCompare(each, key) >= 0)],
      [HIGHER, users.find((each) => modelCompare(each, key) > 0)],
    ] as const;
    for (const [comparison, neighbour] of expected) {
      assert.equal(state.get(getRequest(key, comparison)).key, neighbour);
    }
  }
}

/** Work of one process life: apply everything, checkpointing on the way. */
async function live(
  world: World,
  state: ShardState,
  entries: number,
  putsMin: number,
): Promise<void> {
  world.replay(state, world.log.entries.length);
  world.check(state);
  for (let at = 0; at < entries; at++) {
    world.append(putsMin);
    world.replay(state, world.log.entries.length);
    if (world.unit() < 0.3) world.durable = (await state.checkpoint()).offset;
  }
  world.durable = (await state.checkpoint()).offset;
}

describe("ShardState after crashes", () => {
  for (let seed = 1; seed <= 32; seed++) {
    it(`replays to the same state and responses, seed ${seed}`, async () => {
      const world = new World(seed, 30);
      const putsMin = seed % 8 === 0 ? 1_050 : 0;
      for (let life = 0; life < 6; life++) {
        await world.run(Math.floor(world.unit() * 60), (state) =>
          live(world, state, putsMin === 0 ? 3 : 1, putsMin),
        );
      }
      const finished = await world.run(Number.POSITIVE_INFINITY, async (state) => {
        world.replay(state, world.log.entries.length);
        world.check(state);
        const before = await state.checksum(NEVER);
        await state.checkpoint();
        world.check(state);
        assert.deepEqual(await state.checksum(NEVER), before);
      });
      assert.ok(finished);
    });
  }

  it("survives a crash at every step of one journaled checkpoint", async () => {
    for (let steps = 1, finished = false; !finished; steps++) {
      const world = new World(steps, 30);
      finished = await world.run(steps, (state) => live(world, state, 1, 1_050));
      await world.run(Number.POSITIVE_INFINITY, async (state) => {
        world.replay(state, world.log.entries.length);
        world.check(state);
      });
      assert.ok(steps < 200, "the checkpoint never finished");
    }
  });

  it("replays on LMDB after the process is abandoned at any point", async () => {
    for (let seed = 100; seed < 102; seed++) {
      await withDir(async (dir) => {
        const world = new World(seed, 40);
        for (let life = 0; life < 3; life++) {
          // Abandoned: its engine handle is closed, for one process cannot open LMDB's lock twice,
          // but nothing is flushed.
          const state = await openState(dir);
          world.replay(state, world.log.entries.length);
          world.check(state);
          await live(world, state, 3, seed % 2 === 0 ? 1_200 : 0);
          world.append(20);
          world.replay(state, world.log.entries.length);
          world.check(state);
          await state.close();
        }
      });
    }
  });
});
