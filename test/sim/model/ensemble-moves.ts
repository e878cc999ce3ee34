/** One node of the ensemble is swapped for a fourth, under a steady leader (R13). */
import {
  nextEnsemble,
  withDesired,
  withJoint,
  withNext,
  withoutJoint,
  withoutMember,
} from "../../../operator/core/ensemble.ts";
import { voterSetsText } from "../../../operator/core/quorum.ts";
import { memberOn, voterSets } from "../../../operator/core/record.ts";
import { fieldsOf, learns } from "./coordinator-moves.ts";
import type { Draft } from "./draft.ts";
import { empty } from "./environment-moves.ts";
import type { Move } from "./move.ts";
import type { Conduct } from "./rules.ts";
import { committedBy, nodeOf, steadyLeader, type World } from "./world.ts";

/** The node that may come in. */
export const SPARE = "d";

const IDS = { update: 6_000, retire: 7_000 } as const;

/** As `planEnsemble` plans, under a leader that is at it. */
export function ensembleMoves(world: World, conduct: Conduct): readonly Move[] {
  const leader = steadyLeader(world);
  if (leader === null) return [];
  const { record, left } = world;
  const { next } = record;
  const open = isOpen(world, conduct);
  const committed = conduct.ignoresFloor ? null : committedBy(leader);
  const tell = isAsked(world)
    ? []
    : [{ name: `tell ${leader.node} of its ensemble`, make: update }];
  if (next === undefined) {
    const moves = open ? tell : leavers(world);
    if (left.changes === 0 || open) return moves;
    return [...moves, { name: `begin to swap a node for ${SPARE}`, make: begin }];
  }
  if (next.joint) {
    if (open) return tell;
    const make = (draft: Draft): void => draft.save(withoutJoint(record, committed) ?? record);
    return next.ensemble.includes(leader.node) ? [{ name: "leave the joint state", make }] : [];
  }
  const added = next.ensemble.find((node) => !record.ensemble.includes(node));
  if (added === undefined) {
    const make = (draft: Draft): void => draft.save(withJoint(record, committed) ?? record);
    return [{ name: "enter the joint state", make }];
  }
  if (memberOn(record, added) !== undefined || nodeOf(world, added).view.uid === leader.view.uid) {
    return [];
  }
  const name = `record ${nodeOf(world, added).view.uid} of ${added} as a learner`;
  return [{ name, make: (draft) => learns(draft, added) }];
}

/** The leader has yet to commit something under the voter sets in force. */
function isOpen({ record, confirmed }: World, { leavesJointEarly }: Conduct): boolean {
  if (leavesJointEarly) return false;
  if (record.next?.joint !== true && record.ensembleTerm !== record.term) return false;
  return confirmed?.term !== record.term || confirmed.sets !== voterSetsText(voterSets(record));
}

/** The leader owes the answer: asked again it would append one entry more, without an end. */
function isAsked({ record, ensembleAsked }: World): boolean {
  const sets = voterSetsText(voterSets(record));
  return ensembleAsked?.term === record.term && ensembleAsked.sets === sets;
}

function begin(draft: Draft): void {
  const { record } = draft.world;
  const leader = record.leader?.node;
  const out = record.ensemble.findLast((node) => node !== leader);
  const desired = record.ensemble.map((node) => (node === out ? SPARE : node));
  const ensemble = nextEnsemble(record.ensemble, desired);
  if (ensemble === null) return;
  draft.spend("changes");
  draft.save(withNext(withDesired(record, desired), ensemble));
}

function update(draft: Draft): void {
  const { world } = draft;
  const { record } = world;
  const leader = steadyLeader(world);
  if (leader === null) return;
  const sets = voterSets(record);
  world.ensembleAsked = { term: record.term, sets: voterSetsText(sets) };
  const voters = sets.map((nodes) => ({ nodes: [...nodes] }));
  draft.call(leader.node, {
    kind: "updateEnsemble",
    id: IDS.update,
    request: { ...fieldsOf(record), targetUid: leader.view.uid, voterSets: voters },
    nowMs: 0,
  });
}

function leavers(world: World): readonly Move[] {
  return world.record.members
    .filter(({ role }) => role === "leaving")
    .map(({ node }) => ({ name: `${node} retires`, make: (draft) => retire(draft, node) }));
}

/** Only when its data is gone is it forgotten. */
function retire(draft: Draft, node: string): void {
  const { world } = draft;
  const member = memberOn(world.record, node);
  const leader = steadyLeader(world);
  if (member === undefined || leader === null) return;
  const { replicaUid } = member;
  const request = { ...fieldsOf(world.record), targetUid: leader.view.uid, node, replicaUid };
  draft.call(leader.node, { kind: "removeFollower", id: IDS.retire, request });
  draft.restart(node, empty(`${node}*`));
  draft.save(withoutMember(world.record, node));
}
