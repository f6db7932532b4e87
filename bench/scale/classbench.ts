/** ClassBench filter sets, with the flows of their traces. */

import { xorshift } from '../../test/support/xorshift.ts';
import { FLOW_COUNT, INPUT, inputRules, isUsable, nftRules, readShared, type Scenario } from './scenario.ts';

/** What a filter asks for; ranges inclusive, protocol 0 any. */
interface Filter {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly sourcePorts: readonly [number, number];
  readonly destinationPorts: readonly [number, number];
}

/** A set with the flows of its trace; `undefined` where the data is not there. */
export function classBench(name: string): Scenario | undefined {
  const text = readShared(`classbench/${name}`);
  const trace = readShared(`classbench/${name}_trace`);
  if (text === undefined || trace === undefined) return undefined;
  const filters = text
    .split('\n')
    .filter((line) => line.startsWith('@'))
    .map(readFilter);
  const verdict = (index: number): string => (index % 2 === 1 ? 'drop' : 'accept');
  return {
    family: 'classbench',
    name: `ClassBench ${name}`,
    rules: filters.length,
    place: INPUT,
    save: inputRules(filters.map((one, index) => `${saveWords(one)} -j ${verdict(index).toUpperCase()}`)),
    flows: flowsOf(trace),
    nftLinear: nftRules(filters.map((one, index) => `${nftWords(one)} counter ${verdict(index)}`)),
  };
}

function readFilter(line: string): Filter {
  const [source = '', destination = '', sports = '', dports = '', protocol = ''] = line.slice(1).split('\t');
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
}

function flowsOf(trace: string): Scenario['flows'] {
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
  return Array.from({ length: FLOW_COUNT }, () => candidates[random() % candidates.length]!);
}

const isAny = (address: string): boolean => address.endsWith('/0');
const isAnyPort = ([min, max]: readonly [number, number]): boolean => min === 0 && max === 0xffff;
const matchOf = (protocol: number): 'tcp' | 'udp' | undefined =>
  protocol === 6 ? 'tcp' : protocol === 17 ? 'udp' : undefined;

function saveWords({ source, destination, protocol, sourcePorts, destinationPorts }: Filter): string {
  const words: string[] = [];
  if (!isAny(source)) words.push(`-s ${source}`);
  if (!isAny(destination)) words.push(`-d ${destination}`);
  if (protocol !== 0) words.push(`-p ${protocol}`);
  const match = matchOf(protocol);
  const options: string[] = [];
  if (match !== undefined && !isAnyPort(sourcePorts)) options.push(`--sport ${sourcePorts.join(':')}`);
  if (match !== undefined && !isAnyPort(destinationPorts))
    options.push(`--dport ${destinationPorts.join(':')}`);
  if (options.length > 0) words.push(`-m ${match}`, ...options);
  return words.join(' ');
}

function nftWords({ source, destination, protocol, sourcePorts, destinationPorts }: Filter): string {
  const words: string[] = [];
  if (!isAny(source)) words.push(`ip saddr ${source}`);
  if (!isAny(destination)) words.push(`ip daddr ${destination}`);
  if (protocol !== 0) words.push(`meta l4proto ${protocol}`);
  const match = matchOf(protocol);
  for (const [option, range] of [
    ['sport', sourcePorts],
    ['dport', destinationPorts],
  ] as const) {
    if (match === undefined || isAnyPort(range)) continue;
    const [min, max] = range;
    words.push(`${match} ${option} ${min === max ? min : `${min}-${max}`}`);
  }
  return words.join(' ');
}
