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
function makeHost(name: string): Host {
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

function subject(name: string, setUp: (host: Host) => Readonly<Record<string, number>>): Subject {
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

/** Everybody who can take the rules at all in reasonable time. */
export function subjectsFor(scenario: Scenario): Subject[] {
  const count = scenario.rules.length;
  const subjects = [
    subject('bare', () => ({})),
    subject('sluice', (host) => sluice(host, scenario, 'classifier')),
  ];
  if (count <= 1000) subjects.push(subject('sluice inline', (host) => sluice(host, scenario, 'inline')));
  subjects.push(
    subject('iptables-legacy', (host) => {
      host.exec('iptables-legacy-restore', [], { input: saveText(scenario) });
      return {};
    }),
  );
  if (count <= NFT_SECONDS_LIMIT_RULES) {
    subjects.push(
      subject('nft linear', (host) => {
        host.exec('nft', ['-f', '-'], { input: nftText(scenario) });
        return {};
      }),
    );
  }
  if (scenario.isList) {
    subjects.push(
      subject('nft set', (host) => {
        host.exec('nft', ['-f', '-'], { input: nftSetText(scenario) });
        return {};
      }),
    );
  }
  return subjects;
}
