/** The measurements as a page: docs/performance/iptables.md. */
export interface CallTimes {
  readonly measure: string;
  readonly kernelMs: number;
  /** Under `exec --engine netstack`: tables live in user space. */
  readonly netstackMs: number;
  /** Under `exec`: rules are live at netfilter. */
  readonly liveMs: number;
}

export function page(results: readonly CallTimes[]): string {
  const rows = results.map(({ measure, kernelMs, netstackMs, liveMs }) => {
    const ratio = (ms: number): string => (ms / kernelMs).toFixed(2);
    const cells = [measure, kernelMs, netstackMs, ratio(netstackMs), liveMs, ratio(liveMs)];
    return `| ${cells.join(' | ')} |`;
  });
  return [
    '# What the iptables binary takes under Sluice',
    '',
    '`npm run bench iptables`, as root: the same script of iptables-legacy commands against the kernel, under',
    '`sluice exec --engine netstack`, and under `sluice exec` with rules live at netfilter, in turns; milliseconds of the fastest',
    'turn, and the multiple of the kernel’s. Times are taken in the script: the start of `sluice` is not in them. One run on one',
    'machine ([iptables.json](iptables.json)).',
    '',
    '| what | kernel, ms | user space, ms | ÷ kernel | live, ms | ÷ kernel |',
    '|---|--:|--:|--:|--:|--:|',
    ...rows,
    '',
    'Live, the first changes of up to 200 rules compile and verify them anew; after four, and above 200, rules are edited into tables, and what',
    'is left is the binary’s own: it reads and writes the whole table for each rule, here as against the kernel.',
    '',
  ].join('\n');
}
