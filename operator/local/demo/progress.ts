import { SingleBar } from "cli-progress";
import type { Terminal } from "../cli/exit.ts";
import { formatDuration, formatSize } from "../sizes.ts";

/** How far something is. `rate` in units per second. */
export interface Progress {
  readonly done: number;
  readonly total: number;
  readonly rate: number;
  readonly etaMs: number | null;
}

const PLAIN_EVERY_MS = 1_000;

/** One line of progress as text: bytes, percent, rate, time left. Pure. */
export function progressText(label: string, progress: Progress): string {
  const { done, total, rate, etaMs } = progress;
  if (total === 0) return label;
  const percent = Math.min(100, Math.floor((100 * done) / total));
  const amount = `${formatSize(done)} of ${formatSize(total)}`;
  const speed = rate > 0 ? `, ${(rate / 1_000_000).toFixed(1)} MB/s` : "";
  const left = etaMs === null ? "" : `, ETA ${formatDuration(etaMs)}`;
  return `${label}: ${amount}, ${percent}%${speed}${left}`;
}

/** Shows progress: a bar that is redrawn on a terminal, else a plain line every second. */
export class ProgressLine {
  private readonly terminal: Terminal;
  private readonly bar: SingleBar | null;
  private shownMs = Number.NEGATIVE_INFINITY;
  private active = false;

  constructor(terminal: Terminal) {
    this.terminal = terminal;
    this.bar = terminal.interactive
      ? new SingleBar({ format: "  [{bar}] {text}", hideCursor: true, barsize: 24, fps: 10 })
      : null;
  }

  show(label: string, progress: Progress): void {
    const text = progressText(label, progress);
    if (this.bar !== null) {
      if (this.active) this.bar.setTotal(progress.total);
      else this.bar.start(progress.total, 0, { text });
      this.active = true;
      this.bar.update(progress.done, { text });
      return;
    }
    const nowMs = performance.now();
    if (nowMs - this.shownMs < PLAIN_EVERY_MS) return;
    this.shownMs = nowMs;
    this.terminal.out(`  ${text}\n`);
  }

  /** Ends the line; the next one may be for something else. */
  end(): void {
    if (this.active) this.bar?.stop();
    this.active = false;
    this.shownMs = Number.NEGATIVE_INFINITY;
  }
}
