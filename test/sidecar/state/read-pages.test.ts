import assert from "node:assert/strict";
import { LIMITS } from "../../../sidecar/limits.ts";
import { RangeScanResponse } from "../../../sidecar/protocol/gen/oxia-client.ts";
import { openState, put, TestLog, withDir } from "./state-fixture.ts";

const ALL = { startInclusive: "", endExclusive: "", includeInternalKeys: false };

describe("pages of reads", () => {
  it("counts keys and client identities, so that each fits into a message", () =>
    withDir(async (dir) => {
      const state = await openState(dir);
      const log = new TestLog();
      const more = { clientIdentity: "i".repeat(60 * 1024) };
      const name = "k".repeat(LIMITS.keyBytesMax - 4);
      for (let at = 0; at < 200; at++) {
        const key = `${name}${String(at).padStart(4, "0")}`;
        state.apply(log.write({ puts: [put(key, "1", more)] }));
      }
      let records = 0;
      for (const page of state.scan(ALL)) {
        records += page.length;
        const bytes = RangeScanResponse.encode({ records: [...page] }).finish().length;
        assert.ok(bytes <= LIMITS.readBytesPerMessageMax, `${bytes} bytes in a page`);
      }
      assert.equal(records, 200);
      await state.close();
    }));
});
