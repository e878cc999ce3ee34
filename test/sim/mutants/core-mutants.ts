/** The sidecar's core, with one rule taken away. */
import type { Effect } from "../../../sidecar/core/effect.ts";
import { Leader } from "../../../sidecar/core/leader.ts";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import { QuorumAckTracker } from "../../../sidecar/core/quorum-ack-tracker.ts";
import { ReadRounds } from "../../../sidecar/core/read-rounds.ts";
import { leadTwice } from "./lead-twice.ts";
import { replace, wrap } from "../patch.ts";
import { changeSteps, CRASHES, type Mutant, slowLog } from "./mutant.ts";

/** Has `by` called instead of a method of the leader, with the method itself to call. */
function wrapLeader(
  name: "advanceCommit" | "tick",
  by: (leader: Leader, original: () => void) => void,
): () => void {
  return wrap(Leader.prototype, name, (leader, original, all) => {
    by(leader, () => {
      original(...all);
    });
  });
}

const isKind = (kind: Effect["kind"]) => (effect: Effect) => effect.kind === kind;

/** A confirmation counts for rounds that are sent after it, too. */
function confirmAhead(): () => void {
  return wrap(ReadRounds.prototype, "confirm", (_rounds, original, [node, round]) =>
    original(node, Number(round) + 1_000_000),
  );
}

export const CORE_MUTANTS: readonly Mutant[] = [
  {
    name: "fence-unsynced",
    does: "answers NewTerm with a head that is not durable yet",
    breaks: ["R8", "H1"],
    caughtBy: ["I10", "I5", "I7", "I4", "I8", "I18"],
    faults: [...CRASHES, "moveLeader", "coordinatorCrash"],
    force: { thinkMs: 1, clients: 4 },
    // Promises take longer than entries otherwise, and cover it up.
    alterNode: (options) => ({ ...options, disk: slowLog(options) }),
    patch: changeSteps({
      before(replica, input) {
        if (input.kind === "newTerm") replica.state.synced = replica.state.log.last.offset;
        return input;
      },
    }),
  },
  {
    name: "ack-any-duplicate",
    first: 10,
    does: "acknowledges an entry whose place is taken, whatever stands there",
    breaks: ["R8", "H1"],
    caughtBy: ["I3", "I4", "I5", "I6", "I7", "I9", "I11", "broken", "L1", "I18"],
    faults: [...CRASHES, "moveLeader", "isolate", "cutPair"],
    force: { thinkMs: 2, clients: 4 },
    patch: changeSteps({
      before(replica, input) {
        if (input.kind !== "append" || input.append.entry === undefined) return input;
        const own = replica.state.log.positionAt(input.append.entry.offset);
        if (own === null) return input;
        return { ...input, append: { ...input.append, entry: undefined, previous: own } };
      },
    }),
  },
  {
    name: "count-old-terms",
    first: 4,
    does: "commits an older term's entry by counting who holds it",
    breaks: ["R7", "H2"],
    caughtBy: ["I11", "I7", "I4", "I18"],
    faults: [...CRASHES, "moveLeader", "isolate"],
    patch: () =>
      wrapLeader("advanceCommit", (leader, original) => {
        const own = leader.term;
        const counted = leader.state.log.positionAt(leader.tracker.quorumOffset());
        Object.assign(leader, { term: counted?.term ?? own });
        original();
        Object.assign(leader, { term: own });
      }),
  },
  {
    name: "no-barrier",
    does: "serves before an entry of its own term is committed",
    breaks: ["R7", "H2"],
    caughtBy: ["I4", "I7", "I15", "I18", "I11"],
    faults: ["crash", "moveLeader", "isolate", "coordinatorCrash"],
    force: { thinkMs: 2, clients: 4 },
    patch: () =>
      wrapLeader("tick", (leader, original) => {
        leader.serving = true;
        original();
      }),
  },
  {
    name: "lead-twice",
    does: "lets a process that was not fenced for the term lead it, after a restart say",
    breaks: ["R7"],
    caughtBy: ["I1", "I3", "I7", "I6"],
    faults: ["crash", "powerLoss"],
    force: { thinkMs: 5 },
    patch: () => leadTwice(),
  },
  {
    name: "head-without-base",
    does: "reports an empty log's head, though a snapshot is below it",
    breaks: ["R5", "H5"],
    caughtBy: ["I4", "I7", "I10", "I15", "L1", "L2"],
    faults: ["wipe"],
    force: { warmupWrites: 150, quietEnd: true, finalWipe: true, finalElection: true },
    patch: changeSteps({
      after(replica, _input, effects) {
        const { log } = replica.state;
        if (log.last.offset !== log.base.offset) return effects;
        return effects.map((effect) => {
          if (effect.kind !== "reply" || effect.reply.kind !== "newTerm") return effect;
          const headEntryId = { term: -1, offset: -1 };
          const response = { ...effect.reply.response, headEntryId, headCrc: 0 };
          return { ...effect, reply: { kind: "newTerm", response } };
        });
      },
    }),
  },
  {
    name: "equal-offsets-equal-logs",
    first: 4,
    does: "takes equal offsets for equal logs",
    breaks: ["R9", "H6"],
    caughtBy: ["I3", "I4", "I5", "I6", "I7", "I9", "broken", "I11", "I18"],
    faults: [...CRASHES, "moveLeader", "isolate", "cutPair"],
    force: { thinkMs: 2, clients: 4 },
    patch: () =>
      replace(LogIndex.prototype, "contains", function contains(this: LogIndex, position) {
        return this.positionAt(position.offset) !== null;
      }),
  },
  {
    name: "count-learners",
    first: 5,
    does: "counts a learner's acknowledgements",
    breaks: ["R2", "R16"],
    caughtBy: ["I11", "I4", "I7", "I18", "L1"],
    faults: ["wipe", "isolate"],
    force: { clients: 4, thinkMs: 5 },
    patch: () =>
      wrapLeader("tick", (leader, original) => {
        original();
        for (const { node, ackOffset } of leader.cursors.values()) {
          leader.tracker.addVoter(node, ackOffset);
        }
        leader.advanceCommit();
      }),
  },
  {
    name: "majority-of-the-reachable",
    does: "counts a majority of those it feeds instead of the full ensemble's",
    breaks: ["R2", "H3"],
    caughtBy: ["I11", "I4", "I7", "I18"],
    faults: ["wipe", "crash", "isolate", "cutPair"],
    force: { clients: 4, thinkMs: 5 },
    patch: () => {
      return wrapLeader("advanceCommit", (leader, advance) => {
        const undo = replace(QuorumAckTracker.prototype, "quorumOffset", function fewer() {
          const all = [...leader.cursors.values()].filter(({ state }) => state === "stream");
          const acked = [leader.state.synced, ...all.map(({ ackOffset }) => ackOffset)];
          const sorted = acked.sort((a, b) => b - a);
          return sorted[Math.floor(sorted.length / 2)] ?? -1;
        });
        advance();
        undo();
      });
    },
  },
  {
    name: "data-of-an-older-term",
    first: 17,
    does: "takes data of whatever leader sends some",
    breaks: ["R4", "H4"],
    caughtBy: ["I12", "I3", "I4", "I6", "I7", "I11", "broken", "I18"],
    faults: ["isolate", "cutCoordinator", "pause", "moveLeader"],
    force: { clients: 4, thinkMs: 5 },
    patch: changeSteps({
      before(replica, input) {
        const { term } = replica.state.promised;
        if (input.kind === "append") return { ...input, append: { ...input.append, term } };
        if (input.kind !== "streamOpened" && input.kind !== "installBegin") return input;
        return { ...input, peer: { ...input.peer, term } };
      },
    }),
  },
  {
    name: "no-snapshots",
    does: "never begins a snapshot, so that a wiped replica finds no way back",
    breaks: ["R10", "H10"],
    caughtBy: ["L1"],
    faults: ["wipe"],
    force: { warmupWrites: 150, valueBytes: 400, finalWipe: true },
    patch: changeSteps({
      after: (_replica, _input, effects) => effects.filter((one) => !isKind("startSnapshot")(one)),
    }),
  },
  {
    name: "install-is-never-enough",
    does: "forgets each snapshot that it has installed",
    breaks: ["R10"],
    caughtBy: ["I8", "I20", "L1", "I13"],
    faults: ["wipe"],
    force: { warmupWrites: 150, valueBytes: 400, finalWipe: true },
    patch: changeSteps({
      before: (_replica, input) =>
        input.kind === "installed" ? { kind: "installEnded", streamId: input.streamId } : input,
    }),
  },
  {
    name: "apply-before-commit",
    does: "applies what it holds, committed or not",
    breaks: ["I8"],
    caughtBy: ["I8", "I6", "I7"],
    faults: ["isolate", "moveLeader"],
    patch: changeSteps({
      after(replica, _input, effects) {
        const { state } = replica;
        const offset = state.synced;
        if (offset <= state.applyRequested || replica.follower.installing) return effects;
        state.applyRequested = offset;
        return [...effects, { kind: "apply", offset }];
      },
    }),
  },
  {
    name: "cut-the-committed",
    does: "drops its newest committed entry when it is fenced",
    breaks: ["R9", "I9"],
    caughtBy: ["I8", "I9", "I10", "I5"],
    faults: ["moveLeader", "coordinatorCrash", "isolate"],
    patch: changeSteps({
      before(replica, input) {
        const { state } = replica;
        const last = Math.max(state.log.base.offset, state.commit - 1);
        if (input.kind !== "newTerm" || replica.follower.installing) return input;
        if (last >= state.log.last.offset) return input;
        state.log.truncate(last);
        state.logEpoch += 1;
        state.synced = Math.min(state.synced, last);
        state.emit({ kind: "truncateLog", lastOffset: last, logEpoch: state.logEpoch });
        return input;
      },
    }),
  },
  {
    name: "promise-before-it-is-durable",
    first: 30,
    does: "answers NewTerm before the term is on its disk",
    breaks: ["R3", "I2"],
    caughtBy: ["I2", "I10", "I1", "I12"],
    faults: [...CRASHES, "moveLeader", "coordinatorCrash"],
    patch: () => {
      const wrapped = changeSteps({
        after(replica, input, effects) {
          if (input.kind !== "newTerm") return effects;
          const early = replica.step({ kind: "metaPersisted", token: Number.MAX_SAFE_INTEGER });
          return [...early, ...effects];
        },
      });
      return wrapped();
    },
  },
  {
    name: "read-without-asking",
    first: 6,
    does: "serves reads without asking anybody",
    breaks: ["R15", "H17"],
    caughtBy: ["I18"],
    faults: ["isolate", "pause", "cutCoordinator"],
    force: { clients: 4, keys: 2, thinkMs: 15, safetyMs: 8_000, faultGapMs: 400 },
    patch: () => replace(ReadRounds.prototype, "hasConfirmed", () => true),
  },
  {
    name: "read-by-an-earlier-round",
    first: 29,
    does: "lets a read be confirmed by a round that was sent before it came",
    breaks: ["R15", "H17"],
    caughtBy: ["I18"],
    faults: ["isolate", "pause", "cutCoordinator"],
    force: { clients: 4, keys: 2, thinkMs: 15, safetyMs: 8_000, faultGapMs: 400 },
    patch: confirmAhead,
  },
];
