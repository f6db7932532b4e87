/**
 * Real rulesets of the shared data, the largest of each shape: a list of address prefixes, a list of pairs of source and
 * Ethernet address, and a router's dispatch over some ninety chains.
 */

import { xorshift } from '../../test/support/xorshift.ts';
import type { Flow } from './generator.ts';
import {
  FLOW_COUNT,
  INPUT,
  inputRules,
  isUsable,
  nftRules,
  nftSetRules,
  readShared,
  type Scenario,
} from './scenario.ts';

const LIST = 'rulesets/allequalit+defense/rules.v4';
const ROUTER =
  'rulesets/net-network/configs_chair_for_Network_Architectures_and_Services__iptables-save-2016-03-16_13-53-28';
/** The router's devices whose chains are longest: pairs for what comes in at the first, ports for what leaves by the second. */
const DEVICES = ['eth1.1019', 'eth1.109'] as const;
const PAIRS = 'mac_1019';
const OUTWARD = 'filter_109';
/** What the file's Ethernet addresses have been replaced by. */
const MASKED = 'XX:XX:XX:XX:XX:XX';
const NOT_SUPPORTED = /-m recent /;
const TARGET = 0x0a000001;

export function realRulesets(): (Scenario | undefined)[] {
  const list = readShared(LIST);
  const router = readShared(ROUTER);
  return [
    list === undefined ? undefined : prefixList(list),
    ...(router === undefined ? [] : [pairList(withAddresses(router)), dispatch(withAddresses(router))]),
  ];
}

const rulesOf = (text: string, chain: string): string[] =>
  text.split('\n').filter((line) => line.startsWith(`-A ${chain} `));
const optionOf = (rule: string, option: string): string | undefined =>
  rule.split(` ${option} `)[1]?.split(' ')[0];
const random = xorshift(5);
const pick = <T>(from: readonly T[]): T => from[random() % from.length]!;

function parsePrefix(text: string): { address: number; length: number } {
  const [address = '', length = '32'] = text.split('/');
  return {
    address: address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0),
    length: Number(length),
  };
}

/** An address of the prefix. */
function within(text: string): number {
  const { address, length } = parsePrefix(text);
  return length === 32 ? address : (address + (random() & (2 ** (32 - length) - 1))) >>> 0;
}

/** The file as it is: thousands of prefixes accepted in PREROUTING of the table mangle, all others dropped. */
function prefixList(text: string): Scenario {
  const rules = rulesOf(text, 'PREROUTING');
  const sources = rules.map((rule) => optionOf(rule, '-s')).filter((one) => one !== undefined);
  const usable = sources.filter((one) => isUsable(parsePrefix(one).address));
  const flows = Array.from({ length: FLOW_COUNT }, () => ({
    source: within(pick(usable)),
    destination: TARGET,
    protocol: 17,
    sourcePort: random() & 0xffff,
    destinationPort: random() & 0xffff,
  }));
  return {
    family: 'real',
    name: 'real: prefixes',
    rules: rules.length,
    place: { table: 'mangle', hook: 0 },
    save: text,
    flows,
    nftSet: nftSetRules(
      'ipv4_addr; flags interval; auto-merge',
      sources,
      'meta l4proto icmp counter drop; ip saddr @listed counter accept; counter drop',
      'type filter hook prerouting priority -150;',
    ),
  };
}

/** The file does not tell its Ethernet addresses: each pair gets one made of its source. */
function withAddresses(text: string): string {
  return text
    .split('\n')
    .filter((line) => !NOT_SUPPORTED.test(line))
    .map((line) => (line.includes(MASKED) ? line.replace(MASKED, macText(optionOf(line, '-s')!)) : line))
    .join('\n');
}

const macText = (source: string): string =>
  [...macOf(source)].map((byte) => byte.toString(16).padStart(2, '0')).join(':');

function macOf(source: string): Uint8Array {
  const { address } = parsePrefix(source);
  return Uint8Array.of(2, 0, address >>> 24, address >>> 16, address >>> 8, address);
}

function pairFlow(rule: string, to: Omit<Flow, 'source' | 'mac'>): Flow {
  const source = optionOf(rule, '-s')!;
  return { ...to, mac: macOf(source), source: within(source) };
}

/** One of the router's chains by itself: pairs return, all others are dropped. */
function pairList(text: string): Scenario {
  const rules = rulesOf(text, PAIRS);
  const pairs = rules.filter((rule) => rule.includes('--mac-source'));
  const words = rules.map((rule) => rule.slice(`-A ${PAIRS} `.length).replace('-j RETURN', '-j ACCEPT'));
  const elements = new Set(
    pairs.map((rule) => `${optionOf(rule, '--mac-source')} . ${optionOf(rule, '-s')!.replace('/32', '')}`),
  );
  return {
    family: 'real',
    name: 'real: pairs of source and Ethernet address',
    rules: rules.length,
    place: INPUT,
    save: inputRules(words),
    devices: DEVICES,
    flows: Array.from({ length: FLOW_COUNT }, () =>
      pairFlow(pick(pairs), {
        destination: TARGET,
        protocol: 17,
        sourcePort: random() & 0xffff,
        destinationPort: 53,
      }),
    ),
    nftLinear: nftRules(rules.map(nftPair)),
    nftSet: nftSetRules(
      'ether_addr . ipv4_addr',
      [...elements],
      'ether saddr . ip saddr @listed counter accept; counter drop',
    ),
  };
}

function nftPair(rule: string): string {
  const [source, mac] = [optionOf(rule, '-s'), optionOf(rule, '--mac-source')];
  const words = [mac && `ether saddr ${mac}`, source && `ip saddr ${source}`, 'counter'];
  return [...words, rule.includes('-j DROP') ? 'drop' : 'accept']
    .filter((word) => word !== undefined)
    .join(' ');
}

/** The router's whole table filter: by device to the pairs, to the ranges, to the ports of the way out. */
function dispatch(text: string): Scenario {
  const table = text.slice(text.indexOf('*filter'));
  const pairs = rulesOf(text, PAIRS).filter((rule) => rule.includes('--mac-source'));
  const ports = rulesOf(text, OUTWARD).filter(
    (rule) => /^\d/.test(optionOf(rule, '-d') ?? '') && /-p (tcp|udp) /.test(rule),
  );
  const flows = Array.from({ length: FLOW_COUNT }, () => {
    const rule = pick(ports);
    const port = (optionOf(rule, '--dport') ?? optionOf(rule, '--dports') ?? '1024').split(/[,:]/)[0];
    return pairFlow(pick(pairs), {
      destination: within(optionOf(rule, '-d')!),
      protocol: optionOf(rule, '-p') === 'tcp' ? 6 : 17,
      sourcePort: 1024 + (random() & 0x7fff),
      destinationPort: Number(port),
    });
  });
  return {
    family: 'real',
    name: 'real: a router’s dispatch',
    rules: table.split('\n').filter((line) => line.startsWith('-A ')).length,
    place: { table: 'filter', hook: 2 },
    save: `${table.trim()}\n`,
    devices: DEVICES,
    conntrack: true,
    flows,
  };
}
