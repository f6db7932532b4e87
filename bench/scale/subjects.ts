/** Who is measured: each in a namespace of its own, with the same end of all packets (dropped behind the filter). */
import { compilePolicy, entryIndex, type StrategyName } from '../../src/compile/index.ts';
import { attachNetfilter, possibleCpus } from '../../src/kernel/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { Host } from '../../test/support/netns.ts';
import { LoadedPolicy } from '../../test/support/policy.ts';
import { nftSetText, nftText, type Scenario, saveText } from './rulesets.ts';

export interface Subject {
  readonly name: string;
  readonly host: Host;
  readonly setUpMs: number;
  readonly details: Readonly<Record<string, number>>;
  readonly samples: number[];
}

const NFT_SECONDS_LIMIT_RULES = 10_000;
const INPUT = { flavour: 'netfilter', group: 'filter', family: 'ipv4', hook: 1 } as const;

/** A namespace that takes every destination for its own, and drops what the filter let through. */
export function makeHost(name: string): Host {
  const host = new Host(name);
  host.sysctl('net/ipv4/conf/all/rp_filter', 0);
  for (const device of ['lo', 'all', 'default']) {
    host.sysctl(`net/ipv4/conf/${device}/rp_filter`, 0);
    host.sysctl(`net/ipv4/conf/${device}/accept_local`, 1);
  }
  host.exec('ip', ['route', 'add', 'local', '0.0.0.0/0', 'dev', 'lo']);
  host.exec('nft', ['-f', '-'], {
    input: 'table ip sink { chain input { type filter hook input priority 300; policy drop;\n }\n}\n',
  });
  return host;
}

type SetUp = (host: Host) => Readonly<Record<string, number>>;

function subject(name: string, setUp: SetUp): Subject {
  const host = makeHost(name.replaceAll(/[^a-z]/g, '').slice(0, 8));
  const start = performance.now();
  try {
    const details = setUp(host);
    return { name, host, setUpMs: performance.now() - start, details, samples: [] };
  } catch (error) {
    host.close();
    throw error;
  }
}

function sluice(host: Host, scenario: Scenario, strategy: StrategyName): Readonly<Record<string, number>> {
  const start = performance.now();
  const { ruleset } = parseRuleset(saveText(scenario), { file: scenario.name, family: 'ipv4' });
  const parsed = performance.now();
  const policy = compilePolicy([ruleset], { hooks: ['netfilter'], strategy });
  const compiled = performance.now();
  const place = entryIndex(INPUT);
  const loaded = host.keep(host.run(() => new LoadedPolicy(policy, {}, 'only', [place])));
  host.keep(
    host.run(() =>
      attachNetfilter(loaded.dispatchers.get(place)!, { family: 'ipv4', hook: INPUT.hook, priority: 1 }),
    ),
  );
  const tables = policy.classifier?.size ?? 0;
  return {
    parseMs: parsed - start,
    compileMs: compiled - parsed,
    loadMs: performance.now() - compiled,
    tableBytes: tables,
    bytesPerRule: tables / scenario.rules.length + (1 + possibleCpus()) * 16,
    instructions: policy.programs.find(({ point }) => entryIndex(point) === place)!.code.instructions.length,
  };
}

/** Everybody who can take the rules at all in reasonable time; SLUICE_BENCH_SUBJECTS names some of them, by commas. */
export function subjectsFor(scenario: Scenario): Subject[] {
  const count = scenario.rules.length;
  const text = (command: string, argument: readonly string[], input: string): SetUp => {
    return (host) => {
      host.exec(command, argument, { input });
      return {};
    };
  };
  const able: [name: string, setUp: SetUp | undefined][] = [
    ['sluice', (host) => sluice(host, scenario, 'classifier')],
    ['sluice inline', count <= 1000 ? (host) => sluice(host, scenario, 'inline') : undefined],
    ['iptables-legacy', text('iptables-legacy-restore', [], saveText(scenario))],
    [
      'nft linear',
      count <= NFT_SECONDS_LIMIT_RULES ? text('nft', ['-f', '-'], nftText(scenario)) : undefined,
    ],
    ['nft set', scenario.isList ? text('nft', ['-f', '-'], nftSetText(scenario)) : undefined],
  ];
  const wanted = process.env.SLUICE_BENCH_SUBJECTS?.split(',');
  return [
    subject('bare', () => ({})),
    ...able.flatMap(([name, setUp]) =>
      setUp === undefined || wanted?.includes(name) === false ? [] : [subject(name, setUp)],
    ),
  ];
}
