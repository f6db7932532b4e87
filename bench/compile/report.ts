/** The measurements as a Markdown table: a line for each subject, a column for each number of rules. */
export interface Measured {
  readonly rules: number;
  readonly subject: string;
  /** What the rules add to a packet; of programs that are timed by themselves, all they take. */
  readonly addedNs: number;
  /** A packet's way without rules. */
  readonly bareNs: number;
  readonly compileMs?: number;
  readonly loadMs: number;
  readonly instructions?: number;
}

export function table(measured: readonly Measured[]): string {
  const counts = [...new Set(measured.map(({ rules }) => rules))];
  const subjects = [...new Set(measured.map(({ subject }) => subject))];
  const iptables = new Map(
    measured
      .filter(({ subject }) => subject === 'iptables-legacy')
      .map(({ rules, addedNs }) => [rules, addedNs]),
  );
  const rows = subjects.map((subject) => {
    const own = measured.filter((one) => one.subject === subject);
    const last = own.at(-1)!;
    const number = (value: number | undefined, digits: number): string => value?.toFixed(digits) ?? '';
    return [
      subject,
      ...own.map(({ addedNs }) => number(addedNs, 0)),
      ...own.map(({ rules, addedNs }) => number(addedNs / iptables.get(rules)!, 2)),
      number(last.instructions, 0),
      number(last.compileMs, 1),
      number(last.loadMs, 1),
    ].join(' | ');
  });
  const most = counts.at(-1);
  return [
    '# A packet’s cost by hook',
    '',
    'Rules as code (`inline`) at each hook, iptables-legacy and nft at INPUT: nanoseconds added to a packet against the same',
    'namespace without rules, and the same divided by what iptables-legacy adds. Packets match random rules, are accepted by',
    'them and end in the same place. xdp is in generic mode, and asks the routing tables whom the packet is for, as tcx does.',
    'cgroup-ingress is the program alone, timed by test runs. 10th percentile of interleaved rounds, one run on one machine',
    '(`compile.json`). Compile and load are of the last column’s rules; loading is the verifier’s and the process’s that sets up.',
    'Made by `npm run bench compile`, which needs root.',
    '',
    `who | ${counts.map((count) => `${count} rule${count === 1 ? '' : 's'}, ns`).join(' | ')} | ${counts
      .map((count) => `${count} ÷ iptables`)
      .join(' | ')} | instructions at ${most} | compile ms | load ms`,
    `---${'|--:'.repeat(counts.length * 2 + 3)}`,
    ...rows,
    '',
  ].join('\n');
}
