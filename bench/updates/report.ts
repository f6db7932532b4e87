/** The measurements as a page: docs/performance/updates.md. */
export interface Times {
  /** Rules in the chain, or addresses in the set. */
  readonly size: number;
  readonly of: 'rules' | 'addresses';
  readonly subject: string;
  readonly medianMs: number;
  readonly meanMs: number;
  readonly p99Ms: number;
  readonly slowestMs: number;
}

export function page(times: readonly Times[]): string {
  const rows = (of: Times['of']): string[] =>
    times
      .filter((one) => one.of === of)
      .map(({ size, subject, medianMs, meanMs, p99Ms, slowestMs }) =>
        row(size.toLocaleString('en'), subject, ...[medianMs, meanMs, p99Ms, slowestMs].map(milliseconds)),
      );
  const table = (of: Times['of'], head: string): string[] => [
    row(head, 'who', 'median', 'mean', '99th percentile', 'slowest'),
    '|--:|---|--:|--:|--:|--:|',
    ...rows(of),
    '',
  ];
  return [
    '# What one change of live rules costs',
    '',
    '`npm run bench updates`, as root, about two minutes; one run on one machine (`updates.json`). Milliseconds of wall clock, who stands',
    'in one row takes turns with the others of its size. "In the process" is a process that keeps the policy open; all others are',
    'commands, whose start counts, too.',
    '',
    'One rule put in or taken out, at places all over a chain:',
    '',
    ...table('rules', 'rules'),
    'One address added to a set:',
    '',
    ...table('addresses', 'addresses'),
    'How rules change in place: [classifier.md](../classifier.md#changes).',
    '',
  ].join('\n');
}

function milliseconds(value: number): string {
  return value >= 10 ? value.toFixed(0) : value.toFixed(2);
}

const row = (...cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
