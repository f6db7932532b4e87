/** The measurements as a page: docs/performance/sets.md. */
export interface SetCost {
  readonly entries: number;
  readonly name: string;
  /** Of a packet as a whole, and what is above that of the bare stack. */
  readonly packetNs: number;
  readonly addedNs: number;
  /** From text to live, rules and commands included. */
  readonly loadMs: number;
  /** Of the set alone. */
  readonly bytes?: number;
  /** One address added or deleted, by a process that holds the lock. */
  readonly changeUs?: number;
}

export function page(costs: readonly SetCost[]): string {
  const rows = costs
    .filter(({ name }) => name !== 'bare')
    .map(({ entries, name, addedNs, loadMs, bytes, changeUs }) =>
      row(
        entries.toLocaleString('en'),
        name,
        addedNs.toFixed(0),
        loadMs.toFixed(0),
        bytes === undefined ? '' : (bytes / 1024).toFixed(0),
        changeUs?.toFixed(1) ?? '',
      ),
    );
  return [
    '# What sets cost',
    '',
    '`npm run bench sets`, as root: one rule `-m set --match-set s src` over a `hash:ip` of IPv4 addresses, against ipset under',
    'iptables-legacy and a set of nftables, at INPUT, half of the flows in the set; rounds interleaved, the 10th percentile of each',
    'one’s less that of the bare stack. One run on one machine (`sets.json`). A rival whose command does not end within its minute is',
    'left out.',
    '',
    row('entries', 'who', 'added, ns a packet', 'from text to live, ms', 'memory, KiB', 'one change, us'),
    '|--:|---|--:|--:|--:|--:|',
    ...rows,
    '',
    'A look-up is one line of memory whatever the number of entries; at a million that line is in no cache. A million lines of',
    '`ipset save` were read in 2.3 s and written to memory in 1.7 s, measured alone.',
    '',
  ].join('\n');
}

const row = (...cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
