/** A real Prometheus that scrapes what it is told to, and evaluates rules. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { stringify } from "yaml";

const READY = "Server is ready to receive web requests";
const START_MS = 30_000;

/** One series of an answer; `values` are pairs of seconds and number. */
export interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly values: readonly (readonly [number, string])[];
}

/** Something to scrape: `host:port`, and labels to add. */
export interface Target {
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Targets that are scraped alike. */
export interface Job {
  readonly name: string;
  readonly honorLabels: boolean;
}

interface Answer {
  readonly status: string;
  readonly error?: string;
  readonly data: {
    readonly result?: readonly (Series & { readonly value?: readonly [number, string] })[];
    readonly alerts?: readonly {
      readonly state: string;
      readonly labels: Readonly<Record<string, string>>;
    }[];
  };
}

/** See the file's header. */
export class Prometheus {
  private readonly process: ChildProcess;
  private readonly folder: string;
  private readonly url: string;

  private constructor(process: ChildProcess, folder: string, url: string) {
    this.process = process;
    this.folder = folder;
    this.url = url;
  }

  /**
   * `rules`: a rule file. Everything is scraped and evaluated once a second; nothing is until
   * {@link scrape} says what.
   */
  static async start(
    program: string,
    from: { readonly jobs: readonly Job[]; readonly rules: string },
  ): Promise<Prometheus> {
    const folder = mkdtempSync(join(tmpdir(), "resilver-prometheus-"));
    const config = {
      global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
      rule_files: [join(folder, "rules.yaml")],
      scrape_configs: from.jobs.map(({ name, honorLabels }) => ({
        job_name: name,
        honor_labels: honorLabels,
        file_sd_configs: [{ files: [join(folder, `${name}.json`)] }],
      })),
    };
    writeFileSync(join(folder, "rules.yaml"), from.rules);
    writeFileSync(join(folder, "prometheus.yaml"), stringify(config));
    const address = `127.0.0.1:${await freePort()}`;
    const child = spawn(
      program,
      [
        `--config.file=${join(folder, "prometheus.yaml")}`,
        `--storage.tsdb.path=${join(folder, "data")}`,
        `--web.listen-address=${address}`,
      ],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    await untilReady(child);
    return new Prometheus(child, folder, `http://${address}`);
  }

  /** From now on these are scraped for a job. */
  scrape(job: string, targets: readonly Target[]): void {
    const groups = targets.map(({ address, labels }) => ({ targets: [address], labels }));
    // Put in place as a whole: Prometheus looks whenever the folder changes.
    writeFileSync(join(this.folder, "aside"), JSON.stringify(groups));
    renameSync(join(this.folder, "aside"), join(this.folder, `${job}.json`));
  }

  /** What a query gives now. */
  async now(query: string): Promise<readonly { metric: Series["metric"]; value: number }[]> {
    const { result = [] } = await this.ask("query", { query });
    return result.map(({ metric, value }) => ({ metric, value: Number(value?.[1]) }));
  }

  /** What a query gives for every second between two times, in ms. */
  async between(query: string, fromMs: number, toMs: number): Promise<readonly Series[]> {
    const range = { start: String(fromMs / 1_000), end: String(toMs / 1_000), step: "1" };
    const { result = [] } = await this.ask("query_range", { query, ...range });
    return result;
  }

  /** Names of the alerts that fire now. */
  async firing(): Promise<readonly string[]> {
    const { alerts = [] } = await this.ask("alerts", {});
    return alerts
      .filter(({ state }) => state === "firing")
      .map(({ labels }) => labels["alertname"] ?? "");
  }

  /** Ends the process and removes what it kept. */
  async close(): Promise<void> {
    const ended = once(this.process, "exit");
    this.process.kill("SIGTERM");
    await ended;
    rmSync(this.folder, { recursive: true, force: true });
  }

  private async ask(
    what: string,
    query: Readonly<Record<string, string>>,
  ): Promise<Answer["data"]> {
    const body = new URLSearchParams(query);
    const init = what === "alerts" ? {} : { method: "POST", body };
    const response = await fetch(`${this.url}/api/v1/${what}`, init);
    const answer = (await response.json()) as Answer;
    assert.equal(answer.status, "success", `${query["query"]}: ${answer.error}`);
    return answer.data;
  }
}

async function untilReady(child: ChildProcess): Promise<void> {
  assert.ok(child.stderr);
  const said: string[] = [];
  const ready = new Promise<boolean>((resolve) => {
    assert.ok(child.stderr);
    createInterface(child.stderr).on("line", (line) => {
      said.push(line);
      if (line.includes(READY)) resolve(true);
    });
    child.once("exit", () => resolve(false));
    child.once("error", (error) => {
      said.push(error.message);
      resolve(false);
    });
    AbortSignal.timeout(START_MS).addEventListener("abort", () => resolve(false));
  });
  if (await ready) return;
  child.kill("SIGKILL");
  assert.fail(`Prometheus did not start:\n${said.slice(-20).join("\n")}`);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
