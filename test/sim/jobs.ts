import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";

/**
 * Has orders carried out by processes of their own, each of which runs `module` with `--worker`.
 * Resolves when `next` has no more to give and all are answered; rejects when a process fails.
 */
export async function inWorkers<Order extends object, Answer>(options: {
  readonly module: string;
  readonly jobs: number;
  /** The next order; null: there is none. */
  readonly next: () => Order | null;
  readonly answered: (answer: Answer) => void;
}): Promise<void> {
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const child: ChildProcess = fork(fileURLToPath(options.module), ["--worker"], {
        execArgv: process.execArgv,
      });
      const give = (): void => {
        const order = options.next();
        if (order === null) child.disconnect();
        else child.send(order);
      };
      child.on("message", (answer: Answer) => {
        options.answered(answer);
        give();
      });
      child.on("exit", (code) => {
        if (code === 0) resolve();
        else reject(new Error(`a worker process ended with ${code ?? "a signal"}`));
      });
      give();
    });
  await Promise.all(Array.from({ length: options.jobs }, one));
}

/** The other side: carries out each order that comes; ends when the parent hangs up. */
export function serveOrders<Order, Answer>(work: (order: Order) => Promise<Answer>): void {
  process.on("message", (order: Order) => {
    work(order).then(
      (answer) => process.send?.(answer),
      (error: Error) => {
        process.stderr.write(`${JSON.stringify(order)}: ${error.stack ?? error.message}\n`);
        process.exit(1);
      },
    );
  });
  process.on("disconnect", () => process.exit(0));
}
