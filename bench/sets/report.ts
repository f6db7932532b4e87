/** The measurements as a page: docs/performance/sets.md. */
export interface SetCost {
  readonly entries: number;
  readonly name: string;
  /** Of a packet as a whole, and what is above that of the bare stack. */
  readonly packetNs: number;
  readonly addedNs: number;
  /** From text to live, rules and commands included. */
  readonly loadMs: number;
  /** Of that, reading the text. */
  readonly readMs?: number;
  /** Of the set alone. */
  readonly bytes?: number;
  /** One address added or deleted, by a process that holds the lock. */
  readonly changeUs?: number;
}

/** Who stands in no row of a size: its command did not end in time. */
function leftOut(costs: readonly SetCost[]): string[] {
  const has = (entries: number, name: string): boolean =>
    costs.some((cost) => cost.entries === entries && cost.name === name);
  const sizes = [...new Set(costs.map(({ entries }) => entries))];
  return ['ipset', 'nft set'].flatMap((name) =>
    sizes
      .filter((entries) => !has(entries, name))
      .map((entries) => `${name} with ${entries.toLocaleString('en')} entries`),
  );
}

export function page(costs: readonly SetCost[]): string {
  const missing = leftOut(costs);
  const rows = costs
    .filter(({ name }) => name !== 'bare')
    .map(({ entries, name, addedNs, loadMs, readMs, bytes, changeUs }) =>
      row(
        entries.toLocaleString('en'),
        name,
        addedNs.toFixed(0),
        loadMs.toFixed(0),
        readMs?.toFixed(0) ?? '',
        bytes === undefined ? '' : (bytes / 1024).toFixed(0),
        changeUs?.toFixed(1) ?? '',
      ),
    );
  return [
    '# What sets cost',
    '',
    '`npm run bench sets`, as root: one rule `-m set --match-set s src` over a `hash:ip` of IPv4 addresses, against ipset under',
    'iptables-legacy and a set of nftables, at INPUT, half of the flows in the set; rounds interleaved, the 10th percentile of each',
    'one’s less that of the bare stack. One run on one machine (`sets.json`).',
    '',
    row(
      'entries',
      'who',
      'added, ns a packet',
      'from text to live, ms',
      'of that reading the text, ms',
      'memory, KiB',
      'one change, us',
    ),
    '|--:|---|--:|--:|--:|--:|--:|',
    ...rows,
    '',
    'A look-up is one line of memory whatever the number of entries; at a million that line is in no cache. One change is an address',
    'added or deleted by a process that holds the lock.',
    ...(missing.length > 0 ? [`Commands that did not end within their minute: ${missing.join(', ')}.`] : []),
    '',
  ].join('\n');
}

const row = (...cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
