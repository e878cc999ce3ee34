import assert from "node:assert/strict";
import { plainCopy } from "./plain-copy.ts";

describe("plainCopy", () => {
  it("shares nothing with what it copies", () => {
    const bytes = Buffer.from("value");
    const message = { key: "a", value: bytes, list: [{ offset: 1 }], absent: undefined, no: null };
    const copy = plainCopy(message);
    message.list[0] = { offset: 2 };
    bytes.fill(0);
    const value = new Uint8Array(Buffer.from("value"));
    assert.deepEqual(copy, { key: "a", value, list: [{ offset: 1 }], absent: undefined, no: null });
    assert.equal(copy.value.constructor, Uint8Array);
    assert.equal(plainCopy(undefined), undefined);
  });

  it("refuses what no message holds", () => {
    assert.throws(() => plainCopy({ act: () => undefined }), /a message holds a function/u);
    assert.throws(() => plainCopy([new Map()]), /a message holds a Map/u);
  });
});
