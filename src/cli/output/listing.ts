/** Live rules as tables: chains, counters, targets and addresses in the columns of `iptables -L -v -n`. */
import { chainsInOrder, formatProtocol, printRule, type Rule, type Ruleset } from '../../rules/index.ts';

const UNITS = ['', 'K', 'M', 'G', 'T'] as const;
/** iptables shows more than five digits in thousands. */
const LARGEST_SHOWN = 99_999n;

function short(value: bigint, exact: boolean): string {
  let unit = 0;
  let shown = value;
  while (!exact && shown > LARGEST_SHOWN && unit < UNITS.length - 1) {
    shown = (shown + 500n) / 1000n;
    unit++;
  }
  return `${shown}${UNITS[unit]}`;
}

/** The columns of one rule, and what the columns do not say. */
function columnsOf(rule: Rule, chain: string, family: Ruleset['family']): { cells: string[]; rest: string } {
  const any = family === 'ipv4' ? '0.0.0.0/0' : '::/0';
  const words = printRule(rule, chain, family).split(' ').slice(2);
  const taken: Record<string, string> = {};
  const rest: string[] = [];
  const base = new Set(['-s', '-d', '-i', '-o', '-p']);
  for (let at = 0; at < words.length; at++) {
    const negated = words[at] === '!' && base.has(words[at + 1] ?? '');
    const option = words[negated ? at + 1 : at]!;
    const inBase = rest.length === 0 && (base.has(option) || option === '-f');
    if (!inBase || option === '-f') {
      rest.push(words[at]!);
      continue;
    }
    const value = words[at + (negated ? 2 : 1)] ?? '';
    taken[option] = negated ? `!${value}` : value;
    at += negated ? 2 : 1;
  }
  const target = rest.findIndex((word) => word === '-j' || word === '-g');
  const name = target < 0 ? '' : (rest[target + 1] ?? '');
  if (target >= 0) rest.splice(target, 2, ...(rest[target] === '-g' ? ['[goto]'] : []));
  const protocol = rule.base.protocol;
  const proto =
    protocol === undefined ? 'all' : `${protocol.negate ? '!' : ''}${formatProtocol(protocol.number)}`;
  const fragment = rule.base.fragment === undefined ? '--' : rule.base.fragment.negate ? '!f' : '-f';
  const cells = [
    name,
    proto,
    fragment,
    taken['-i'] ?? '*',
    taken['-o'] ?? '*',
    taken['-s'] ?? any,
    taken['-d'] ?? any,
  ];
  return { cells, rest: rest.join(' ') };
}

export interface ListingOptions {
  /** Counters and devices. */
  readonly verbose: boolean;
  /** No K, M or G. */
  readonly exact: boolean;
}

export function listingText(rulesets: readonly Ruleset[], options: ListingOptions): string {
  const parts: string[] = [];
  for (const { family, tables } of rulesets) {
    for (const table of tables) {
      parts.push(`# ${family} ${table.name}\n`);
      for (const chain of chainsInOrder(table)) {
        const { packets, bytes } = chain.counters;
        const counts = `${short(packets, options.exact)} packets, ${short(bytes, options.exact)} bytes`;
        const policy =
          chain.policy === undefined
            ? `user chain, ${chain.rules.length} rules`
            : `policy ${chain.policy}${options.verbose ? ` ${counts}` : ''}`;
        const rows = chain.rules.map((rule) => {
          const { cells, rest } = columnsOf(rule, chain.name, family);
          const [target = '', proto = '', fragment = '', input = '', output = '', source = '', to = ''] =
            cells;
          const text = options.verbose
            ? [
                short(rule.counters.packets, options.exact).padStart(8),
                short(rule.counters.bytes, options.exact).padStart(8),
                target.padEnd(10),
                proto.padEnd(5),
                fragment.padEnd(3),
                input.padEnd(6),
                output.padEnd(6),
                source.padEnd(20),
                to.padEnd(20),
                rest,
              ]
            : [
                target.padEnd(10),
                proto.padEnd(5),
                fragment.padEnd(3),
                source.padEnd(20),
                to.padEnd(20),
                rest,
              ];
          return `${text.join(' ').trimEnd()}\n`;
        });
        const head = options.verbose
          ? '    pkts    bytes target     prot  opt in     out    source               destination\n'
          : 'target     prot  opt source               destination\n';
        parts.push(`Chain ${chain.name} (${policy})\n${head}${rows.join('')}\n`);
      }
    }
  }
  return parts.join('');
}
