import { setTimeout as sleep } from "node:timers/promises";
import type { Histogram } from "hdr-histogram-js";
import { StoreClient } from "../../sidecar-client/store-client.ts";
import { sameState, shardChecksums } from "../audit.ts";
import type { Terminal } from "../cli/exit.ts";
import { filesBelow } from "../damage.ts";
import { LocalStoreError, type LocalStore } from "../local-store.ts";
import { formatDuration, formatSize } from "../sizes.ts";
import type { ReplicaStatusView } from "../store-status.ts";
import { measureCopy } from "./copy-baseline.ts";
import { inputRecords } from "./input.ts";
import { Ledger } from "./ledger.ts";
import { loadRecords } from "./loader.ts";
import type { DemoOptions } from "./options.ts";
import { ProgressLine } from "./progress.ts";
import { type RecoveryTimes, RecoveryTiming } from "./recovery-timing.ts";
import type { DemoMeasures } from "./result.ts";
import { pick, seededRandom } from "./seeded-random.ts";
import { readBack } from "./verify.ts";
import { p99Ms, Writers } from "./writers.ts";

const KEY = { namespace: "default", shard: 0 };
const START_TIMEOUT_MS = 60_000;
const ELECTION_TIMEOUT_MS = 30_000;
/** A recovery without any progress for so long has failed. */
const STALL_MS = 120_000;
const WRITES_PER_SECOND = 500;
/** Writes are gathered for so long before they are sent, as Oxia's clients do unless told else. */
const LINGER_MS = 5;
/** How long writes are measured before the wipe. */
const BEFORE_MS = 4_000;

/** One run of the demonstration against a started store. */
export class DemoRun {
  private readonly store: LocalStore;
  private readonly options: DemoOptions;
  private readonly terminal: Terminal;
  private readonly random: () => number;
  private readonly ledger = new Ledger();
  private readonly client: StoreClient;
  private readonly writers: Writers;
  private readonly progress: ProgressLine;
  private readonly recoveries: RecoveryTimes[] = [];
  private readonly p99During: number[] = [];
  private lost = 0;
  private checksumsEqual = true;
  private writeFailure: unknown = null;

  constructor(store: LocalStore, options: DemoOptions, terminal: Terminal) {
    this.store = store;
    this.options = options;
    this.terminal = terminal;
    this.random = seededRandom(options.seed);
    this.client = new StoreClient({
      servers: store.servers(),
      requestTimeoutMs: 60_000,
      lingerMs: LINGER_MS,
    });
    this.progress = new ProgressLine(terminal);
    this.writers = new Writers({
      client: this.client,
      ledger: this.ledger,
      random: this.random,
      writesPerSecond: WRITES_PER_SECOND,
      failed: (error) => {
        this.writeFailure ??= error;
      },
    });
  }

  /** Loads, wipes, verifies. Throws when a step cannot be done at all, or at Ctrl-C. */
  async measure(input: string): Promise<DemoMeasures> {
    const { options } = this;
    this.say(`seed ${options.seed}; starting ${options.replicas} replicas in ${this.store.dir}`);
    await this.store.whole(START_TIMEOUT_MS);
    await this.client.ready(START_TIMEOUT_MS);
    await this.load(input);
    this.writers.start();
    const before = this.writers.measure();
    this.say(`writing ${WRITES_PER_SECOND} records a second`);
    await this.pause(BEFORE_MS);
    let victim = "";
    for (let round = 0; round <= options.again; round += 1) {
      victim = this.chooseVictim(victim, round);
      const during = await this.wipeAndWait(victim);
      const ms = p99Ms(during);
      if (ms !== null) this.p99During.push(ms);
      if (this.recoveries.at(-1)?.votingMs === null) break;
      await this.prove(victim);
      if (round < options.again) this.writers.start();
    }
    await this.writers.stop();
    if (this.writeFailure !== null) throw this.writeFailure;
    const copyMs = await this.measureCopy(victim);
    return {
      replicas: options.replicas,
      records: this.ledger.records,
      bytes: this.ledger.bytes,
      recoveries: this.recoveries,
      wipes: options.again + 1,
      copyMs,
      acknowledged: this.ledger.acknowledged,
      lost: this.lost,
      checksumsEqual: this.checksumsEqual,
      p99BeforeMs: p99Ms(before),
      p99DuringMs: this.p99During.length === 0 ? null : Math.max(...this.p99During),
    };
  }

  async close(): Promise<void> {
    this.progress.end();
    // First: what is under way must not wait for an answer that will not come.
    const stopped = this.writers.stop();
    await this.client.close();
    await stopped;
  }

  private async load(input: string): Promise<void> {
    const { size } = this.options;
    const startMs = performance.now();
    const show = (done: number) => {
      const rate = (done * 1_000) / Math.max(1, performance.now() - startMs);
      const etaMs = (Math.max(0, size - done) * 1_000) / rate;
      this.progress.show("loading", { done, total: size, rate, etaMs });
    };
    await loadRecords(
      inputRecords(input, size),
      this.client,
      this.ledger,
      show,
      this.terminal.stop,
    );
    this.progress.end();
    const took = formatDuration(performance.now() - startMs);
    this.say(
      `loaded ${this.ledger.records} files and parts, ${formatSize(this.ledger.bytes)}, in ${took}`,
    );
  }

  /** Again: the same replica or another one of the role, as the seed has it. */
  private chooseVictim(last: string, round: number): string {
    const view = this.store.views()[0];
    const leader = view?.leader ?? "";
    if (this.options.victim === "leader") return leader;
    const followers = (view?.replicas ?? []).map(({ node }) => node).filter((n) => n !== leader);
    const again = round > 0 && this.random() < 0.5 && followers.includes(last);
    return again ? last : pick(followers, this.random);
  }

  private async wipeAndWait(victim: string): Promise<Histogram> {
    const { quiet, what } = this.options;
    if (quiet) await this.writers.stop();
    const oldUid = this.replica(victim)?.uid ?? "";
    const timing = new RecoveryTiming(victim, oldUid);
    const offEvent = this.store.onEvent((event) => timing.event(event, Date.now()));
    const offChange = this.store.onChange(() => {
      for (const view of this.store.views()) timing.view(view, Date.now());
    });
    try {
      this.say(
        `wiping ${victim} (${this.options.victim}, ${what})${quiet ? ", no writes from now on" : ""}`,
      );
      // Neither before nor during: the process is killed and its files go, which keeps a device
      // busy that the others share here; a volume that is lost does not.
      this.writers.measure();
      timing.started(await this.store.platform.wipe(victim, what));
      const during = this.writers.measure();
      await this.waitForVote(victim, timing);
      this.recoveries.push(timing.times());
      if (timing.done) this.say(`${victim} votes again`);
      // Writes due until now, and no others.
      this.writers.measure();
      await this.writers.stop();
      return during;
    } finally {
      offEvent();
      offChange();
      this.progress.end();
    }
  }

  private async waitForVote(victim: string, timing: RecoveryTiming): Promise<void> {
    let last = "";
    let movedMs = performance.now();
    while (!timing.done) {
      await this.pause(20);
      const seen = this.replica(victim);
      const mark = `${seen?.uid} ${seen?.role} ${seen?.phase} ${seen?.bytesDone} ${seen?.headOffset}`;
      if (mark !== last) movedMs = performance.now();
      last = mark;
      if (seen !== undefined) this.showRecovery(seen);
      if (performance.now() - movedMs < STALL_MS) continue;
      const stop = this.store.views()[0]?.stop;
      this.say(
        `no progress for ${formatDuration(STALL_MS)}${stop === null ? "" : `: ${stop?.message}`}`,
      );
      return;
    }
  }

  private showRecovery(seen: ReplicaStatusView): void {
    if (seen.role !== "learner" && seen.role !== "wiped") return;
    const { bytesDone: done, bytesTotal: total, bytesPerSecond: rate, etaMs } = seen;
    const phase = seen.phase === "" ? "NotMember" : seen.phase;
    this.progress.show(`${seen.node} ${phase}`, { done, total, rate, etaMs });
  }

  /**
   * Makes the rebuilt replica the leader and reads everything back from it; compares all replicas.
   */
  private async prove(victim: string): Promise<void> {
    await this.store.moveLeader(KEY, victim, ELECTION_TIMEOUT_MS);
    this.say(`${victim} leads now; reading back ${this.ledger.records} records from it`);
    const total = this.ledger.records;
    const found = await readBack(this.client, this.ledger, (read) => {
      this.terminal.stop.throwIfAborted();
      if (read % 10_000 === 0) this.say(`  read ${read} of ${total}`);
    });
    const view = this.store.views()[0];
    if (view?.leader !== victim) {
      throw new LocalStoreError(`${victim} lost the leadership while it was read from`);
    }
    this.lost += found.lost;
    for (const key of found.examples) this.say(`LOST: ${key}`);
    await this.compareStates();
  }

  private async compareStates(): Promise<void> {
    await this.store.whole(ELECTION_TIMEOUT_MS);
    const checksums = await shardChecksums(this.store, KEY.namespace, KEY.shard);
    if (sameState(checksums)) {
      this.say(`all ${checksums.length} replicas hold the same state (${checksums[0]?.checksum})`);
      return;
    }
    this.checksumsEqual = false;
    for (const { node, checksum, records, appliedOffset } of checksums) {
      this.say(`DIFFERS: ${node}: ${checksum}, ${records} records, applied ${appliedOffset}`);
    }
  }

  private async measureCopy(victim: string): Promise<number | null> {
    if (this.recoveries.at(-1)?.votingMs === null) return null;
    const paths = this.store.platform.paths(victim);
    const sources = await filesBelow(paths.state);
    return await measureCopy(sources, this.ledger.bytes, `${paths.dir}/copy-baseline`);
  }

  private replica(node: string): ReplicaStatusView | undefined {
    return this.store.status().shards[0]?.replicas.find((replica) => replica.node === node);
  }

  private async pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.terminal.stop });
  }

  private say(text: string): void {
    this.progress.end();
    this.terminal.out(`${text}\n`);
  }
}
