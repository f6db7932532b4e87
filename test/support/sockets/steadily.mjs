/** What clients that put a steady load on a host have in common. */
const TICK_MS = 5;
/** Behind schedule after a pause: not all at once, or the accept queue would be what is tested. */
const LONGEST_BURST = 40;

/**
 * Begins `rate` flows a second for `seconds`, or until SIGTERM, and then waits for those that are open. `begin(number, nowMs)`
 * gives an open flow or `undefined`; `harvest(flow, nowMs)` is called at every tick until it says false. Prints "started", and
 * at the end, as JSON, how many were made, how many in each whole second, and what `told()` adds.
 */
export function beginSteadily({ rate, seconds, begin, harvest, told }) {
  const start = performance.now();
  let stopMs = seconds * 1000;
  process.on('SIGTERM', () => {
    stopMs = Math.min(stopMs, performance.now() - start);
  });
  const begun = [];
  let made = 0;
  let open = [];
  process.stdout.write('started\n');
  const timer = setInterval(() => {
    const nowMs = performance.now() - start;
    const due = Math.floor((Math.min(nowMs, stopMs) * rate) / 1000);
    for (let burst = 0; nowMs < stopMs && made < due && burst < LONGEST_BURST; burst++) {
      const flow = begin(made++, nowMs);
      if (flow !== undefined) open.push(flow);
      const second = Math.floor(nowMs / 1000);
      begun[second] = (begun[second] ?? 0) + 1;
    }
    open = open.filter((flow) => harvest(flow, nowMs));
    if (nowMs < stopMs || open.length > 0) return;
    clearInterval(timer);
    const perSecond = Array.from({ length: Math.floor(stopMs / 1000) }, (_, second) => begun[second] ?? 0);
    process.stdout.write(`${JSON.stringify({ made, perSecond, ...told() })}\n`);
  }, TICK_MS);
}

/** Adds one to what is counted under a key. */
export function count(table, key) {
  table[key] = (table[key] ?? 0) + 1;
}
