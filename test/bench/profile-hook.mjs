/**
 * Loaded into every process of a measured store: the first SIGUSR2 starts a CPU profile, the second
 * ends it and writes it to BENCH_PROFILE_DIR/PID.cpuprofile.
 */
import { renameSync, writeFileSync } from "node:fs";
import { Session } from "node:inspector";

const session = new Session();
session.connect();
let running = false;
process.on("SIGUSR2", () => {
  if (!running) {
    running = true;
    session.post("Profiler.enable");
    session.post("Profiler.setSamplingInterval", { interval: 500 });
    session.post("Profiler.start");
    return;
  }
  running = false;
  session.post("Profiler.stop", (error, result) => {
    if (error !== null) throw error;
    const path = `${process.env.BENCH_PROFILE_DIR}/${process.pid}.cpuprofile`;
    writeFileSync(`${path}.new`, JSON.stringify(result.profile));
    renameSync(`${path}.new`, path);
  });
});
