import pc from "picocolors";
import { formatDuration, formatSize } from "../sizes.ts";
import type { RecoveryTimes } from "./recovery-timing.ts";

/**
 * What `--json` writes: exactly these keys. Times in milliseconds since the start of the wiped
 * process.
 */
export interface DemoResult {
  /** Every wiped replica votes again, nothing was lost, all replicas hold the same. */
  readonly ok: boolean;
  readonly replicas: number;
  readonly records: number;
  /** Of all keys and their values. */
  readonly bytes: number;
  /** Names, in the order of the wipes, separated by commas. */
  readonly wiped: string;
  readonly reason: string;
  readonly detectedMs: number | null;
  readonly firstByteMs: number | null;
  readonly transferMs: number | null;
  readonly votingMs: number | null;
  readonly copyMs: number | null;
  /** votingMs / copyMs. */
  readonly ratioToCopy: number | null;
  readonly acknowledged: number;
  readonly lost: number;
  readonly p99BeforeMs: number | null;
  readonly p99DuringMs: number | null;
  readonly attempts: number;
}

/** What `--json` writes when a run did not come to a result: the same keys, and nothing known. */
export type FailedResult = { readonly [Key in keyof DemoResult]: DemoResult[Key] | null } & {
  readonly ok: false;
};

/** The result of a run that ended too early. Pure. */
export function failedResult(replicas: number): FailedResult {
  return {
    ok: false,
    replicas,
    records: null,
    bytes: null,
    wiped: null,
    reason: null,
    detectedMs: null,
    firstByteMs: null,
    transferMs: null,
    votingMs: null,
    copyMs: null,
    ratioToCopy: null,
    acknowledged: null,
    lost: null,
    p99BeforeMs: null,
    p99DuringMs: null,
    attempts: null,
  };
}

/** What a result is made from. With several wipes each time is that of the slowest. */
export interface DemoMeasures {
  readonly replicas: number;
  readonly records: number;
  readonly bytes: number;
  readonly recoveries: readonly RecoveryTimes[];
  /** Wipes that were asked for. */
  readonly wipes: number;
  readonly copyMs: number | null;
  readonly acknowledged: number;
  readonly lost: number;
  readonly checksumsEqual: boolean;
  readonly p99BeforeMs: number | null;
  readonly p99DuringMs: number | null;
}

/** Judges a run. Pure. */
export function demoResult(measures: DemoMeasures): DemoResult {
  const { recoveries, copyMs } = measures;
  const slowest = (of: (times: RecoveryTimes) => number | null) => {
    const known = recoveries.map(of).filter((value) => value !== null);
    return known.length === 0 ? null : Math.round(Math.max(...known));
  };
  const voting =
    recoveries.length === measures.wipes && recoveries.every((r) => r.votingMs !== null);
  const votingMs = voting ? slowest((times) => times.votingMs) : null;
  return {
    ok: voting && measures.lost === 0 && measures.checksumsEqual,
    replicas: measures.replicas,
    records: measures.records,
    bytes: measures.bytes,
    wiped: recoveries.map(({ node }) => node).join(","),
    reason: [...new Set(recoveries.map(({ reason }) => reason))].join(","),
    detectedMs: slowest((times) => times.detectedMs),
    firstByteMs: slowest((times) => times.firstByteMs),
    transferMs: slowest((times) => times.transferMs),
    votingMs,
    copyMs: copyMs === null ? null : Math.round(copyMs),
    ratioToCopy:
      votingMs === null || copyMs === null || copyMs <= 0
        ? null
        : Math.round((100 * votingMs) / copyMs) / 100,
    acknowledged: measures.acknowledged,
    lost: measures.lost,
    p99BeforeMs: rounded(measures.p99BeforeMs),
    p99DuringMs: rounded(measures.p99DuringMs),
    attempts: Math.max(0, ...recoveries.map(({ attempts }) => attempts)),
  };
}

function rounded(ms: number | null): number | null {
  return ms === null ? null : Math.round(ms * 100) / 100;
}

/** A result for people. Pure. */
export function renderResult(result: DemoResult, options: { readonly color: boolean }): string {
  const colors = pc.createColors(options.color);
  const ms = (value: number | null) => (value === null ? "-" : formatDuration(value));
  const ratio =
    result.ratioToCopy === null ? "" : ` (${result.ratioToCopy} times as long as a copy)`;
  const lost = result.lost === 0 ? colors.green("0 lost") : colors.red(`${result.lost} LOST`);
  const rows: readonly (readonly [string, string])[] = [
    [
      "data",
      `${result.records} records, ${formatSize(result.bytes)}, on ${result.replicas} replicas`,
    ],
    ["wiped", `${result.wiped} (${result.reason || "not recognised"})`],
    ["recognised after", ms(result.detectedMs)],
    [
      "first byte after",
      result.firstByteMs === null ? "no snapshot was needed" : ms(result.firstByteMs),
    ],
    ["data complete after", ms(result.transferMs)],
    ["votes again after", `${ms(result.votingMs)}${ratio}`],
    ["plain copy and fsync", ms(result.copyMs)],
    ["p99 of writes", `${ms(result.p99BeforeMs)} before, ${ms(result.p99DuringMs)} during`],
    ["acknowledged writes", `${result.acknowledged}, read back from the rebuilt leader: ${lost}`],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  const lines = rows.map(([name, text]) => `  ${name.padEnd(width)}  ${text}`);
  const verdict = result.ok ? colors.green("OK") : colors.red("FAILED");
  return `${verdict}\n${lines.join("\n")}\n`;
}
