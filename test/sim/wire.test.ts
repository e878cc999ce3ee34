import assert from "node:assert/strict";
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { MessageReader, MessageWriter } from "./wire.ts";

const NUMBERS = [
  ...[0, 1, 127, 128, 2 ** 14, 2 ** 21, 2 ** 28 - 1, 2 ** 28, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1],
  ...[2 ** 32, 2 ** 35, 1_700_000_000_000, Number.MAX_SAFE_INTEGER],
  ...[-1, -128, -(2 ** 31), -(2 ** 31) - 1, Number.MIN_SAFE_INTEGER],
];

describe("Simulated wire", () => {
  it("has the bytes of the codec that ships, and reads them", () => {
    for (const number of NUMBERS) {
      const bytes = new MessageWriter().int64(number).bool(true).finish();
      assert.deepEqual(bytes, new BinaryWriter().int64(number).bool(true).finish(), `${number}`);
      const reader = new MessageReader(bytes);
      assert.equal(Number(reader.int64()), number);
      assert.equal(reader.bool(), true);
      assert.equal(Number(new BinaryReader(bytes).int64()), number);
    }
  });

  it("refuses what the codec that ships refuses", () => {
    for (const wrong of [0.5, Number.NaN, 2 ** 64]) {
      assert.throws(() => new MessageWriter().int64(wrong), `${wrong}`);
    }
    assert.throws(() => new MessageReader(new Uint8Array([0x80])).int64());
  });
});
