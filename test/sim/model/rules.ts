/** The rules of SAFETY.md that the model can do without, one at a time, from outside the code. */
import { Leader } from "../../../sidecar/core/leader.ts";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import { wrap } from "../patch.ts";

/** How the coordinator and the disks behave; a rule taken away is a change of it. */
export interface Conduct {
  /** A reply to NewTerm counts only from the identity that the record names (R2). */
  readonly countsAnyIdentity: boolean;
  /** Nothing is made of a term that went back (R3). */
  readonly ignoresRegression: boolean;
  /** A replica whose log is empty reports no head, whatever its snapshot holds (R5). */
  readonly forgetsBase: boolean;
  /** The floor stays where it is (R6). */
  readonly ignoresFloor: boolean;
  /** A raised term is not saved before NewTerm is sent (R1). */
  readonly raisesUnsaved: boolean;
  /** A learner is fed as a voter (R2, R16). */
  readonly countsLearners: boolean;
  /** A learner votes once it holds anything (R16). */
  readonly promotesEarly: boolean;
  /** A change of the ensemble has no state in which both sets count (R13). */
  readonly skipsJoint: boolean;
  /** That state is left before the leader has committed anything under it (R13). */
  readonly leavesJointEarly: boolean;
  /** A log says that it is synced before it is (R8). */
  readonly liesAboutSync: boolean;
  /** A promise is not saved before it is answered (R3, R8). */
  readonly forgetsPromises: boolean;
  /** Patches classes of the core; returns what undoes it. */
  readonly patch: () => () => void;
}

/** All rules hold. */
export const SOUND: Conduct = Object.freeze({
  countsAnyIdentity: false,
  ignoresRegression: false,
  forgetsBase: false,
  ignoresFloor: false,
  raisesUnsaved: false,
  countsLearners: false,
  promotesEarly: false,
  skipsJoint: false,
  leavesJointEarly: false,
  liesAboutSync: false,
  forgetsPromises: false,
  patch: () => () => undefined,
});

/** A rule taken away. */
export interface RemovedRule {
  readonly name: string;
  /** Rules and holes of SAFETY.md. */
  readonly breaks: readonly string[];
  readonly does: string;
  readonly conduct: Conduct;
  /** What has to be able to happen for it to matter. */
  readonly needs: {
    readonly terms?: number;
    readonly writes?: number;
    readonly wipes?: number;
    readonly crashes?: number;
    readonly rollbacks?: number;
    readonly changes?: number;
  };
}

function without(
  name: string,
  breaks: readonly string[],
  does: string,
  change: Partial<Conduct>,
  needs: RemovedRule["needs"],
): RemovedRule {
  return { name, breaks, does, conduct: { ...SOUND, ...change }, needs };
}

/** Takes as the same whatever stands at the same offset. */
function comparesOffsetsOnly(): () => void {
  return wrap(LogIndex.prototype, "contains", (log, _original, [position]) => {
    return log.positionAt((position as { offset: number }).offset) !== null;
  });
}

/** Commits by counting copies, whichever term the entry is of. */
function commitsOlderTerms(): () => void {
  return wrap(Leader.prototype, "advanceCommit", (leader, original) => {
    const position = leader.state.log.positionAt(leader.tracker.quorumOffset());
    if (position === null || position.term === leader.term) return original();
    if (position.offset <= leader.state.commit) return undefined;
    leader.state.commit = position.offset;
    leader.state.applyCommitted();
    leader.serving = true;
    return undefined;
  });
}

/** Every rule that can be taken away here. */
export const RULES: readonly RemovedRule[] = [
  without(
    "saved-before-sent",
    ["R1"],
    "sends NewTerm before the raised term is saved",
    { raisesUnsaved: true },
    { terms: 2 },
  ),
  without(
    "recorded-identity",
    ["R2", "R11", "H3"],
    "counts whoever answers on a node, also an empty replica",
    { countsAnyIdentity: true },
    { terms: 1, writes: 1, wipes: 1 },
  ),
  without(
    "no-regression",
    ["R3", "H19"],
    "takes a disk that was set back for what it was",
    { ignoresRegression: true },
    { terms: 2, writes: 1, rollbacks: 1 },
  ),
  without(
    "head-of-snapshot",
    ["R5", "R6", "H5"],
    "reports no head while the log behind a snapshot is empty, and keeps no floor",
    { forgetsBase: true, ignoresFloor: true },
    { terms: 2, writes: 1, wipes: 1 },
  ),
  without(
    "own-term-commits",
    ["R7", "H2"],
    "commits entries of older terms by counting copies",
    { patch: commitsOlderTerms },
    { terms: 3, writes: 1 },
  ),
  without(
    "sync-before-ack",
    ["R8", "H1"],
    "acknowledges what is not durable",
    { liesAboutSync: true },
    { terms: 1, writes: 1, crashes: 2 },
  ),
  without(
    "promise-saved",
    ["R8", "H4"],
    "forgets at a crash what it promised",
    { forgetsPromises: true },
    { terms: 1, writes: 1, crashes: 1 },
  ),
  without(
    "same-history",
    ["R9", "H6"],
    "takes logs for equal where something stands at the same offset",
    { patch: comparesOffsetsOnly },
    { terms: 2, writes: 2 },
  ),
  without(
    "learners-do-not-count",
    ["R2", "R16"],
    "feeds a learner as a voter",
    { countsLearners: true },
    { terms: 1, writes: 1, wipes: 1 },
  ),
  without(
    "promotion-target",
    ["R16", "H4"],
    "lets a learner vote before it holds what was appended when it began",
    { promotesEarly: true, ignoresFloor: true },
    { terms: 1, writes: 1, wipes: 1 },
  ),
  without(
    "joint-state",
    ["R13"],
    "lets the new set alone count as soon as its new node votes",
    { skipsJoint: true, ignoresFloor: true },
    { terms: 1, writes: 1, changes: 1 },
  ),
  without(
    "joint-state-confirmed",
    ["R13"],
    "leaves the joint state before the leader has committed under it",
    { leavesJointEarly: true, ignoresFloor: true },
    { terms: 1, writes: 1, changes: 1 },
  ),
];
