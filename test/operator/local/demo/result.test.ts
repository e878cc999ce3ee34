import assert from "node:assert/strict";
import {
  type DemoMeasures,
  demoResult,
  renderResult,
} from "../../../../operator/local/demo/result.ts";
import { progressText } from "../../../../operator/local/demo/progress.ts";
import { RecoveryTiming } from "../../../../operator/local/demo/recovery-timing.ts";
import { replicaView, shardViewOf } from "../status-fixture.ts";

const times = {
  node: "resilver-1",
  reason: "VolumeEmpty",
  detectedMs: 300,
  firstByteMs: 350,
  transferMs: 900,
  votingMs: 1_000,
  attempts: 1,
};
const measures: DemoMeasures = {
  replicas: 3,
  records: 10,
  bytes: 1_024,
  recoveries: [times],
  wipes: 1,
  copyMs: 800,
  acknowledged: 12,
  lost: 0,
  checksumsEqual: true,
  p99BeforeMs: 5.123,
  p99DuringMs: null,
};

describe("demo result", () => {
  it("has exactly the promised keys", () => {
    assert.deepEqual(demoResult(measures), {
      ok: true,
      replicas: 3,
      records: 10,
      bytes: 1_024,
      wiped: "resilver-1",
      reason: "VolumeEmpty",
      detectedMs: 300,
      firstByteMs: 350,
      transferMs: 900,
      votingMs: 1_000,
      copyMs: 800,
      ratioToCopy: 1.25,
      acknowledged: 12,
      lost: 0,
      p99BeforeMs: 5.12,
      p99DuringMs: null,
      attempts: 1,
    });
  });

  it("is not ok when anything is lost, differs, or does not vote", () => {
    assert.equal(demoResult({ ...measures, lost: 1 }).ok, false);
    assert.equal(demoResult({ ...measures, checksumsEqual: false }).ok, false);
    assert.equal(demoResult({ ...measures, wipes: 2 }).ok, false);
    const stuck = demoResult({ ...measures, recoveries: [{ ...times, votingMs: null }] });
    assert.deepEqual([stuck.ok, stuck.votingMs, stuck.ratioToCopy], [false, null, null]);
  });

  it("reports the slowest of several wipes", () => {
    const slow = { ...times, node: "resilver-2", detectedMs: 700, votingMs: 4_000, attempts: 3 };
    const result = demoResult({ ...measures, wipes: 2, recoveries: [times, slow] });
    assert.deepEqual(
      [result.ok, result.wiped, result.detectedMs, result.votingMs, result.attempts],
      [true, "resilver-1,resilver-2", 700, 4_000, 3],
    );
  });

  it("reads well", () => {
    const text = renderResult(demoResult(measures), { color: false });
    assert.match(text, /^OK\n/);
    assert.match(text, /votes again after +1\.0 s \(1\.25 times as long as a copy\)/);
    assert.match(text, /0 lost/);
    const failed = renderResult(demoResult({ ...measures, lost: 2 }), { color: false });
    assert.match(failed, /^FAILED\n[^]*2 LOST/);
  });

  it("shows progress in bytes, percent, MB/s and time left", () => {
    const progress = { done: 1024 ** 2, total: 4 * 1024 ** 2, rate: 2_500_000, etaMs: 1_300 };
    assert.equal(progressText("x", progress), "x: 1.0 MiB of 4.0 MiB, 25%, 2.5 MB/s, ETA 1.3 s");
    const nothing = { done: 0, total: 0, rate: 0, etaMs: null };
    assert.equal(progressText("x", nothing), "x");
  });
});

describe("RecoveryTiming", () => {
  const see = (timing: RecoveryTiming, change: Parameters<typeof replicaView>[1], atMs: number) =>
    timing.view(shardViewOf([replicaView("resilver-1", change)]), atMs);

  it("counts everything from the start of the wiped process", () => {
    const timing = new RecoveryTiming("resilver-1", "old");
    // Before and while the process is killed, the old replica is still what is seen.
    see(timing, { uid: "old", voting: true }, 900);
    timing.started(1_000);
    see(timing, { uid: "old", voting: true }, 1_050);
    assert.equal(timing.done, false);
    see(timing, { uid: "new", role: "wiped", voting: false }, 1_400);
    const started = { kind: "recoveryStarted", namespace: "default", shard: 0 } as const;
    timing.event(
      { ...started, node: "resilver-1", reason: "VolumeEmpty", oldUid: "old", newUid: "new" },
      1_450,
    );
    timing.event(
      { ...started, node: "resilver-2", reason: "Corrupt", oldUid: "x", newUid: "y" },
      1_460,
    );
    const learner = { uid: "new", role: "learner", voting: false } as const;
    see(timing, { ...learner, firstByteMs: 1_480, attempts: 2 }, 1_600);
    see(timing, { ...learner, firstByteMs: 1_480, installedMs: 1_900 }, 1_950);
    assert.equal(timing.done, false);
    see(timing, { uid: "new", voting: true }, 2_000);
    see(timing, { uid: "new", voting: true }, 3_000);
    assert.equal(timing.done, true);
    assert.deepEqual(timing.times(), {
      node: "resilver-1",
      reason: "VolumeEmpty",
      detectedMs: 400,
      firstByteMs: 480,
      transferMs: 900,
      votingMs: 1_000,
      attempts: 2,
    });
  });

  it("without a snapshot the data is complete when it votes", () => {
    const timing = new RecoveryTiming("resilver-1", "old");
    timing.started(1_000);
    see(timing, { uid: "new", voting: true }, 1_700);
    const { firstByteMs, transferMs, votingMs } = timing.times();
    assert.deepEqual([firstByteMs, transferMs, votingMs], [null, 700, 700]);
  });
});
