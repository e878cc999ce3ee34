import assert from "node:assert/strict";
import type { Effect } from "../../../sidecar/core/effect.ts";
import type { Input } from "../../../sidecar/core/input.ts";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import type { Replica } from "../../../sidecar/core/replica.ts";
import type { LogPosition } from "../../../sidecar/protocol/entry.ts";
import { leadingReplica } from "./leading-replica.ts";

/** Two entries of term 0; `b` is about to be asked where its log agrees. */
const leader = (): Replica =>
  leadingReplica(new LogIndex(undefined, Uint32Array.of(7, 8), [{ term: 0, offset: 0 }]));

const answer = (mismatch: LogPosition | null): Input => ({
  kind: "cursorAck",
  cursorId: 1,
  ackOffset: -1,
  synced: false,
  round: 0,
  mismatch,
  noSpace: false,
  entriesRefused: false,
});

describe("replication core: a follower that holds what the leader does not", () => {
  it("is asked the same at each heartbeat only, told why, and sent nothing", () => {
    const core = leader();
    const seen: Effect[] = [...core.step({ kind: "cursorOpened", cursorId: 1 })];
    let asked = 0;
    for (let nowMs = 0; nowMs < 10_000; nowMs += 20) {
      const effects = core.step({ kind: "tick", nowMs });
      seen.push(...effects);
      const questions = effects.filter(({ kind }) => kind === "heartbeat").length;
      asked += questions;
      for (let n = 0; n <= questions; n += 1) {
        seen.push(...core.step(answer({ term: 0, offset: 2, crc: 99 })));
      }
    }
    assert.ok(asked >= 95 && asked <= 100, String(asked));
    const kinds = seen.map(({ kind }) => kind);
    const questions = kinds.filter((kind) => kind === "heartbeat").length;
    assert.ok(questions <= asked + 5, `${questions} of which ${asked} at ticks`);
    for (const kind of ["streamFrom", "startSnapshot", "closeCursor"]) {
      assert.ok(!kinds.includes(kind as Effect["kind"]), kind);
    }
    assert.equal(core.leader?.cursors.get("b")?.lastError, "it holds 0:2, the leader does not");
  });

  it("is fed however many answers to earlier questions come first", () => {
    const core = leader();
    core.step({ kind: "cursorOpened", cursorId: 1 });
    // All asked about the head, before the first answer led further down.
    for (let n = 0; n < 10; n += 1) core.step(answer({ term: 0, offset: 2, crc: 99 }));
    const probe = core.leader?.cursors.get("b")?.probe;
    assert.equal(probe?.offset, 1);
    const effects = core.step(answer(null));
    assert.ok(effects.some(({ kind }) => kind === "streamFrom"));
    assert.equal(core.leader?.cursors.get("b")?.lastError, "");
  });
});
