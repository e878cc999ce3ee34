import Table from "cli-table3";
import pc from "picocolors";
import { entriesHeld } from "../core/status.ts";
import { formatDuration, formatSize } from "./sizes.ts";
import type {
  PodStatusView,
  ReplicaStatusView,
  ShardStatusView,
  StoreStatus,
} from "./store-status.ts";

const HEAD = [
  "replica",
  "process",
  "status",
  "role",
  "uid",
  "head",
  "lag",
  "recovery",
  "done",
  "rate",
  "ETA",
];

/** A status as text for people: one block per shard, one line per replica. Pure. */
export function renderStatus(status: StoreStatus, options: { readonly color: boolean }): string {
  const colors = pc.createColors(options.color);
  const lines = [`store ${status.storeId} in ${status.dir} (pid ${status.pid})`];
  if (status.shards.length === 0) lines.push("no shard has a record yet", podLines(status.pods));
  for (const shard of status.shards) {
    lines.push("", shardLine(shard, colors), replicaTable(shard, status.pods, colors));
    for (const condition of shard.conditions) {
      const bad = condition.type === "Available" ? !condition.status : condition.status;
      if (bad && shard.stop === null) {
        const { type, reason, message } = condition;
        lines.push([type, reason, message].filter((part) => part !== "").join(": "));
      }
    }
    if (shard.stop !== null) lines.push(colors.red(`${shard.stop.reason}: ${shard.stop.message}`));
    for (const replica of shard.replicas) lines.push(...troubleLines(replica, colors));
  }
  const used = new Set(status.shards.flatMap((shard) => shard.replicas.map(({ node }) => node)));
  const spare = status.pods.filter(({ name }) => !used.has(name));
  if (status.shards.length > 0 && spare.length > 0) {
    lines.push("", "in no shard:", podLines(spare));
  }
  return `${lines.join("\n")}\n`;
}

type Colors = ReturnType<typeof pc.createColors>;

function shardLine(shard: ShardStatusView, colors: Colors): string {
  const leader = shard.leader ?? "none";
  const serving = shard.serving ? colors.green("serving") : colors.red("not serving");
  const epoch = shard.lossEpoch === 0 ? "" : `, loss epoch ${shard.lossEpoch}`;
  return `${shard.namespace}/${shard.shard}: term ${shard.term}, leader ${leader}, ${serving}${epoch}`;
}

function replicaTable(
  shard: ShardStatusView,
  pods: readonly PodStatusView[],
  colors: Colors,
): string {
  const table = new Table({
    head: HEAD,
    style: { head: [], border: [], compact: true },
    chars: PLAIN,
  });
  const byName = shard.replicas.toSorted((a, b) => a.node.localeCompare(b.node, "en", NUMERIC));
  for (const replica of byName) {
    const pod = pods.find(({ name }) => name === replica.node);
    table.push([
      replica.node,
      pod?.state ?? "unknown",
      replica.status,
      roleText(replica, colors),
      replica.uid.slice(0, 8),
      offsetText(replica.headOffset),
      replica.lagEntries === null ? "-" : String(replica.lagEntries),
      recoveryText(replica),
      doneText(replica),
      replica.bytesPerSecond > 0 ? `${formatSize(replica.bytesPerSecond)}/s` : "-",
      replica.etaMs === null ? "-" : formatDuration(replica.etaMs),
    ]);
  }
  return table.toString();
}

/** resilver-10 comes after resilver-9. */
const NUMERIC = { numeric: true } as const;

/** Columns apart by blanks only, as kubectl does it. */
const PLAIN = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: " ",
};

function roleText(replica: ReplicaStatusView, colors: Colors): string {
  switch (replica.role) {
    case "leader":
    case "voter":
      return colors.green(replica.role);
    case "learner":
      return colors.yellow(replica.role);
    case "wiped":
      return colors.red(replica.role);
    default:
      return replica.role;
  }
}

function offsetText(offset: number): string {
  return offset < 0 ? "-" : String(offset);
}

function recoveryText(replica: ReplicaStatusView): string {
  if (replica.phase === "") return "-";
  return replica.reason === "" ? replica.phase : `${replica.phase} (${replica.reason})`;
}

function doneText(replica: ReplicaStatusView): string {
  const entries = entriesHeld(replica);
  if (entries !== null && entries.total > 0) {
    const { done, total } = entries;
    return `${done} of ${total} entries (${Math.floor((100 * done) / total)}%)`;
  }
  if (replica.role !== "learner" || replica.bytesTotal === 0) return "-";
  const percent = Math.floor((100 * replica.bytesDone) / replica.bytesTotal);
  return `${formatSize(replica.bytesDone)} of ${formatSize(replica.bytesTotal)} (${percent}%)`;
}

function troubleLines(replica: ReplicaStatusView, colors: Colors): readonly string[] {
  const lines: string[] = [];
  if (replica.fault !== "") lines.push(colors.red(`${replica.node}: ${replica.fault}`));
  const last = replica.lastErrors.at(-1);
  if (replica.role === "learner" && last !== undefined) {
    lines.push(`${replica.node}: attempt ${replica.attempts}, last error: ${last}`);
  }
  return lines;
}

function podLines(pods: readonly PodStatusView[]): string {
  return pods
    .map(({ name, state, lastExit }) => `${name}: ${state}${exitText(lastExit)}`)
    .join("\n");
}

function exitText(lastExit: string | null): string {
  return lastExit === null ? "" : `, ended the last time with ${lastExit}`;
}
