import assert from "node:assert/strict";
import { OperatorMetrics } from "../../../operator/kube/operator-metrics.ts";

/** The value of a series, by its whole name with labels. */
async function value(metrics: OperatorMetrics, series: string): Promise<number | null> {
  const page = await metrics.registry.metrics();
  const line = page.split("\n").find((one) => one.startsWith(`${series} `));
  return line === undefined ? null : Number(line.slice(series.length + 1));
}

const CONTROLLER = '{controller="replicatedstore"}';
const QUEUE = '{name="resilver"}';

describe("metrics of the operator", () => {
  it("have the names and labels of other controllers", async () => {
    const metrics = new OperatorMetrics();
    metrics.watch({
      depth: () => 3,
      longestWorkMs: () => 1_500,
      unfinishedWorkMs: () => 2_500,
      activeWorkers: () => 2,
      workers: 4,
      leads: () => true,
    });
    const told = [
      [`workqueue_depth${QUEUE}`, 3],
      [`workqueue_longest_running_processor_seconds${QUEUE}`, 1.5],
      [`workqueue_unfinished_work_seconds${QUEUE}`, 2.5],
      [`controller_runtime_active_workers${CONTROLLER}`, 2],
      [`controller_runtime_max_concurrent_reconciles${CONTROLLER}`, 4],
      [`leader_election_master_status${QUEUE}`, 1],
    ] as const;
    for (const [series, expected] of told) {
      assert.equal(await value(metrics, series), expected, series);
    }
  });

  it("count each kind of end", async () => {
    const metrics = new OperatorMetrics();
    metrics.reconciled("success");
    metrics.reconciled("error");
    metrics.reconciled("error");
    const errors = `controller_runtime_reconcile_errors_total${CONTROLLER}`;
    const ended = (result: string) =>
      value(
        metrics,
        `controller_runtime_reconcile_total{controller="replicatedstore",result="${result}"}`,
      );
    assert.deepEqual([await ended("success"), await ended("error")], [1, 2]);
    assert.equal(await value(metrics, errors), 2);
  });
});
