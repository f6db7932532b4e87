/** Rules in columns, as `iptables -L -n` of 1.8.9 shows them (print_header and print_firewall of iptables.c and ip6tables.c). */
import type { Family } from '../net/index.ts';
import type { Chain, DeviceName, MaskedAddress, Rule, Table } from './model.ts';
import { chainsInOrder } from './printer.ts';
import { formatMaskedAddress } from './text/address.ts';
import { formatDevice } from './text/device.ts';

export interface ListingOptions {
  /** `-v`: counters and devices. */
  readonly verbose?: boolean;
  /** `-x`: no K, M, G or T. */
  readonly exact?: boolean;
  /** `--line-numbers` */
  readonly numbered?: boolean;
}

const UNITS = ['', 'K', 'M', 'G', 'T'] as const;
/** Numbers up to these are shown whole, and in a larger unit. */
const LARGEST_WHOLE = 99_999n;
const LARGEST_IN_UNIT = 9_999n;
const ANY: Readonly<Record<Family, string>> = { ipv4: '0.0.0.0/0', ipv6: '::/0' };

/** xtables_print_num. */
function count(value: bigint, exact: boolean): string {
  if (exact) return String(value);
  let unit = 0;
  let shown = value;
  while (shown > (unit === 0 ? LARGEST_WHOLE : LARGEST_IN_UNIT) && unit < UNITS.length - 1) {
    shown = (shown + 500n) / 1000n;
    unit++;
  }
  return `${shown}${UNITS[unit]}`;
}

function device(wanted: DeviceName | undefined): string {
  if (wanted === undefined || (wanted.wildcard && wanted.name === '' && !wanted.negate)) return '*';
  return `${wanted.negate ? '!' : ''}${formatDevice(wanted)}`;
}

/** With the place of its "!" in front. */
function address(wanted: MaskedAddress | undefined, family: Family): string {
  if (wanted === undefined) return ` ${ANY[family].padEnd(19)} `;
  const not = wanted.negate ? '!' : ' ';
  const any = wanted.mask.every((byte) => byte === 0) && !wanted.negate;
  const full = formatMaskedAddress(wanted.address, wanted.mask).replace(/\/(32|128)$/, (length) =>
    length === (family === 'ipv4' ? '/32' : '/128') ? '' : length,
  );
  return `${not}${(any ? ANY[family] : full).padEnd(19)} `;
}

function targetName(rule: Rule): string {
  const { target } = rule;
  if (target === undefined) return '';
  return target.kind === 'verdict' ? target.verdict : target.kind === 'chain' ? target.chain : target.name;
}

function ruleLine(rule: Rule, number: number, family: Family, options: ListingOptions): string {
  const { base, target } = rule;
  const { protocol, fragment } = base;
  const context = { family, ...(protocol === undefined ? {} : { protocol }) };
  let text = options.numbered === true ? `${String(number).padEnd(4)} ` : '';
  if (options.verbose === true) {
    const width = options.exact === true ? 8 : 5;
    for (const value of [rule.counters.packets, rule.counters.bytes]) {
      text += `${count(value, options.exact === true).padStart(width)} `;
    }
  }
  text += `${targetName(rule).padEnd(9)} ${protocol?.negate === true ? '!' : ' '}`;
  text += `${String(protocol?.number ?? 0).padEnd(4)} `;
  text += `${fragment?.negate === true ? '!' : '-'}${fragment === undefined ? '-' : 'f'} `;
  if (options.verbose === true)
    text += ` ${device(base.inDevice).padEnd(6)} ${device(base.outDevice).padEnd(6)} `;
  text += address(base.source, family) + address(base.destination, family);
  if (target?.kind === 'chain' && target.goto) text += '[goto] ';
  for (const { extension, state } of rule.matches)
    text += extension.list?.(state, context) ?? extension.print(state, context);
  if (target?.kind === 'extension') {
    const { extension, state } = target;
    text += extension.list?.(state, context) ?? extension.print(state, context);
  }
  return `${text}\n`;
}

function header(options: ListingOptions): string {
  const number = options.numbered === true ? 'num  ' : '';
  const exact = options.exact === true;
  const titles = `${'pkts'.padStart(exact ? 8 : 5)} ${'bytes'.padStart(exact ? 10 : 5)} `;
  const counters = options.verbose === true ? titles : '';
  const devices = options.verbose === true ? ` ${'in'.padEnd(6)} ${'out'.padEnd(6)} ` : '';
  return `${number}${counters}${'target'.padEnd(9)}  prot opt${devices} ${'source'.padEnd(19)}  ${'destination'.padEnd(19)} \n`;
}

function chainHead(chain: Chain, references: number, options: ListingOptions): string {
  if (chain.policy === undefined) return `Chain ${chain.name} (${references} references)\n`;
  const { packets, bytes } = chain.counters;
  const exact = options.exact === true;
  const counters =
    options.verbose === true ? ` ${count(packets, exact)} packets, ${count(bytes, exact)} bytes` : '';
  return `Chain ${chain.name} (policy ${chain.policy}${counters})\n`;
}

/** All chains of a table, an empty line between two. */
export function listTable(table: Table, family: Family, options: ListingOptions = {}): string {
  const references = new Map<string, number>();
  for (const { rules } of table.chains)
    for (const { target } of rules)
      if (target?.kind === 'chain') references.set(target.chain, (references.get(target.chain) ?? 0) + 1);
  return chainsInOrder(table)
    .map(
      (chain) =>
        chainHead(chain, references.get(chain.name) ?? 0, options) +
        header(options) +
        chain.rules.map((rule, index) => ruleLine(rule, index + 1, family, options)).join(''),
    )
    .join('\n');
}
