import assert from "node:assert/strict";
import { InvariantError } from "../../../sidecar/lib/assert.ts";
import { Status, WriteRequest } from "../../../sidecar/protocol/gen/oxia-client.ts";
import { wrapWriteRequest } from "../../../sidecar/protocol/log-entry-value.ts";
import { refuseUnsupported } from "../../../sidecar/state/request-validation.ts";
import { VERSION_ID_MAX, VERSION_OVERRIDE_MAX } from "../../../sidecar/state/version-counter.ts";
import { getRequest, NEVER, openState, put, TestLog, textOf, withDir } from "./state-fixture.ts";

const EPOCH = 2 ** 45;

describe("writes that a client made to do harm", () => {
  it("keeps overrides out of the ranges of later loss epochs (R6)", () =>
    withDir(async (dir) => {
      const over = { overrideVersionId: VERSION_OVERRIDE_MAX };
      const request = { puts: [put("a", "1", over), put("b", "1")] };
      assert.equal(refuseUnsupported(WriteRequest.fromPartial(request)), null);
      const log = new TestLog();
      const state = await openState(dir);
      const ids = (): (number | undefined)[] | undefined =>
        state.apply(log.write(request))?.puts.map(({ version }) => version?.versionId);
      const [, inEpoch0] = ids() ?? [];
      assert.ok(inEpoch0 !== undefined && inEpoch0 < EPOCH / 2 + 1, `${inEpoch0}`);
      state.apply(log.barrier(1));
      assert.deepEqual(ids(), [VERSION_OVERRIDE_MAX, EPOCH]);
      await state.close();
    }));

  it("applies a log in which the last version id is taken, at each start again", async () => {
    // Earlier builds let it in.
    const log = new TestLog();
    log.write({ puts: [put("a", "1", { overrideVersionId: VERSION_ID_MAX })] });
    log.write({ puts: [put("b", "2"), put("a", "2"), put("c", "3", { overrideVersionId: 7 })] });
    log.write({ deleteRanges: [{ startInclusive: "c", endExclusive: "d" }] });
    const sums: string[] = [];
    for (const checkpointAt of [Number.NaN, 0, 2]) {
      await withDir(async (other) => {
        let state = await openState(other);
        for (const entry of log.entries) {
          const response = state.apply(entry);
          if (entry.offset === 1) {
            const { UNEXPECTED_VERSION_ID, OK } = Status;
            assert.deepEqual(
              response?.puts.map(({ status }) => status),
              [UNEXPECTED_VERSION_ID, UNEXPECTED_VERSION_ID, OK],
            );
          }
          if (entry.offset !== checkpointAt) continue;
          await state.checkpoint();
          await state.close();
          state = await openState(other);
        }
        assert.equal(textOf(state.get(getRequest("a"))), "1");
        assert.equal(state.get(getRequest("b")).status, Status.KEY_NOT_FOUND);
        sums.push((await state.checksum(NEVER)).checksum);
        await state.close();
      });
    }
    assert.equal(new Set(sums).size, 1);
  });

  it("cannot forge a second request or a control entry, nor stop replay with one", () =>
    withDir(async (dir) => {
      const request = WriteRequest.fromPartial({ puts: [put("a", "1")] });
      const whole = WriteRequest.encode(request).finish();
      const raised = (lossEpoch: number): Uint8Array => new TestLog().barrier(lossEpoch).value;
      const log = new TestLog();
      const state = await openState(dir);
      const forged = [
        [...whole, 0, 10, 0],
        [...whole, 12, 18, 2, 10, 0],
        [0, 0, ...raised(7)],
        [0, 0, ...raised(256)],
      ];
      const versions = forged.map((raw) => {
        // As logs of earlier builds may hold it.
        const entry = log.append(wrapWriteRequest(Uint8Array.from(raw)));
        return state.apply(entry)?.puts.map(({ version }) => version?.versionId);
      });
      assert.deepEqual(versions, [[0], [1], [], []]);
      assert.equal(state.lossEpoch, 0);
      await state.close();
    }));

  it("applies nothing of an entry that it does not understand", () =>
    withDir(async (dir) => {
      const [one, other] = [new TestLog(), new TestLog()].map(
        (log) => log.write({ puts: [put("a", "1")] }).value,
      ) as [Uint8Array, Uint8Array];
      const two = Buffer.concat([one, other]);
      const nested = [...one.subarray(2), ...other.subarray(2)];
      const foreign = [
        two,
        Uint8Array.from([10, nested.length, ...nested]),
        Uint8Array.from([...one, 18, 2, 10, 0]),
        Uint8Array.from([18, 0]),
        Uint8Array.from([18, 2, 10, 0, ...one]),
        Uint8Array.from([26, 0]),
        one.subarray(0, -1),
        Uint8Array.from([10, 0]),
        new Uint8Array(0),
      ];
      for (const value of foreign) {
        const state = await openState(dir);
        assert.throws(() => state.apply(new TestLog().append(value)), InvariantError);
        assert.equal(state.get(getRequest("a")).status, Status.KEY_NOT_FOUND);
        assert.equal(state.applied.offset, -1);
        await state.close();
      }
    }));
});
