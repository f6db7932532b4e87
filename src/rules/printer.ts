/** Rules as iptables-save 1.8.9 prints them (print_rule4, print_rule6 and do_output of iptables-save.c). */
import type { Family } from '../net/index.ts';
import type { BaseMatch, Chain, Counters, DeviceName, MaskedAddress, Rule, Ruleset, Table } from './model.ts';
import { formatProtocol } from './names/protocols.ts';
import { builtinChains } from './tables.ts';
import { formatMaskedAddress } from './text/address.ts';
import { formatDevice } from './text/device.ts';

export interface PrintOptions {
  /** `[packets:bytes]` before each rule and the policies' real counters, as `iptables-save -c`. */
  readonly counters?: boolean;
}

function printAddress(letter: string, match: MaskedAddress | undefined, family: Family): string {
  if (match === undefined) return '';
  const any =
    match.mask.every((byte) => byte === 0) &&
    (family === 'ipv6' || match.address.every((byte) => byte === 0));
  if (any && !match.negate) return '';
  return `${match.negate ? ' !' : ''} -${letter} ${formatMaskedAddress(match.address, match.mask)}`;
}

function printDevice(letter: string, device: DeviceName | undefined): string {
  if (device === undefined || (device.wildcard && device.name === '' && !device.negate)) return '';
  return `${device.negate ? ' !' : ''} -${letter} ${formatDevice(device)}`;
}

function printBase(base: BaseMatch, family: Family): string {
  let text =
    printAddress('s', base.source, family) +
    printAddress('d', base.destination, family) +
    printDevice('i', base.inDevice) +
    printDevice('o', base.outDevice);
  if (base.protocol !== undefined && base.protocol.number !== 0)
    text += `${base.protocol.negate ? ' !' : ''} -p ${formatProtocol(base.protocol.number)}`;
  if (base.fragment !== undefined) text += `${base.fragment.negate ? ' !' : ''} -f`;
  return text;
}

/** "-A CHAIN …", one line without its end. */
export function printRule(rule: Rule, chain: string, family: Family): string {
  const context = {
    family,
    ...(rule.base.protocol === undefined ? {} : { protocol: rule.base.protocol }),
  };
  let text = `-A ${chain}${printBase(rule.base, family)}`;
  for (const match of rule.matches) text += ` -m ${match.name}${match.extension.print(match.state, context)}`;
  const target = rule.target;
  if (target === undefined) return text;
  switch (target.kind) {
    case 'verdict':
      return `${text} -j ${target.verdict}`;
    case 'chain':
      return `${text} -${target.goto ? 'g' : 'j'} ${target.chain}`;
    case 'extension':
      return `${text} -j ${target.name}${target.extension.print(target.state, context)}`;
  }
}

/** "[packets:bytes]". */
export function printCounters(counters: Counters): string {
  return `[${counters.packets}:${counters.bytes}]`;
}

/** Built-in chains in hook order, then user chains by name: the order libiptc keeps. */
export function chainsInOrder(table: Table): readonly Chain[] {
  const builtin = builtinChains(table.name);
  const rank = (chain: Chain): number => {
    const index = builtin.indexOf(chain.name);
    return index < 0 ? builtin.length : index;
  };
  return [...table.chains].sort(
    (a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  );
}

/** One table from "*name" to "COMMIT", each line ended. */
export function printTable(table: Table, family: Family, options: PrintOptions = {}): string {
  const chains = chainsInOrder(table);
  const lines = [`*${table.name}`];
  for (const chain of chains) {
    const counters = options.counters === true ? printCounters(chain.counters) : '[0:0]';
    lines.push(`:${chain.name} ${chain.policy ?? '-'} ${chain.policy === undefined ? '[0:0]' : counters}`);
  }
  for (const chain of chains) {
    for (const rule of chain.rules) {
      const lead = options.counters === true ? `${printCounters(rule.counters)} ` : '';
      lines.push(lead + printRule(rule, chain.name, family));
    }
  }
  lines.push('COMMIT');
  return `${lines.join('\n')}\n`;
}

/** All tables in the order of the ruleset. */
export function printRuleset(ruleset: Ruleset, options: PrintOptions = {}): string {
  return ruleset.tables.map((table) => printTable(table, ruleset.family, options)).join('');
}
