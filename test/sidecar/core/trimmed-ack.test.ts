import assert from "node:assert/strict";
import type { Effect } from "../../../sidecar/core/effect.ts";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import type { LogPosition } from "../../../sidecar/protocol/entry.ts";
import { leadingReplica } from "./leading-replica.ts";

const at = (offset: number): LogPosition => ({ term: 0, offset, crc: 100 + offset });

/** A leader of ten entries, whose voter `b` follows from the second one on and is slow. */
function leader() {
  const crcs = Uint32Array.from({ length: 10 }, (_, offset) => at(offset).crc);
  const core = leadingReplica(new LogIndex(undefined, crcs, [{ term: 0, offset: 0 }]));
  const answer = (ackOffset: number, mismatch: LogPosition | null): readonly Effect[] => {
    const room = { noSpace: false, entriesRefused: false };
    const news = { cursorId: 1, ackOffset, synced: mismatch === null, round: 0, mismatch };
    return core.step({ kind: "cursorAck", ...news, ...room });
  };
  let nowMs = 0;
  /** What the next heartbeat names. */
  const asked = (): number | undefined => {
    nowMs += 1_000;
    for (const effect of core.step({ kind: "tick", nowMs })) {
      if (effect.kind === "heartbeat") return effect.previous.offset;
    }
    return undefined;
  };
  const cursor = () => {
    const found = core.leader?.cursors.get("b");
    assert.ok(found !== undefined);
    return found;
  };
  core.step({ kind: "cursorOpened", cursorId: 1 });
  answer(-1, at(1));
  assert.equal(cursor().state, "stream");
  return { core, answer, asked, cursor };
}

describe("replication core: a voter behind what its leader has trimmed", () => {
  it("is asked about what it acknowledged last, not about what it may have trimmed", () => {
    const { core, answer, asked, cursor } = leader();
    answer(5, null);
    core.step({ kind: "trimmed", offset: 7 });
    assert.equal(asked(), 5);
    assert.equal(cursor().regressed, false);
  });

  it("keeps its vote when the question was about less than it acknowledged", () => {
    const { core, answer, cursor } = leader();
    answer(5, null);
    core.step({ kind: "trimmed", offset: 7 });
    answer(6, null);
    // Its own log begins there; a second question of that kind is answered, too.
    answer(-1, at(5));
    answer(-1, at(5));
    assert.equal(cursor().regressed, false);
    // On another stream the head is asked about: it tells how far it is, and is sent a snapshot.
    core.step({ kind: "tick", nowMs: 1_000 });
    const [question] = core.step({ kind: "cursorOpened", cursorId: 1 });
    assert.ok(question?.kind === "heartbeat");
    assert.equal(question.previous.offset, 10);
    assert.ok(answer(-1, at(6)).some(({ kind }) => kind === "startSnapshot"));
  });

  it("keeps its vote when a question came late, after it had acknowledged and trimmed more", () => {
    const { answer, asked, cursor } = leader();
    answer(5, null);
    assert.equal(asked(), 5);
    answer(9, null);
    answer(-1, at(7));
    assert.equal(cursor().regressed, false);
    assert.equal(cursor().state, "down");
  });

  it("loses its vote when it does not hold what it acknowledged, asked about the head", () => {
    const { core, answer, cursor } = leader();
    answer(5, null);
    answer(-1, at(3));
    assert.equal(cursor().regressed, false);
    core.step({ kind: "tick", nowMs: 1_000 });
    core.step({ kind: "cursorOpened", cursorId: 1 });
    answer(-1, at(3));
    assert.equal(cursor().regressed, true);
  });
});
