import assert from "node:assert/strict";
import { Ledger } from "../../../../operator/local/demo/ledger.ts";

const bytes = (text: string) => Buffer.from(text);

describe("Ledger", () => {
  it("calls an acknowledged value that is missing, older or foreign lost", () => {
    const ledger = new Ledger();
    ledger.acknowledge("a", bytes("1"));
    ledger.acknowledge("a", bytes("2"));
    assert.equal(ledger.check("a", bytes("2")), "intact");
    assert.equal(ledger.check("a", bytes("1")), "lost");
    assert.equal(ledger.check("a", bytes("3")), "lost");
    assert.equal(ledger.check("a", null), "lost");
  });

  it("allows what may have arrived after the last acknowledgement, and nothing before it", () => {
    const ledger = new Ledger();
    ledger.unknown("a", bytes("0"));
    assert.equal(ledger.check("a", null), "intact");
    assert.deepEqual([...ledger.keys()], []);
    ledger.acknowledge("a", bytes("1"));
    ledger.unknown("a", bytes("2"));
    assert.equal(ledger.check("a", bytes("0")), "lost");
    assert.equal(ledger.check("a", bytes("1")), "intact");
    assert.equal(ledger.check("a", bytes("2")), "intact");
    assert.equal(ledger.check("a", null), "lost");
  });

  it("counts writes, records and bytes", () => {
    const ledger = new Ledger();
    ledger.acknowledge("a", bytes("123"));
    ledger.acknowledge("a", bytes("1"));
    ledger.acknowledge("b", bytes(""));
    assert.deepEqual([ledger.acknowledged, ledger.records, ledger.bytes], [3, 2, 3]);
  });
});
