/**
 * What a look-up in a set costs a packet, and what it takes to load one: Sluice against ipset (iptables-legacy) and a set of
 * nftables, with 10, 1,000 and a million IPv4 addresses. Half of the flows are in the set. All in one run, rounds interleaved,
 * the 10th percentile of each one's rounds, less that of the bare stack.
 *
 * Prints JSON and writes docs/performance/sets.{json,md}. Needs root. Run: `npm run bench sets`. SLUICE_BENCH_SIZES
 * (10,1000,1000000) and SLUICE_BENCH_ROUNDS (21) make it shorter; then it writes nothing.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { applyPolicy, liveSet, removePolicies } from '../../src/host/index.ts';
import { parseRuleset, parseSets } from '../../src/rules/index.ts';
import type { Host } from '../../test/support/netns.ts';
import { type Flow, FlowGenerator } from '../scale/generator.ts';
import { makeHost } from '../scale/subjects.ts';
import { page, type SetCost } from './report.ts';

const SIZES = (process.env.SLUICE_BENCH_SIZES ?? '10,1000,1000000').split(',').map(Number);
const ROUNDS = Number(process.env.SLUICE_BENCH_ROUNDS ?? 21);
const PACKETS = 16_384;
const FLOWS = 4096;
const POLICY = `slc-bench-${process.pid}`;
const RULES =
  '*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -m set --match-set s src -j DROP\nCOMMIT\n';

interface Subject {
  readonly name: string;
  readonly host: Host;
  readonly loadMs: number;
  readonly readMs: number | undefined;
  readonly bytes: number | undefined;
  readonly generator: FlowGenerator;
  readonly samples: number[];
}

/** The addresses of a set, all different: a permutation of 32 bits. */
function address(index: number): number {
  return Math.imul(index + 1, 0x9e3779b1) >>> 0;
}

function dotted(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

/** Sources that the stack takes: neither zero, loopback, multicast nor broadcast. */
function isUsable(value: number): boolean {
  const first = value >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

function members(size: number): number[] {
  const found: number[] = [];
  for (let index = 0; found.length < size; index++) if (isUsable(address(index))) found.push(address(index));
  return found;
}

function flowsFor(inside: readonly number[]): Flow[] {
  const flows: Flow[] = [];
  for (let index = 0, other = 2 ** 31; flows.length < FLOWS; index++) {
    while (!isUsable(address(other))) other++;
    const source =
      index % 2 === 0 ? inside[(Math.imul(index, 40_503) % inside.length) & 0x7fffffff]! : address(other++);
    flows.push({
      source: source ?? inside[0]!,
      destination: 0x0a000001,
      protocol: 17,
      sourcePort: 1000,
      destinationPort: 53,
    });
  }
  return flows;
}

async function subjectsFor(size: number): Promise<Subject[]> {
  const inside = members(size);
  const flows = flowsFor(inside);
  const maxelem = Math.max(65_536, size);
  const setText = `create s hash:ip hashsize ${maxelem} maxelem ${maxelem}\n${inside.map((one) => `add s ${dotted(one)}\n`).join('')}`;
  const subjects: Subject[] = [];
  interface Loaded {
    readonly bytes?: number;
    readonly readMs?: number;
  }
  const add = async (name: string, setUp: (host: Host) => Promise<Loaded>): Promise<void> => {
    const host = makeHost(name.replaceAll(/[^a-z]/g, '').slice(0, 8));
    const start = performance.now();
    let loaded: Loaded;
    try {
      loaded = await setUp(host);
    } catch (error) {
      // A rival that cannot take so many in reasonable time is left out.
      host.close();
      if (name === 'sluice') throw error;
      process.stderr.write(`${name}, ${size} entries: ${String(error)}\n`);
      return;
    }
    const loadMs = performance.now() - start;
    subjects.push({
      name,
      host,
      loadMs,
      readMs: loaded.readMs,
      bytes: loaded.bytes,
      generator: host.run(() => new FlowGenerator(flows)),
      samples: [],
    });
  };
  await add('bare', async () => ({}));
  await add('sluice', async (host) => {
    const start = performance.now();
    const { sets } = parseSets(setText, { file: 'sets' });
    const readMs = performance.now() - start;
    const { ruleset } = parseRuleset(RULES, { file: 'rules', family: 'ipv4' });
    await applyPolicy({
      policy: POLICY,
      rulesets: [ruleset],
      hooks: ['netfilter'],
      namespaces: [host.netnsName],
      sets,
    });
    return { readMs, bytes: await liveSet({ policy: POLICY }, 's', ({ table }) => table.bytes) };
  });
  await add('ipset', async (host) => {
    host.exec('ipset', ['restore'], { input: setText });
    host.exec('iptables-legacy-restore', [], { input: RULES });
    return { bytes: Number(/Size in memory: ([0-9]+)/.exec(host.exec('ipset', ['list', '-t', 's']))?.[1]) };
  });
  await add('nft set', async (host) => {
    const elements = inside.map(dotted).join(',\n');
    host.exec('nft', ['-f', '-'], {
      input: `table ip t { set s { type ipv4_addr; elements = { ${elements} }\n }\n chain i { type filter hook input priority 0; ip saddr @s drop;\n }\n}\n`,
    });
    return {};
  });
  return subjects;
}

function percentile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length * share)]!;
}

/** Microseconds of one addition and one deletion on the live set, by one process that holds the lock. */
async function changeUs(): Promise<number> {
  const changes = 1000;
  return await liveSet({ policy: POLICY }, 's', ({ table }) => {
    const start = performance.now();
    for (let index = 0; index < changes; index++) {
      table.add({ key: [0x0100007f + index * 256] }, true);
      table.delete([0x0100007f + index * 256]);
    }
    return ((performance.now() - start) * 1000) / (changes * 2);
  });
}

const costs: SetCost[] = [];
for (const size of SIZES) {
  const subjects = await subjectsFor(size);
  try {
    for (let round = 0; round < ROUNDS; round++) {
      for (const { host, generator, samples } of subjects)
        samples.push(host.run(() => generator.send(PACKETS)));
    }
    const bare = percentile(subjects[0]!.samples, 0.1);
    const us = await changeUs();
    for (const { name, samples, loadMs, readMs, bytes } of subjects) {
      costs.push({
        entries: size,
        name,
        packetNs: percentile(samples, 0.1),
        addedNs: percentile(samples, 0.1) - bare,
        loadMs: Math.round(loadMs),
        ...(readMs === undefined ? {} : { readMs: Math.round(readMs) }),
        ...(bytes === undefined ? {} : { bytes }),
        ...(name === 'sluice' ? { changeUs: Number(us.toFixed(2)) } : {}),
      });
    }
  } finally {
    await removePolicies({ policy: POLICY }).catch(() => []);
    for (const { host, generator, name } of subjects) {
      generator.close();
      if (name === 'ipset') {
        host.exec('iptables-legacy', ['-F'], { allowFailure: true });
        host.exec('ipset', ['destroy'], { allowFailure: true });
      }
      host.close();
    }
  }
}
const result = `${JSON.stringify({ sets: { version: 1, rounds: ROUNDS, packets: PACKETS, costs } }, undefined, 2)}\n`;
console.log(result);
const whole = !Object.keys(process.env).some((name) => name.startsWith('SLUICE_BENCH_'));
if (whole) {
  const folder = new URL('../../docs/performance/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  writeFileSync(new URL('sets.json', folder), result);
  writeFileSync(new URL('sets.md', folder), page(costs));
}
