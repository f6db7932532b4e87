/** Who is measured: each in a namespace of its own, with the same end of all packets (dropped behind the rules). */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type CompiledPolicy, compilePolicy, entryIndex, GROUP_PRIORITY } from '../../src/compile/index.ts';
import { netnsTables } from '../../src/host/policy/surroundings.ts';
import { attachNetfilter, possibleCpus } from '../../src/kernel/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { Host } from '../../test/support/netns.ts';
import { LoadedPolicy } from '../../test/support/policy.ts';
import { INPUT, type Scenario } from './scenario.ts';

export interface Subject {
  readonly name: string;
  readonly host: Host;
  /** Where packets come in, unless by loopback. */
  readonly device?: { readonly ifindex: number; readonly mac: Uint8Array };
  readonly details: Details;
  readonly samples: number[];
}

/** What setting up took, and what it takes up. */
export interface Details {
  readonly setUpMs?: number;
  readonly parseMs?: number;
  readonly compileMs?: number;
  readonly writeMs?: number;
  readonly verifyMs?: number;
  readonly tableBytes?: number;
  readonly bytesPerRule?: number;
  readonly peakBytes?: number;
  readonly instructions?: number;
}

/** Rules that nft takes one by one, and that fit a program, in reasonable time. */
const NFT_LINEAR_RULES = 10_000;
const INLINE_RULES = 1000;
const SINK_PRIORITY = 300;
const COUNTER_BYTES = 16;

/** A namespace that takes every destination for its own, and drops what the rules let through. */
export function makeHost(name: string): Host {
  return makePlace(name, { place: INPUT }).host;
}

function makePlace(
  name: string,
  { place, devices, conntrack }: Pick<Scenario, 'place' | 'devices' | 'conntrack'>,
): Pick<Subject, 'host' | 'device'> {
  const host = new Host(name);
  try {
    for (const [index, one] of (devices ?? []).entries()) {
      const other = `other${index}`;
      host.exec('ip', ['link', 'add', one, 'type', 'veth', 'peer', 'name', other]);
      for (const side of [one, other]) host.exec('ip', ['link', 'set', side, 'up']);
    }
    for (const device of ['lo', 'all', 'default', ...(devices ?? [])]) {
      host.sysctl(`net/ipv4/conf/${device}/rp_filter`, 0);
      host.sysctl(`net/ipv4/conf/${device}/accept_local`, 1);
    }
    const hook = ['prerouting', 'input', 'forward'][place.hook]!;
    if (place.hook === 2) {
      host.sysctl('net/ipv4/ip_forward', 1);
      host.exec('ip', ['route', 'add', 'default', 'dev', devices![1]]);
    } else {
      host.exec('ip', ['route', 'add', 'local', '0.0.0.0/0', 'dev', 'lo']);
    }
    // Checksums are not right: conntrack is not to mind.
    const states = conntrack === true ? 'ct state new counter\n' : '';
    host.exec('nft', ['-f', '-'], {
      input: `table ip sink { chain end { type filter hook ${hook} priority ${SINK_PRIORITY}; policy drop;\n${states} }\n}\n`,
    });
    if (conntrack === true) host.sysctl('net/netfilter/nf_conntrack_checksum', 0);
    if (devices === undefined) return { host };
    const { index, mac } = host.device(devices[0]);
    return { host, device: { ifindex: index, mac } };
  } catch (error) {
    host.close();
    throw error;
  }
}

type SetUp = (host: Host) => Details;

function subject(name: string, scenario: Scenario, setUp: SetUp): Subject {
  const made = makePlace(name.replaceAll(/[^a-z]/g, '').slice(0, 8), scenario);
  const start = performance.now();
  try {
    const details = setUp(made.host);
    return { ...made, name, details: { setUpMs: performance.now() - start, ...details }, samples: [] };
  } catch (error) {
    made.host.close();
    throw error;
  }
}

function compile({ save, name, place }: Scenario, strategy: 'classifier' | 'inline'): CompiledPolicy {
  const { ruleset } = parseRuleset(save, { file: name, family: 'ipv4' });
  return compilePolicy([ruleset], { hooks: ['netfilter'], strategy, tables: [place.table] });
}

function attach(
  host: Host,
  { place }: Scenario,
  policy: CompiledPolicy,
): { loaded: LoadedPolicy; verifyMs: number } {
  const { table: group, hook } = place;
  const entry = entryIndex({ flavour: 'netfilter', group, family: 'ipv4', hook });
  const start = performance.now();
  const loaded = host.keep(host.run(() => new LoadedPolicy(policy, netnsTables(), 'only', [entry])));
  const verifyMs = performance.now() - start;
  const priority = GROUP_PRIORITY[group];
  host.keep(
    host.run(() => attachNetfilter(loaded.dispatchers.get(entry)!, { family: 'ipv4', hook, priority })),
  );
  return { loaded, verifyMs };
}

/** Compiled by a process of its own, as commands do it; what is attached here is compiled once more. */
function tables(host: Host, scenario: Scenario): Details {
  const prepared = prepare(scenario);
  const policy = compile(scenario, 'classifier');
  const { loaded, verifyMs } = attach(host, scenario, policy);
  const start = performance.now();
  loaded.renew(policy);
  const writeMs = performance.now() - start;
  const counters = policy.counters * COUNTER_BYTES * (1 + possibleCpus());
  return {
    setUpMs: prepared.parseMs + prepared.compileMs + verifyMs,
    parseMs: prepared.parseMs,
    compileMs: prepared.compileMs,
    writeMs,
    verifyMs: verifyMs - writeMs,
    tableBytes: prepared.tableBytes,
    bytesPerRule: (prepared.tableBytes + counters) / scenario.rules,
    peakBytes: prepared.peakBytes - prepared.idleBytes,
    instructions: policy.programs[0]!.code.instructions.length,
  };
}

interface Prepared {
  readonly parseMs: number;
  readonly compileMs: number;
  readonly tableBytes: number;
  readonly idleBytes: number;
  readonly peakBytes: number;
}

function prepare({ save, place }: Scenario): Prepared {
  const file = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
  const run = spawnSync(
    process.execPath,
    ['--import', file('../../scripts/typescript.mjs'), file('preparation.ts'), place.table],
    { input: save, encoding: 'utf8' },
  );
  if (run.status !== 0) throw new Error(`compiling failed: ${run.stderr}`);
  return JSON.parse(run.stdout) as Prepared;
}

/** Everybody who can take the rules at all in reasonable time, of those that are `wanted`; the first has no rules. */
export function subjectsFor(scenario: Scenario, wanted?: readonly string[]): Subject[] {
  const { rules, save, nftLinear, nftSet } = scenario;
  const text = (
    command: string,
    argument: readonly string[],
    input: string | undefined,
  ): SetUp | undefined =>
    input === undefined
      ? undefined
      : (host) => {
          host.exec(command, argument, { input });
          return {};
        };
  const able: [name: string, setUp: SetUp | undefined][] = [
    ['sluice', (host) => tables(host, scenario)],
    [
      'sluice inline',
      rules <= INLINE_RULES
        ? (host) => ({ verifyMs: attach(host, scenario, compile(scenario, 'inline')).verifyMs })
        : undefined,
    ],
    ['iptables-legacy', text('iptables-legacy-restore', [], save)],
    ['nft linear', text('nft', ['-f', '-'], rules <= NFT_LINEAR_RULES ? nftLinear : undefined)],
    ['nft set', text('nft', ['-f', '-'], nftSet)],
  ];
  const subjects: Subject[] = [];
  try {
    subjects.push(subject('bare', scenario, () => ({})));
    for (const [name, setUp] of able) {
      if (setUp !== undefined && wanted?.includes(name) !== false)
        subjects.push(subject(name, scenario, setUp));
    }
    return subjects;
  } catch (error) {
    for (const { host } of subjects) host.close();
    throw error;
  }
}
