import assert from "node:assert/strict";
import type { ReplicaRecoveryStatus } from "../../../operator/api/v1alpha1/replica-recovery.ts";
import {
  recoveryName,
  recoveryStatus,
  type RecoveryInput,
} from "../../../operator/controller/recovery-status.ts";
import type { ReplicaView, ShardView } from "../../../operator/core/status.ts";
import { replicaView, shardViewOf } from "../local/status-fixture.ts";

const POD = "resilver-1";
const UID = "0000-NEWREPLICA";

function views(change: Partial<ReplicaView>, shard = 0): readonly ShardView[] {
  return [shardViewOf([replicaView(POD, { uid: UID, ...change })], { shard })];
}

const WIPED = { role: "wiped", voting: false, status: "NOT_MEMBER" } as const;
const LEARNER = { role: "learner", voting: false } as const;

function status(
  seen: readonly ShardView[],
  before?: ReplicaRecoveryStatus,
  input: Partial<RecoveryInput> = {},
): ReplicaRecoveryStatus {
  const known = {
    pod: POD,
    claims: { old: null, now: null },
    oldUids: new Map([["default/0", "old-uid"]]),
    now: "2026-01-01T00:00:00Z",
    bytesPerSecond: null,
    awaited: new Set<string>(),
    isWanted: true,
    storeName: "resilver",
    mode: "Automatic" as const,
  };
  return recoveryStatus({ ...known, views: seen, ...input }, before);
}

describe("status of a recovery", () => {
  it("is named after the new replica, the same each time; not before the node has said so", () => {
    assert.equal(recoveryName(views(WIPED), POD), "resilver-1-wreplica");
    assert.equal(recoveryName(views(WIPED), POD), recoveryName(views(LEARNER), POD));
    assert.equal(recoveryName(views({}), POD), null, "it votes");
    assert.equal(recoveryName(views(WIPED), "resilver-2"), null, "another pod");
    assert.equal(recoveryName(views({ ...WIPED, uid: "" }), POD), null);
    assert.equal(recoveryName(views({ ...WIPED, status: "unknown" }), POD), null);
  });

  const phases: readonly (readonly [Partial<ReplicaView>, string])[] = [
    [WIPED, "Detected"],
    [{ ...WIPED, phase: "Deferred(Cooldown)" }, "Deferred"],
    [{ ...LEARNER, phase: "Enrolled" }, "Enrolled"],
    [{ ...LEARNER, phase: "Transferring" }, "Transferring"],
    [{ ...LEARNER, phase: "Installing" }, "Transferring"],
    [{ ...LEARNER, phase: "CatchingUp" }, "CatchingUp"],
    [{ ...LEARNER, phase: "Promoting" }, "Promoting"],
    [{ ...LEARNER, phase: "Detected" }, "Detected"],
  ];
  for (const [change, phase] of phases) {
    it(`${change.role} ${change.phase ?? ""}: ${phase}`, () => {
      assert.equal(status(views(change)).phase, phase);
    });
  }

  it("a closed gate is named", () => {
    const { gate, message } = status(views({ ...WIPED, phase: "Deferred(RecoveryLimit)" }));
    assert.equal(gate, "RecoveryLimit");
    assert.match(
      message ?? "",
      /^waits for the gate RecoveryLimit, see runbooks\/gates\/RecoveryLimit\.md;/u,
    );
  });

  it("the shard that is least far says how far the pod is; bytes add up", () => {
    const seen = [
      ...views({ ...LEARNER, phase: "CatchingUp", bytesDone: 100, bytesTotal: 100 }),
      ...views({ ...LEARNER, phase: "Transferring", bytesDone: 20, bytesTotal: 300 }, 1),
    ];
    const told = status(seen, undefined, { bytesPerSecond: 2 ** 20 });
    assert.equal(told.phase, "Transferring");
    assert.deepEqual([told.bytesDone, told.bytesTotal, told.progress], [120, 400, "30%"]);
    assert.deepEqual([told.rate, told.eta], ["1.0 MiB/s", "1s"]);
    assert.equal(status(seen).eta, undefined, "no rate, no guess");
    const slow = status(seen, undefined, { bytesPerSecond: 1 });
    assert.equal(slow.eta, "5m");
  });

  it("without a snapshot counts entries of the log, and says nothing of bytes", () => {
    const caughtUp = { ...LEARNER, phase: "CatchingUp", headOffset: 249, lagEntries: 750 } as const;
    const told = status(views(caughtUp));
    assert.deepEqual([told.entriesDone, told.entriesTotal, told.progress], [250, 1_000, "25%"]);
    assert.deepEqual([told.bytesDone, told.bytesTotal], [undefined, undefined]);
    const enrolled = status(views({ ...caughtUp, phase: "Enrolled" }));
    assert.equal(enrolled.entriesTotal, undefined, "it may yet need a snapshot");
    const done = status(views({}), told);
    assert.deepEqual([done.entriesDone, done.entriesTotal, done.progress], [1_000, 1_000, "100%"]);
    assert.equal(done.bytesTotal, undefined);
    const sent = views({ ...LEARNER, phase: "Transferring", bytesDone: 90, bytesTotal: 100 }, 1);
    assert.equal(status([...views(caughtUp), ...sent]).progress, "25%", "the lesser");
  });

  it("goes on from where it was when nothing is known for a moment", () => {
    const bytes = { bytesDone: 100, bytesTotal: 100 };
    let told = status(views({ ...LEARNER, phase: "Transferring", ...bytes }));
    for (const [phase, expected] of [
      ["Enrolled", "Transferring"],
      ["CatchingUp", "CatchingUp"],
      ["Transferring", "CatchingUp"],
      ["Promoting", "Promoting"],
      ["Enrolled", "Promoting"],
    ] as const) {
      told = status(views({ ...LEARNER, phase, ...bytes }), told);
      assert.equal(told.phase, expected, phase);
    }
    const forgotten = status(views({ ...LEARNER, phase: "CatchingUp" }), told);
    assert.deepEqual([forgotten.bytesDone, forgotten.bytesTotal], [100, 100]);
    const other = status(views({ ...LEARNER, uid: "0000-ANOTHERONE", phase: "Enrolled" }), told);
    assert.equal(other.phase, "Enrolled", "another replica begins anew");
  });

  it("says what it waits for while nobody can send it anything", () => {
    const learner = { ...LEARNER, phase: "CatchingUp" } as const;
    const before = status(views(learner));
    const message = (shard: Partial<ShardView>, change: Partial<ReplicaView> = {}) => {
      const replica = replicaView(POD, { uid: UID, ...learner, ...change });
      const told = status([shardViewOf([replica], shard)], before);
      assert.equal(told.phase, "CatchingUp");
      return told.message ?? "";
    };
    const led = { type: "Available", status: true, reason: "Led", message: "" } as const;
    const idle = { ...led, status: false, reason: "VotersBehind" } as const;
    const none = { ...led, status: false, reason: "NoLeader" } as const;
    assert.match(message({ conditions: [led] }), /^is being rebuilt from the leader;/u);
    assert.match(message({ conditions: [idle], serving: false }), /^is being rebuilt from/u);
    assert.equal(
      message({ conditions: [none], serving: false }),
      "waits until default/0 has a leader; it does not vote meanwhile",
    );
    const stop = { reason: "QuorumLost", message: "" } as const;
    assert.equal(
      message({ conditions: [{ ...led, status: false, ...stop }], stop, serving: false }),
      "waits for a person: default/0 has stopped (QuorumLost), see " +
        "runbooks/conditions/QuorumLost.md; it does not vote meanwhile",
    );
    for (const reach of ["down", "silent"]) {
      assert.equal(
        message({ conditions: [led] }, { reach }),
        "waits until resilver-1 is reached; it does not vote meanwhile",
      );
    }
    assert.match(message({ conditions: [led] }, { reach: "unknown" }), /^is being rebuilt from/u);
  });

  it("begins anew when the record knows the replica no more", () => {
    const before = status(views({ ...LEARNER, phase: "CatchingUp" }));
    assert.equal(status(views(WIPED), before).phase, "Detected");
  });

  it("goes back for another snapshot or a gate, and says so", () => {
    const first = { ...LEARNER, phase: "CatchingUp", attempts: 1 } as const;
    const before = status(views(first));
    assert.doesNotMatch(before.message ?? "", /transfer/u);
    const again = { ...LEARNER, phase: "Transferring", attempts: 2, bytesDone: 1, bytesTotal: 9 };
    const told = status(views(again as Partial<ReplicaView>), before);
    assert.equal(told.phase, "Transferring");
    assert.match(told.message ?? "", /from the leader, by transfer 2: those before ended early;/u);
    assert.deepEqual(
      [before.entriesTotal, told.entriesTotal, told.progress],
      [1_001, undefined, "11%"],
    );
    const held = status(views({ ...first, phase: "Deferred(Paused)" }), before);
    assert.equal(held.phase, "Deferred");
  });

  it("votes again: succeeded, once and for all, with what was known before", () => {
    const before = status(views({ ...WIPED, reason: "VolumeEmpty" }));
    const later = { now: "2026-01-01T00:01:00Z" };
    const done = status(views({}), before, later);
    assert.deepEqual(
      [done.phase, done.progress, done.reason],
      ["Succeeded", "100%", "VolumeEmpty"],
    );
    assert.deepEqual(
      [done.startedAt, done.finishedAt],
      ["2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"],
    );
    assert.equal(done.evidence?.oldReplicaUid, "old-uid");
    const again = status(views({}), done, { now: "2026-01-01T00:02:00Z" });
    assert.equal(again.finishedAt, "2026-01-01T00:01:00Z", "the time does not move");
  });

  it("is never sent by the pod itself, which may have led when it was wiped", () => {
    const ledBy = (leader: string | null, shard = 0): ShardView =>
      shardViewOf([replicaView(POD, { uid: UID, ...WIPED })], { shard, leader });
    const before = status([ledBy(POD)]);
    assert.equal(before.source, undefined);
    assert.equal(status([ledBy(POD), ledBy("resilver-0", 1)]).source, "resilver-0");
    assert.equal(status([ledBy(null)], { ...before, source: POD }).source, undefined);
    const sent = status([ledBy("resilver-2")], before);
    assert.equal(status([ledBy(POD)], sent).source, "resilver-2");
    const own = replicaView(POD, { uid: UID, ...WIPED });
    const lost = shardViewOf([own, replicaView("resilver-2", WIPED)], { leader: "resilver-2" });
    assert.equal(status([lost]).source, undefined, "it lost its disk as well");
    assert.equal(status([lost], sent).source, undefined);
  });

  it("what went wrong on the way is over when it has succeeded", () => {
    const failing = { ...LEARNER, lastErrors: ["connection refused"] };
    const before = status(views(failing));
    assert.deepEqual(before.lastErrors, ["connection refused"]);
    assert.deepEqual(status(views({ lastErrors: ["connection refused"] }), before).lastErrors, []);
  });

  it("counts what a transfer moved that was over before anybody looked", () => {
    const before = status(views({ ...LEARNER, phase: "Enrolled" }));
    const moved = { bytesDone: 300, bytesTotal: 300, attempts: 1 };
    const done = status(views(moved), before);
    assert.deepEqual([done.bytesDone, done.bytesTotal, done.attempts], [300, 300, 1]);
    assert.equal(done.shards?.[0]?.bytesDone, 300);
    const other = status(views({ ...moved, uid: "another" }), before);
    assert.deepEqual([other.bytesDone, other.attempts], [undefined, 0], "another recovery's");
  });

  it("another replica by now, or none wanted any more: failed", () => {
    const before = status(views(LEARNER));
    assert.equal(status(views({ uid: "another" }), before).phase, "Failed");
    assert.equal(status([shardViewOf([])], before).phase, "Failed");
  });

  it("a node that is away for a moment changes nothing", () => {
    const before = status(views({ ...LEARNER, phase: "Transferring" }));
    assert.equal(status(views({ uid: "", role: "wiped" }), before).phase, "Transferring");
  });

  it("a new claim that nothing came of: succeeded, when it is noted and all vote", () => {
    const claims = { old: { data: "c1", wal: "w" }, now: { data: "c2", wal: "w" } };
    const before = status(views({}), undefined, { claims });
    assert.deepEqual([before.phase, before.reason], ["Detected", "PVCReplaced"]);
    assert.equal(status(views({}), before, { claims }).phase, "Detected", "not noted yet");
    const noted = { old: claims.now, now: claims.now };
    const done = status(views({}), before, { claims: noted });
    assert.deepEqual([done.phase, done.message], ["Succeeded", "nothing had to be rebuilt"]);
  });

  it("a new claim of a pod that is to hold nothing: ends when it is noted, or not wanted", () => {
    const claims = { old: { data: "c1", wal: "w" }, now: { data: "c2", wal: "w" } };
    const none = [shardViewOf([])];
    const before = status(none, undefined, { claims });
    const noted = { old: claims.now, now: claims.now };
    const phase = (input: Partial<RecoveryInput>) => status(none, before, input).phase;
    assert.equal(phase({ claims }), "Detected", "not noted yet");
    assert.equal(phase({ claims: { old: null, now: null } }), "Detected", "nothing is known");
    assert.equal(phase({ claims: { old: claims.old, now: null } }), "Detected", "it is away");
    assert.equal(phase({ claims: noted }), "Succeeded");
    assert.equal(phase({ claims: { old: claims.old, now: null }, isWanted: false }), "Failed");
    const holds = views({ reach: "down", voting: false });
    assert.equal(status(holds, before, { claims, isWanted: false }).phase, "Detected");
  });

  it("empty on another claim: PVCReplaced; on the same, or an unknown one: as the node says", () => {
    const reason = (told: string, old: string | undefined, now: string | undefined) =>
      status(views({ ...WIPED, reason: told }), undefined, {
        claims: { old: { data: old, wal: "w" }, now: { data: now, wal: "w" } },
      }).reason;
    assert.equal(reason("VolumeEmpty", "c1", "c2"), "PVCReplaced");
    assert.equal(reason("IdentityMismatch", "c1", "c2"), "PVCReplaced");
    assert.equal(reason("Corrupt", "c1", "c2"), "Corrupt");
    assert.equal(reason("VolumeEmpty", "c1", "c1"), "VolumeEmpty");
    assert.equal(reason("VolumeEmpty", undefined, "c2"), "VolumeEmpty");
    assert.equal(reason("", undefined, undefined), undefined);
  });
});
