import assert from "node:assert/strict";
import type { LogPosition } from "../../../sidecar/protocol/entry.ts";
import {
  KeySortingType,
  type Member,
  MemberRole,
  type NewTermResponse,
} from "../../../sidecar/protocol/gen/resilver.ts";
import { NAMESPACE, SHARD, STORE, type TestCluster } from "./cluster-fixture.ts";

const FIELDS = { namespace: NAMESPACE, shard: SHARD } as const;

/** The coordinator's part of SAFETY.md 2.0, one step at a time, by the test's hand. */
export class HandCoordinator {
  readonly #cluster: TestCluster;
  readonly #members = new Map<string, { uid: string; role: MemberRole }>();
  term = -1;
  leader = "";
  #generation = 0;
  /** Of the orders from now on: who gave them has gone when it aborts. */
  signal: AbortSignal = new AbortController().signal;
  /** How the shard orders its keys. */
  keySorting: KeySortingType = KeySortingType.HIERARCHICAL;

  constructor(cluster: TestCluster) {
    this.#cluster = cluster;
  }

  uid(name: string): string {
    const member = this.#members.get(name);
    assert(member !== undefined, `${name} is no member`);
    return member.uid;
  }

  /** Names the shard to a node, as after each start of its process. Returns its uid. */
  async openShard(name: string): Promise<string> {
    const status = await this.#cluster.node(name).openShard({
      ...FIELDS,
      storeId: STORE,
      options: { enableNotifications: false, keySorting: this.keySorting },
    });
    return status.replicaUid;
  }

  async bootstrap(leader: string): Promise<void> {
    for (const name of this.#cluster.names) {
      const uid = await this.openShard(name);
      this.#members.set(name, { uid, role: MemberRole.VOTER });
    }
    await this.elect(leader, this.#cluster.names, true);
  }

  async newTerm(name: string, bootstrap = false): Promise<NewTermResponse> {
    const request = {
      ...this.#fields(),
      options: { enableNotifications: false, keySorting: this.keySorting },
      storeId: STORE,
      targetUid: this.uid(name),
      bootstrap,
    };
    return this.#cluster.replica(name).newTerm(request, this.signal);
  }

  /** Raises the term, fences `among` and makes one of them lead. */
  async elect(
    leader: string,
    among: readonly string[] = this.#cluster.names,
    bootstrap = false,
  ): Promise<void> {
    this.term += 1;
    const replies = new Map<string, NewTermResponse>();
    for (const name of among) replies.set(name, await this.newTerm(name, bootstrap));
    await this.becomeLeader(leader, replies);
  }

  async becomeLeader(leader: string, replies: ReadonlyMap<string, NewTermResponse>): Promise<void> {
    this.leader = leader;
    const fenced = [...replies.keys()].filter(
      (name) => name !== leader && this.#members.get(name)?.role === MemberRole.VOTER,
    );
    await this.#cluster.replica(leader).becomeLeader(
      {
        ...this.#fields(),
        replicationFactor: 3,
        followerMaps: {},
        storeId: STORE,
        targetUid: this.uid(leader),
        bootCounter: replies.get(leader)?.bootCounter ?? -1,
        members: fenced.map((name) => this.#member(name)),
        lossEpoch: 0,
        voterSets: [{ nodes: [...this.#cluster.names] }],
      },
      AbortSignal.timeout(5_000),
    );
  }

  /** A voter that came late to the term. */
  async attach(name: string): Promise<void> {
    await this.newTerm(name);
    await this.addFollower(name);
  }

  /**
   * Steps 2 and 3: the old uid dies at the leader, the new one is enrolled, the leader hears of it.
   */
  async enrol(name: string): Promise<LogPosition> {
    const uid = this.#cluster.status(name).replicaUid;
    const removal = {
      ...this.#fields(),
      targetUid: this.uid(this.leader),
      node: name,
      replicaUid: this.uid(name),
    };
    const leader = this.#cluster.replica(this.leader);
    const { lastAppended } = await leader.removeFollower(removal, this.signal);
    assert(lastAppended !== undefined);
    this.#members.set(name, { uid, role: MemberRole.LEARNER });
    await this.enrolAgain(name);
    await this.addFollower(name, lastAppended);
    return lastAppended;
  }

  /** The order of step 3 alone, with the last generation: as a coordinator repeats it. */
  async enrolAgain(name: string): Promise<void> {
    const request = {
      ...{ ...FIELDS, term: this.term, generation: this.#generation },
      storeId: STORE,
      targetUid: this.uid(name),
      leaderUid: this.uid(this.leader),
      options: { enableNotifications: false, keySorting: this.keySorting },
    };
    await this.#cluster.replica(name).enrol(request, this.signal);
  }

  /** Step 6, once the leader asks for it. */
  async promote(name: string): Promise<void> {
    await this.#cluster.until(`${name} holds its target`, () => this.#follower(name).reachedTarget);
    const uid = this.uid(name);
    this.#members.set(name, { uid, role: MemberRole.VOTER });
    const order = {
      ...this.#fields(),
      targetUid: this.uid(this.leader),
      node: name,
      replicaUid: uid,
    };
    await this.#cluster.replica(this.leader).promote(order, this.signal);
  }

  async addFollower(name: string, target?: LogPosition): Promise<void> {
    const order = {
      ...this.#fields(),
      followerName: name,
      followerHeadEntryId: undefined,
      targetUid: this.uid(this.leader),
      member: this.#member(name, target),
    };
    await this.#cluster.replica(this.leader).addFollower(order, this.signal);
  }

  #follower(name: string): { readonly reachedTarget: boolean } {
    const { followers } = this.#cluster.status(this.leader);
    const found = followers.find((one) => one.node === name && one.replicaUid === this.uid(name));
    assert(found !== undefined, `${this.leader} does not feed ${name}`);
    return found;
  }

  #member(name: string, target?: LogPosition): Member {
    const { uid, role } = this.#members.get(name) ?? { uid: "", role: MemberRole.VOTER };
    return {
      node: name,
      replicaUid: uid,
      role,
      internalAddress: name,
      publicAddress: name,
      head: undefined,
      target,
    };
  }

  #fields(): { namespace: string; shard: number; term: number; generation: number } {
    this.#generation += 1;
    return { ...FIELDS, term: this.term, generation: this.#generation };
  }
}
