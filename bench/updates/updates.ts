/**
 * What one change takes: a rule inserted or deleted among 10, 1,000 and 10,000, and an address added to a set, with Sluice in
 * a running process, by its commands, and with iptables, nft and ipset. One run, rivals in turn; medians, and the slowest.
 *
 * Prints JSON and writes docs/performance/updates.{json,md}. Needs root and the built package. Run: `npm run bench updates`.
 * SLUICE_BENCH_SIZES (10,1000,10000), SLUICE_BENCH_ROUNDS (21) and SLUICE_BENCH_CHANGES (40) make it shorter; then it writes nothing.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { liveSet, removePolicies, WatchedPolicy } from '../../src/host/index.ts';
import { parseEntry, parseRuleset, parseSets, type Rule, type Ruleset } from '../../src/rules/index.ts';
import { makeHost } from '../scale/subjects.ts';
import { page, type Times } from './report.ts';

const SIZES = (process.env.SLUICE_BENCH_SIZES ?? '10,1000,10000').split(',').map(Number);
const ROUNDS = Number(process.env.SLUICE_BENCH_ROUNDS ?? 21);
/** Changes that one round in a process makes. */
const CHANGES = Number(process.env.SLUICE_BENCH_CHANGES ?? 40);
const POLICY = `slc-bench-${process.pid}`;
const CLI = new URL('../../bin/sluice.js', import.meta.url).pathname;

function lines(count: number): string[] {
  return Array.from({ length: count }, (_, at) => {
    const source = `10.${(at >> 16) & 255}.${(at >> 8) & 255}.${at & 255}`;
    return `-A INPUT -s ${source}/32 -p tcp -m tcp --dport ${1 + (at % 1000)} -j DROP`;
  });
}
const text = (rules: readonly string[]): string =>
  `*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n${rules.join('\n')}\nCOMMIT\n`;
const parse = (rules: readonly string[]): Ruleset =>
  parseRuleset(text(rules), { file: 'rules', family: 'ipv4' }).ruleset;

function summed(size: number, of: Times['of'], subject: string, samples: readonly number[]): Times {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number): number =>
    Number(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!.toFixed(3));
  const mean = Number((samples.reduce((sum, one) => sum + one, 0) / samples.length).toFixed(3));
  return { size, of, subject, medianMs: at(0.5), meanMs: mean, p99Ms: at(0.99), slowestMs: at(1) };
}

async function timed(samples: number[], use: () => unknown): Promise<void> {
  const start = performance.now();
  await use();
  samples.push(performance.now() - start);
}

/** Places all over the chain, the same for everyone. */
function places(size: number): () => number {
  let turn = 0;
  return () => (turn++ * 7919) % Math.max(1, size);
}

async function rulesOf(size: number): Promise<Times[]> {
  const rules = lines(size);
  const all = new Map<string, number[]>();
  const samplesOf = (subject: string): number[] => {
    const known = all.get(subject) ?? [];
    all.set(subject, known);
    return known;
  };
  const ours = makeHost('ours');
  const legacy = makeHost('legacy');
  const nft = makeHost('nft');
  const ruleset = parse(rules);
  const { rules: own } = ruleset.tables[0]!.chains[0]!;
  const fresh = (turn: number): Rule =>
    parse([`-A INPUT -s 203.0.113.${turn % 250}/32 -p udp -j DROP`]).tables[0]!.chains[0]!.rules[0]!;
  const request = {
    policy: POLICY,
    rulesets: [ruleset],
    hooks: ['netfilter'],
    namespaces: [ours.netnsName],
  } as const;
  try {
    const watched = new WatchedPolicy({ policy: POLICY, cookie: ours.cookie });
    await watched.apply(request);
    legacy.exec('iptables-legacy-restore', [], { input: text(rules) });
    const nftRules = rules.map((_, at) => {
      const source = `10.${(at >> 16) & 255}.${(at >> 8) & 255}.${at & 255}`;
      return `ip saddr ${source} tcp dport ${1 + (at % 1000)} drop`;
    });
    nft.exec('nft', ['-f', '-'], {
      input: `table ip t {\n chain i { type filter hook input priority 0;\n${nftRules.join('\n')}\n }\n}\n`,
    });
    const placeOf = places(size);
    let edited = 0;
    let whole = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const place = placeOf();
      for (let change = 0; change < CHANGES; change++) {
        const at = placeOf();
        own.splice(at, 0, fresh(change));
        const apply = async (): Promise<void> => {
          const report = await watched.apply(request);
          if (report.editedRules === undefined) whole += 1;
          else edited += 1;
        };
        await timed(samplesOf('sluice, in the process, insert'), apply);
        own.splice(at, 1);
        await timed(samplesOf('sluice, in the process, delete'), apply);
      }
      const source = ['-s', '203.0.113.7', '-p', 'udp', '-j', 'DROP'];
      await timed(samplesOf('iptables-legacy -I'), () =>
        legacy.exec('iptables-legacy', ['-I', 'INPUT', String(place + 1), ...source]),
      );
      await timed(samplesOf('iptables-legacy -D'), () =>
        legacy.exec('iptables-legacy', ['-D', 'INPUT', String(place + 1)]),
      );
      await timed(samplesOf('nft insert rule'), () =>
        nft.exec('nft', [
          'insert',
          'rule',
          'ip',
          't',
          'i',
          'ip',
          'saddr',
          '203.0.113.7',
          'udp',
          'dport',
          '9',
          'drop',
        ]),
      );
      const handle = /handle (\d+)/.exec(
        nft
          .exec('nft', ['-a', 'list', 'chain', 'ip', 't', 'i'])
          .split('\n')
          .find((line) => line.includes('203.0.113.7'))!,
      )![1]!;
      await timed(samplesOf('nft delete rule'), () =>
        nft.exec('nft', ['delete', 'rule', 'ip', 't', 'i', 'handle', handle]),
      );
      if (round % 4 !== 0) continue;
      const exec = [CLI, 'exec', '--policy', POLICY, '--netns', ours.netnsName, '--', 'iptables'];
      for (const words of [
        ['-I', 'INPUT', String(place + 1), ...source],
        ['-D', 'INPUT', String(place + 1)],
      ]) {
        await timed(samplesOf(`sluice exec iptables ${words[0]}`), () =>
          execFileSync(process.execPath, [...exec, ...words], { stdio: ['ignore', 'ignore', 'inherit'] }),
        );
      }
    }
    process.stderr.write(`${size} rules: ${edited} changes edited, ${whole} loaded whole\n`);
    return [...all].map(([subject, samples]) => summed(size, 'rules', subject, samples));
  } finally {
    await removePolicies({ policy: POLICY }).catch(() => []);
    for (const host of [ours, legacy, nft]) host.close();
  }
}

/** One address added to a set of so many. */
async function setsOf(size: number): Promise<Times[]> {
  const inside = Array.from({ length: size }, (_, at) => `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}`);
  const maxelem = Math.max(65_536, size * 2);
  const setText = `create s hash:ip maxelem ${maxelem}\n${inside.map((one) => `add s ${one}\n`).join('')}`;
  const all = new Map<string, number[]>();
  const samplesOf = (subject: string): number[] => {
    const known = all.get(subject) ?? [];
    all.set(subject, known);
    return known;
  };
  const [ours, kernel] = [makeHost('ours'), makeHost('kernel')];
  try {
    const { ruleset } = parseRuleset(text(['-A INPUT -m set --match-set s src -j DROP']), {
      file: 'rules',
      family: 'ipv4',
    });
    const { sets } = parseSets(setText, { file: 'sets' });
    const policy = POLICY;
    const selected = ['--policy', policy, '--netns', ours.netnsName];
    const watched = new WatchedPolicy({ policy, cookie: ours.cookie });
    await watched.apply({
      policy,
      rulesets: [ruleset],
      hooks: ['netfilter'],
      namespaces: [ours.netnsName],
      sets,
    });
    kernel.exec('ipset', ['restore'], { input: setText });
    kernel.exec('nft', ['-f', '-'], {
      input: `table ip t { set s { type ipv4_addr; elements = { ${inside.join(', ')} }\n }\n}\n`,
    });
    for (let round = 0; round < ROUNDS; round++) {
      const other = `192.0.2.${round + 1}`;
      await timed(samplesOf('sluice, in the process, add to a set'), () =>
        liveSet({ policy }, 's', ({ definition, table }) => {
          for (const key of parseEntry(definition, other)) table.add({ key }, true);
        }),
      );
      await timed(samplesOf('ipset add'), () => kernel.exec('ipset', ['add', 's', other]));
      await timed(samplesOf('nft add element'), () =>
        kernel.exec('nft', ['add', 'element', 'ip', 't', 's', `{ ${other} }`]),
      );
      if (round % 4 !== 0) continue;
      await timed(samplesOf('sluice set add'), () =>
        execFileSync(process.execPath, [CLI, 'set', 'add', 's', `192.0.3.${round + 1}`, ...selected]),
      );
    }
    return [...all].map(([subject, samples]) => summed(size, 'addresses', subject, samples));
  } finally {
    await removePolicies({ policy: POLICY }).catch(() => []);
    kernel.exec('ipset', ['destroy'], { allowFailure: true });
    for (const host of [ours, kernel]) host.close();
  }
}

const times: Times[] = [];
for (const size of SIZES) times.push(...(await rulesOf(size)), ...(await setsOf(size)));
const result = `${JSON.stringify({ updates: { version: 1, rounds: ROUNDS, changes: CHANGES, times } }, undefined, 2)}\n`;
console.log(result);
const whole = !Object.keys(process.env).some((name) => name.startsWith('SLUICE_BENCH_'));
if (whole) {
  const folder = new URL('../../docs/performance/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  writeFileSync(new URL('updates.json', folder), result);
  writeFileSync(new URL('updates.md', folder), page(times));
}
