/** The measurements as a page: docs/performance/apply.md. */
import type { Measured } from '../compile/report.ts';

export interface ApplyTimes {
  readonly rules: number;
  /** The whole of `apply` where nothing was live, in one process. */
  readonly applyMs: number;
  /** The same with one rule more, while the others are live. */
  readonly replaceMs: number;
  /** The stores that put a generation in force. */
  readonly commitUs: number;
  readonly commitMedianUs: number;
}

export function page(times: readonly ApplyTimes[], hooks: readonly Measured[]): string {
  const rows = times.map(({ rules, applyMs, replaceMs, commitUs, commitMedianUs }) =>
    row(
      rules.toLocaleString('en'),
      applyMs.toFixed(0),
      replaceMs.toFixed(0),
      commitUs.toFixed(1),
      commitMedianUs.toFixed(1),
    ),
  );
  const added = (name: string): number => hooks.find(({ subject }) => subject === name)!.addedNs;
  const byHook = hooks.map(({ subject, addedNs }) =>
    row(
      subject,
      addedNs.toFixed(0),
      (addedNs / added('iptables-legacy')).toFixed(2),
      (addedNs / added('nft')).toFixed(2),
    ),
  );
  return [
    '# What making rules live costs',
    '',
    '`npm run bench apply`, as root, about two minutes; one run on one machine (`apply.json`).',
    '',
    'At netfilter, in one process, the 10th percentile of the turns: the whole of `apply` where nothing was live before; the same',
    'with one rule more while the others are live; and the store that commits.',
    '',
    ...table(['rules', 'apply, ms', 'one rule more, ms', 'commit, us', 'commit, median us'], rows),
    '',
    'Of 1,000 rules and more half is the kernel’s verification of the program that walks tables, some 0.3 s once: not again for one rule more.',
    '',
    'Where the time of ten rules goes: compiling, one or two grace periods of RCU (8 to 16 ms each), and little else. A policy of the',
    'filter tables alone waits for one: no packet meets it twice, so that nothing has to be noted before the commit. Namespaces are',
    'looked for by their names; only for one that does not answer to its name are all threads of the machine asked.',
    '',
    `What ${hooks[0]!.rules} rules add to a packet at each hook, in nanoseconds against the bare stack (${hooks[0]!.bareNs.toFixed(0)} ns), and as a multiple of what`,
    'iptables-legacy and nft add at INPUT in the same run. xdp is in generic mode, cgroup-ingress the program alone, timed by test',
    'runs. More numbers of rules: [compile.md](compile.md).',
    '',
    ...table(['who', 'added, ns', '÷ iptables-legacy', '÷ nft'], byHook),
    '',
  ].join('\n');
}

const row = (...cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

function table(heads: readonly string[], rows: readonly string[]): string[] {
  return [row(...heads), row(...heads.map((_, column) => (column === 0 ? '---' : '--:'))), ...rows];
}
