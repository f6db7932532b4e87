/** The options of iptables itself, before any extension: original_opts and IPT_OPTSTRING of 1.8.9. */

export type BaseOptionKey =
  | 'append'
  | 'delete'
  | 'check'
  | 'insert'
  | 'replace'
  | 'list'
  | 'list-rules'
  | 'flush'
  | 'zero'
  | 'new-chain'
  | 'delete-chain'
  | 'rename-chain'
  | 'policy'
  | 'source'
  | 'destination'
  | 'protocol'
  | 'in-interface'
  | 'out-interface'
  | 'jump'
  | 'goto'
  | 'match'
  | 'table'
  | 'fragments'
  | 'set-counters'
  | 'numeric'
  | 'verbose'
  | 'exact'
  | 'line-numbers'
  | 'wait'
  | 'wait-interval'
  | 'modprobe'
  | 'version'
  | 'help'
  | 'ipv4'
  | 'ipv6';

export interface BaseOption {
  readonly key: BaseOptionKey;
  readonly names: readonly string[];
  readonly short: string;
  /** `attached`: only in the same word ("--list=INPUT"); the command itself may take a further word. */
  readonly argument: 'none' | 'required' | 'attached';
  readonly syntax: string;
  readonly summary: string;
}

function option(
  key: BaseOptionKey,
  short: string,
  argument: BaseOption['argument'],
  syntax: string,
  summary: string,
  names: readonly string[] = [key],
): BaseOption {
  return { key, names, short, argument, syntax, summary };
}

/** Options that make up a rule. */
export const RULE_OPTIONS: readonly BaseOption[] = [
  option(
    'protocol',
    'p',
    'required',
    '[!] protocol',
    'Protocol by name or number; loads its match for further options',
  ),
  option('source', 's', 'required', '[!] address[/mask][,…]', 'Source address; several make as many rules', [
    'source',
    'src',
  ]),
  option(
    'destination',
    'd',
    'required',
    '[!] address[/mask][,…]',
    'Destination address; several make as many rules',
    ['destination', 'dst'],
  ),
  option('in-interface', 'i', 'required', '[!] name[+]', 'Device the packet came in by; + matches any rest'),
  option('out-interface', 'o', 'required', '[!] name[+]', 'Device the packet leaves by; + matches any rest'),
  option('fragments', 'f', 'none', '[!]', 'Second and further fragments (IPv4 only)'),
  option('match', 'm', 'required', 'match', 'Loads a match; its options follow'),
  option('jump', 'j', 'required', 'target', 'Verdict, target or chain to call'),
  option('goto', 'g', 'required', 'chain', 'Chain to continue in without coming back here'),
  option('set-counters', 'c', 'required', 'packets bytes', 'Initial counters of the rule'),
];

/** Options that say what to do with a rule or chain, and how to talk about it. */
export const COMMAND_OPTIONS: readonly BaseOption[] = [
  option('append', 'A', 'required', 'chain', 'Append a rule'),
  option('delete', 'D', 'required', 'chain [number]', 'Delete a rule'),
  option('check', 'C', 'required', 'chain', 'Check that a rule exists'),
  option('insert', 'I', 'required', 'chain [number]', 'Insert a rule'),
  option('replace', 'R', 'required', 'chain number', 'Replace a rule'),
  option('list', 'L', 'attached', '[chain [number]]', 'List rules'),
  option('list-rules', 'S', 'attached', '[chain [number]]', 'Print rules as commands'),
  option('flush', 'F', 'attached', '[chain]', 'Delete all rules of a chain or of all chains'),
  option('zero', 'Z', 'attached', '[chain [number]]', 'Set counters to zero'),
  option('new-chain', 'N', 'required', 'chain', 'Create a chain'),
  option('delete-chain', 'X', 'attached', '[chain]', 'Delete a chain or all empty ones'),
  option('rename-chain', 'E', 'required', 'old new', 'Rename a chain'),
  option('policy', 'P', 'required', 'chain target', 'Set the policy of a built-in chain'),
  option('table', 't', 'required', 'table', 'The table to work on'),
  option('numeric', 'n', 'none', '', 'Print addresses and ports as numbers'),
  option('verbose', 'v', 'none', '', 'Say more'),
  option('exact', 'x', 'none', '', 'Print counters in full'),
  option('line-numbers', '', 'none', '', 'Print rule numbers'),
  option('wait', 'w', 'attached', '[seconds]', 'Wait for the lock'),
  option('wait-interval', 'W', 'attached', '[microseconds]', 'Interval of tries for the lock'),
  option('modprobe', 'M', 'required', 'command', 'Command that loads modules'),
  option('version', 'V', 'none', '', 'Print the version'),
  option('help', 'h', 'attached', '', 'Print help'),
  option('ipv4', '4', 'none', '', 'The line is for IPv4 only'),
  option('ipv6', '6', 'none', '', 'The line is for IPv6 only'),
];

const byName = new Map<string, BaseOption>();
const byShort = new Map<string, BaseOption>();
for (const entry of [...COMMAND_OPTIONS, ...RULE_OPTIONS]) {
  for (const name of entry.names) byName.set(name, entry);
  if (entry.short !== '') byShort.set(entry.short, entry);
}

/** All long names. */
export const BASE_OPTION_NAMES: ReadonlyMap<string, BaseOption> = byName;
/** All one-letter names. */
export const BASE_OPTION_LETTERS: ReadonlyMap<string, BaseOption> = byShort;
