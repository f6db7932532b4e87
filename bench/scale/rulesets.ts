/** Rulesets of each size, and flows that hit their rules: ClassBench sets, and lists of addresses. */
import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { Flow } from './generator.ts';

/** What a filter rule asks for; ranges inclusive. */
export interface FilterRule {
  readonly source: string;
  readonly destination: string;
  /** 0: any */
  readonly protocol: number;
  readonly sourcePorts: readonly [number, number];
  readonly destinationPorts: readonly [number, number];
}

export interface Scenario {
  readonly name: string;
  readonly rules: readonly FilterRule[];
  readonly flows: readonly Flow[];
  /** Every rule asks for a source address alone: an nft set can say the same. */
  readonly isList: boolean;
}

export const FLOW_COUNT = 4096;
const ANY: readonly [number, number] = [0, 0xffff];
const DATA = new URL('../../../shared/data/classbench/', import.meta.url);

function xorshift(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** A unicast address that a host may send from and be sent to. */
function isUsable(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

const text = (address: number): string =>
  [address >>> 24, (address >>> 16) & 255, (address >>> 8) & 255, address & 255].join('.');

/** `count` distinct addresses, all dropped; every flow comes from one of them. */
export function addressList(count: number): Scenario {
  const random = xorshift(count + 1);
  const addresses = new Set<number>();
  while (addresses.size < count) {
    const address = random();
    if (isUsable(address)) addresses.add(address);
  }
  const all = [...addresses];
  const rules = all.map((address) => ({
    source: `${text(address)}/32`,
    destination: '0.0.0.0/0',
    protocol: 0,
    sourcePorts: ANY,
    destinationPorts: ANY,
  }));
  const flows = Array.from({ length: FLOW_COUNT }, () => ({
    source: all[random() % count]!,
    destination: 0x0a000001,
    protocol: 17,
    sourcePort: random() & 0xffff,
    destinationPort: random() & 0xffff,
  }));
  return { name: `addresses ${count}`, rules, flows, isList: true };
}

function read(name: string): string | undefined {
  const plain = new URL(name, DATA);
  if (existsSync(plain)) return readFileSync(plain, 'utf8');
  const packed = new URL(`${name}.gz`, DATA);
  return existsSync(packed) ? gunzipSync(readFileSync(packed)).toString() : undefined;
}

/** A ClassBench set with the flows of its trace; `undefined` where the data is not there. */
export function classBench(name: string): Scenario | undefined {
  const filters = read(name);
  const trace = read(`${name}_trace`);
  if (filters === undefined || trace === undefined) return undefined;
  const rules = filters
    .split('\n')
    .filter((line) => line.startsWith('@'))
    .map((line) => {
      const [source = '', destination = '', sports = '', dports = '', protocol = ''] = line
        .slice(1)
        .split('\t');
      const range = (ports: string): [number, number] => {
        const [min = 0, max = 0] = ports.split(':').map(Number);
        return [min, max];
      };
      const [value = 0, mask = 0] = protocol.split('/').map(Number);
      return {
        source,
        destination,
        protocol: mask === 0 ? 0 : value,
        sourcePorts: range(sports),
        destinationPorts: range(dports),
      };
    });
  const candidates = trace
    .trim()
    .split('\n')
    .map((line) => line.split(/\s+/).map(Number))
    .filter(([source = 0, destination = 0]) => isUsable(source) && isUsable(destination))
    .map(([source = 0, destination = 0, sourcePort = 0, destinationPort = 0, protocol = 0]) => ({
      source,
      destination,
      sourcePort,
      destinationPort,
      protocol,
    }));
  const random = xorshift(17);
  const flows = Array.from({ length: FLOW_COUNT }, () => candidates[random() % candidates.length]!);
  return { name: `ClassBench ${name}`, rules, flows, isList: false };
}

/** iptables-save text: all rules in INPUT, every other one accepts (lists drop), the policy accepts. */
export function saveText({ rules, isList }: Scenario): string {
  const lines = ['*filter', ':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]'];
  for (const [index, rule] of rules.entries()) {
    const words = ['-A INPUT'];
    if (!rule.source.endsWith('/0')) words.push(`-s ${rule.source}`);
    if (!rule.destination.endsWith('/0')) words.push(`-d ${rule.destination}`);
    if (rule.protocol !== 0) words.push(`-p ${rule.protocol}`);
    const match = rule.protocol === 6 ? 'tcp' : rule.protocol === 17 ? 'udp' : undefined;
    const ports = (option: string, [min, max]: readonly [number, number]): string[] =>
      match === undefined || (min === 0 && max === 0xffff) ? [] : [`${option} ${min}:${max}`];
    const options = [...ports('--sport', rule.sourcePorts), ...ports('--dport', rule.destinationPorts)];
    if (options.length > 0) words.push(`-m ${match}`, ...options);
    words.push(isList || index % 2 === 1 ? '-j DROP' : '-j ACCEPT');
    lines.push(words.join(' '));
  }
  return `${lines.join('\n')}\nCOMMIT\n`;
}

/** The same rules for nft, one behind the other. */
export function nftText({ rules, isList }: Scenario): string {
  const lines = rules.map((rule, index) => {
    const words: string[] = [];
    if (!rule.source.endsWith('/0')) words.push(`ip saddr ${rule.source}`);
    if (!rule.destination.endsWith('/0')) words.push(`ip daddr ${rule.destination}`);
    const match = rule.protocol === 6 ? 'tcp' : rule.protocol === 17 ? 'udp' : undefined;
    if (rule.protocol !== 0) words.push(`meta l4proto ${rule.protocol}`);
    const ports = (option: string, [min, max]: readonly [number, number]): void => {
      if (match === undefined || (min === 0 && max === 0xffff)) return;
      words.push(`${match} ${option} ${min === max ? min : `${min}-${max}`}`);
    };
    ports('sport', rule.sourcePorts);
    ports('dport', rule.destinationPorts);
    words.push('counter', isList || index % 2 === 1 ? 'drop' : 'accept');
    return `    ${words.join(' ')}`;
  });
  return `table ip bench {\n  chain input {\n    type filter hook input priority 0;\n${lines.join('\n')}\n  }\n}\n`;
}

/** An address list as a set, which is how one would write it for nft by hand. */
export function nftSetText({ rules }: Scenario): string {
  const elements = rules.map(({ source }) => source.replace('/32', '')).join(',\n');
  return `table ip bench {\n  set bad {\n    type ipv4_addr\n    elements = { ${elements} }\n  }\n  chain input {\n    type filter hook input priority 0;\n    ip saddr @bad counter drop\n  }\n}\n`;
}
