import assert from "node:assert/strict";
import fc from "fast-check";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import { LOG_START } from "../../../sidecar/protocol/entry.ts";
import type { LogPosition } from "../../../sidecar/protocol/entry.ts";

type Change =
  | { readonly kind: "append"; readonly count: number; readonly termsLater: number }
  | { readonly kind: "truncate" | "trim"; readonly share: number }
  | { readonly kind: "reset"; readonly offset: number; readonly term: number };

// Not fc.double: most of the numbers between 0 and 1 that it draws are next to 0.
const share = fc.nat(100).map((percent) => percent / 100);
const change: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("append" as const),
      count: fc.integer({ min: 1, max: 6 }),
      termsLater: fc.nat(2),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("truncate" as const), share }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("trim" as const), share }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("reset" as const),
      offset: fc.nat(40),
      term: fc.nat(9),
    }),
  },
);

/** The same log as a plain list: the base first, then every entry. */
class PlainLog {
  positions: LogPosition[] = [LOG_START];
  #crc = 1;

  get base(): LogPosition {
    return this.positions[0] as LogPosition;
  }

  get last(): LogPosition {
    return this.positions.at(-1) as LogPosition;
  }

  /** Does the same to both. */
  apply(log: LogIndex, one: Change): void {
    switch (one.kind) {
      case "append": {
        const term = Math.max(0, this.last.term) + one.termsLater;
        for (let n = 0; n < one.count; n += 1) {
          this.positions.push({ term, offset: this.last.offset + 1, crc: this.#crc++ });
          log.append(this.last);
        }
        return;
      }
      case "truncate": {
        const { offset } = this.#some(one.share);
        this.positions = this.positions.filter((position) => position.offset <= offset);
        log.truncate(offset);
        return;
      }
      case "trim": {
        const { offset } = this.#some(one.share);
        this.positions = this.positions.filter((position) => position.offset >= offset);
        log.trim(offset);
        return;
      }
      case "reset":
        this.positions = [{ term: one.term, offset: one.offset, crc: this.#crc++ }];
        log.reset(this.base);
    }
  }

  #some(part: number): LogPosition {
    return this.positions[Math.floor(part * (this.positions.length - 1))] as LogPosition;
  }

  highestAtMost(term: number, offset: number): LogPosition {
    const fits = (one: LogPosition): boolean => one.term <= term && one.offset <= offset;
    return this.positions.findLast(fits) ?? this.base;
  }
}

function compare(log: LogIndex, plain: PlainLog): void {
  assert.deepEqual(log.base, plain.base);
  assert.deepEqual(log.last, plain.last);
  for (let offset = plain.base.offset - 2; offset <= plain.last.offset + 2; offset += 1) {
    const own = plain.positions.find((position) => position.offset === offset) ?? null;
    assert.deepEqual(log.positionAt(offset), own, `position at ${offset}`);
    if (own !== null) {
      assert.equal(log.contains(own), true);
      assert.equal(log.contains({ ...own, crc: own.crc + 1 }), false);
      assert.equal(log.contains({ ...own, term: own.term + 1 }), false);
    }
    for (let term = plain.base.term - 1; term <= plain.last.term + 1; term += 1) {
      const highest = plain.highestAtMost(term, offset);
      assert.deepEqual(log.highestAtMost(term, offset), highest, `at most ${term}:${offset}`);
    }
  }
}

describe("replication core: what is known of the log", () => {
  it("is what a plain list of its entries says, after any row of changes", () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
        const [log, plain] = [new LogIndex(), new PlainLog()];
        for (const one of changes) {
          plain.apply(log, one);
          compare(log, plain);
        }
      }),
      { numRuns: 300 },
    );
  });

  it("has no more than it needs when many terms were trimmed", () => {
    const log = new LogIndex();
    for (let offset = 0; offset < 5_000; offset += 1) {
      log.append({ term: offset, offset, crc: offset });
      log.trim(offset - 3);
    }
    assert.deepEqual(log.base, { term: 4_996, offset: 4_996, crc: 4_996 });
    assert.deepEqual(log.positionAt(4_998), { term: 4_998, offset: 4_998, crc: 4_998 });
    assert.deepEqual(log.highestAtMost(4_997, 4_999), log.positionAt(4_997));
  });

  it("is kept when there are more entries than room was made for", () => {
    const [log, plain] = [new LogIndex(), new PlainLog()];
    plain.apply(log, { kind: "append", count: 3_000, termsLater: 1 });
    plain.apply(log, { kind: "trim", share: 0.5 });
    plain.apply(log, { kind: "append", count: 3_000, termsLater: 1 });
    assert.deepEqual(log.last, plain.last);
    for (const position of plain.positions) assert.ok(log.contains(position));
  });

  it("goes on when all that there was room for was trimmed", () => {
    const [log, plain] = [new LogIndex(), new PlainLog()];
    plain.apply(log, { kind: "append", count: 1_024, termsLater: 1 });
    plain.apply(log, { kind: "trim", share: 1 });
    plain.apply(log, { kind: "append", count: 3, termsLater: 0 });
    compare(log, plain);
  });

  it("is read back from the crcs of a log and where its terms begin", () => {
    const base = { term: 2, offset: 10, crc: 5 };
    const runs = [
      { term: 2, offset: 11 },
      { term: 4, offset: 13 },
    ];
    const log = new LogIndex(base, Uint32Array.of(6, 7, 8), runs);
    assert.deepEqual(log.last, { term: 4, offset: 13, crc: 8 });
    assert.deepEqual(log.positionAt(12), { term: 2, offset: 12, crc: 7 });
    log.append({ term: 4, offset: 14, crc: 9 });
    assert.deepEqual(log.last, { term: 4, offset: 14, crc: 9 });
    assert.equal(runs.length, 2);
  });

  it("does not take what would make it untrue", () => {
    const log = new LogIndex({ term: 2, offset: 10, crc: 5 });
    assert.throws(() => log.append({ term: 2, offset: 12, crc: 6 }), /contiguous/);
    assert.throws(() => log.append({ term: 1, offset: 11, crc: 6 }), /regress/);
    assert.throws(() => log.truncate(9), /below the base/);
    assert.throws(() => log.trim(11), /within the log/);
    assert.deepEqual(log.last, { term: 2, offset: 10, crc: 5 });
    log.trim(9);
    assert.deepEqual(log.base, { term: 2, offset: 10, crc: 5 });
  });
});
