/**
 * Where an option of an extension can run in the kernel, found out rather than written down: a rule that uses it is
 * parsed, lowered and asked of every hook.
 */
import { hooksFor, lowerTable } from '../compile/index.ts';
import { HOOK_CHAINS, Hook } from '../ir/index.ts';
import type { Family } from '../net/index.ts';
import {
  type MatchExtension,
  type OptionSpec,
  parseRuleset,
  TABLE_HOOKS,
  type TableName,
  type TargetExtension,
} from '../rules/index.ts';

/** Values of which each option of an extension that can run takes one. */
const SAMPLES = [
  ...[
    '1',
    '1:2',
    '80',
    '10.0.0.1',
    '10.0.0.0/8',
    '10.0.0.1-10.0.0.9',
    '2001:db8::1',
    '2001:db8::/32',
    '2001:db8::1-2001:db8::2',
  ],
  ...[
    'NEW',
    'NEW,ESTABLISHED',
    'SYN,ACK',
    'SYN',
    'ASSURED',
    'ORIGINAL',
    'LOCAL',
    'unicast',
    'tcp',
    'echo-request',
    'any',
    'DATA',
    'EF',
  ],
  ...[
    '5/sec',
    'random',
    'nth',
    '0.5',
    '2',
    '0x1/0xff',
    '00:11:22:33:44:55',
    'icmp-port-unreachable',
    'icmp6-port-unreachable',
    'warning',
    'text',
  ],
];
/** Pairs for options that take two words. */
const PAIRS = ['SYN,ACK SYN', 'any DATA'];
/** Other options that some cannot stand without. */
const COMPANIONS: Readonly<Record<string, readonly string[]>> = {
  addrtype: ['--src-type LOCAL'],
  statistic: ['--mode random', '--probability 0.5', '--mode nth --packet 0', '--mode nth --every 2'],
};

function* words(option: OptionSpec<unknown>): Iterable<string> {
  if (option.arguments === 0 || option.arguments === 'optional') yield `--${option.name}`;
  if (option.arguments === 1 || option.arguments === 'optional') {
    for (const value of SAMPLES) yield `--${option.name} ${value}`;
  }
  if (option.arguments === 2) for (const pair of PAIRS) yield `--${option.name} ${pair}`;
}

/** A table and chain where the extension may stand, and the protocol that it needs. */
function placeOf({ where, families, initial }: MatchExtension | TargetExtension): {
  table: TableName;
  chain: string;
  protocol: string;
} {
  const family = families[0]!;
  const { tables, hooks, protocols } =
    typeof where === 'function'
      ? where(initial({ family, table: 'filter', chain: 'FORWARD' }))
      : (where ?? {});
  const table = tables === undefined || tables.includes('filter') ? 'filter' : tables[0]!;
  const possible = TABLE_HOOKS[table].filter((hook) => hooks === undefined || hooks.includes(hook));
  const hook = possible.includes(Hook.FORWARD) ? Hook.FORWARD : possible[0]!;
  return {
    table,
    chain: HOOK_CHAINS[hook]!,
    protocol: protocols === undefined ? '' : `-p ${protocols[0]!} `,
  };
}

/** Hooks of a rule; undefined when it is no sound rule. */
function reach(family: Family, table: TableName, chain: string, rule: string): readonly string[] | undefined {
  const text = `*${table}\n-A ${chain} ${rule}\nCOMMIT\n`;
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'sample', family });
  if (diagnostics.some(({ severity }) => severity === 'error')) return undefined;
  const lowered = lowerTable(ruleset.tables[0]!, family);
  const [first] = lowered.ir.chains.get(chain)?.rules ?? [];
  return lowered.refusals.length > 0 || first === undefined ? [] : hooksFor(first, family);
}

/** What the first sound rule with this option reaches. */
function reachOf(
  extension: MatchExtension | TargetExtension,
  option: OptionSpec<unknown>,
): readonly string[] | undefined {
  const flag = extension.kind === 'match' ? '-m' : '-j';
  const { table, chain, protocol } = placeOf(extension);
  for (const companion of ['', ...(COMPANIONS[extension.name] ?? [])]) {
    for (const own of words(option)) {
      const rule = `${protocol}${flag} ${extension.name} ${companion} ${own}`;
      const found = reach(extension.families[0]!, table, chain, rule);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

/** "netfilter, xdp, tcx, cgroup" in the words of the reference; "user space" where no hook runs it. */
export function hookReach(extension: MatchExtension | TargetExtension, option: OptionSpec<unknown>): string {
  if (extension.semantics === undefined) return '';
  const found = reachOf(extension, option);
  if (found === undefined) return '';
  const both = (name: string): string[] => {
    const directions = ['ingress', 'egress'].filter((direction) => found.includes(`${name}-${direction}`));
    return directions.length === 2 ? [name] : directions.map((direction) => `${name}-${direction}`);
  };
  const hooks = [
    ...['netfilter', 'xdp'].filter((name) => found.includes(name)),
    ...both('tcx'),
    ...both('cgroup'),
  ];
  return hooks.length === 0 ? 'user space' : hooks.join(', ');
}
