import type { RecordStore, SidecarClient } from "../../operator/controller/ports.ts";
import { TestStore } from "../support/local-store.ts";

/** Every step of a recovery that leaves the coordinator: saved, then said. */
const CALLS = ["removeFollower", "enrol", "addFollower", "promote"] as const;
const SAVES = ["learner", "voter"] as const;

describe("Coordinator killed during a recovery", function () {
  this.timeout(180_000);
  let test: TestStore;
  let armed: string | null;

  beforeEach(() => {
    armed = null;
  });

  afterEach(async () => {
    await test.close();
  });

  /** Ends the coordinator if this is the step that was asked for; what it was doing is cut off. */
  function killAt(step: string): void {
    if (armed !== step) return;
    armed = null;
    void test.store.stopCoordinator();
    throw new Error(`the coordinator was killed at ${step}`);
  }

  const wrapSidecars = (sidecars: SidecarClient): SidecarClient =>
    new Proxy(sidecars, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== "function") return value;
        return (...args: unknown[]): unknown => {
          const name = String(property);
          killAt(`before ${name}`);
          const result: unknown = value.apply(target, args);
          if (!(result instanceof Promise)) return result;
          return result.then((answer: unknown) => {
            killAt(`after ${name}`);
            return answer;
          });
        };
      },
    });

  let victim = "";
  let lastRole = "";
  const wrapRecords = (records: RecordStore): RecordStore => ({
    read: (key, signal) => records.read(key, signal),
    create: (record, signal) => records.create(record, signal),
    replace: async (record, version, signal) => {
      const role = record.members.find(({ node }) => node === victim)?.role ?? "";
      const changed = role !== lastRole;
      if (changed) killAt(`before saving ${role}`);
      const saved = await records.replace(record, version, signal);
      lastRole = role;
      if (changed) killAt(`after saving ${role}`);
      return saved;
    },
  });

  const steps = [...CALLS, ...SAVES.map((role) => `saving ${role}`)];
  for (const step of steps.flatMap((name) => [`before ${name}`, `after ${name}`])) {
    it(`${step}: the next one goes on where the record says`, async () => {
      test = await TestStore.start({ wrapSidecars, wrapRecords });
      await test.load(100, 16 * 1024);
      test.startWriting();
      victim = test.follower();
      lastRole = "voter";
      const { uid } = test.replica(victim);
      armed = step;
      await test.store.platform.wipe(victim, "all");
      await test.store.until("killed", () => (armed === null ? true : null), 60_000);
      // Nobody coordinates, and the store serves.
      await test.store.stopCoordinator();
      await test.written(50);
      test.store.startCoordinator();
      await test.rebuilt(victim, uid);
      await test.proveNothingLost(victim);
    });
  }
});
