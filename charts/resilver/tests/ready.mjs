// `helm test`: an operator is ready, and tells its metrics. Ends with what it saw.
const { OPERATOR_HOST, HEALTH_PORT, METRICS_PORT } = process.env;

/** The page's text; tried until it is there, for at most a minute. */
async function page(port, path) {
  const url = `http://${OPERATOR_HOST}:${port}${path}`;
  const deadline = Date.now() + 60_000;
  for (;;) {
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(5_000) });
      const text = await answer.text();
      if (answer.ok) return text;
      throw new Error(`${answer.status}: ${text.trim()}`);
    } catch (error) {
      const why = error.cause?.message ?? error.message;
      if (Date.now() > deadline) throw new Error(`${url}: ${why}`);
      console.log(`waiting: ${url}: ${why}`);
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
  }
}

await page(HEALTH_PORT, "/readyz");
console.log("the operator is ready: it has seen all stores");
const metrics = await page(METRICS_PORT, "/metrics");
if (!metrics.includes("leader_election_master_status")) {
  throw new Error("/metrics says nothing of leader election");
}
console.log("the operator tells its metrics");
