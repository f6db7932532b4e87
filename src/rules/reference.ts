/** docs/reference/iptables.md, made from the registry: every option of every extension, and where it works. */
import { HOOK_CHAINS } from '../ir/index.ts';
import type { MatchExtension, OptionSpec, TargetExtension, Where } from './extension.ts';
import { formatProtocol } from './names/protocols.ts';
import { type BaseOption, COMMAND_OPTIONS, RULE_OPTIONS } from './options.ts';
import { allExtensions } from './registry.ts';

const VERDICTS = [
  ['ACCEPT', 'Ends the table: the packet goes on'],
  ['DROP', 'Ends the packet (not in table nat)'],
  ['QUEUE', 'Hands the packet to a program; read and printed, and where it has to be run, dropped'],
  ['RETURN', 'Goes back to the calling chain, or to the policy of a built-in chain'],
] as const;

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

function baseOptionRow(option: BaseOption): string {
  const long = option.names.map((name) => `--${name}`);
  const names = option.short === '' ? long : [`-${option.short}`, ...long];
  return `| \`${names.join('`, `')}\` | ${option.syntax === '' ? '' : `\`${cell(option.syntax)}\``} | ${cell(option.summary)} |`;
}

/** Says where an option can run, for those who know hooks; "" when it cannot be told. */
export type ReachOf = (extension: MatchExtension | TargetExtension, option: OptionSpec<unknown>) => string;

function optionRow(option: OptionSpec<unknown>, reach: string | undefined): string {
  const names = [option.name, ...(option.aliases ?? [])].map((name) => `\`--${name}\``).join(', ');
  const syntax = option.syntax === undefined ? '' : `\`${cell(option.syntax)}\``;
  const last = reach === undefined ? '' : ` ${reach} |`;
  return `| ${option.negatable === true ? '`!` ' : ''}${names} | ${syntax} | ${cell(option.summary)} |${last}`;
}

/** Restrictions in words; for an extension whose place depends on its options, those of every use. */
function places(where: Where): string[] {
  const lines: string[] = [];
  if (where.tables !== undefined) lines.push(`Tables: ${where.tables.join(', ')}.`);
  if (where.hooks !== undefined)
    lines.push(`Chains reached from: ${where.hooks.map((hook) => HOOK_CHAINS[hook]).join(', ')}.`);
  if (where.protocols !== undefined)
    lines.push(`Needs \`-p\` ${where.protocols.map(formatProtocol).join(', ')}.`);
  return lines;
}

function placesOf(extension: MatchExtension | TargetExtension): string[] {
  const { where } = extension;
  if (typeof where !== 'function') return places(where ?? {});
  const family = extension.families[0]!;
  const usual = where(extension.initial({ family, table: 'filter', chain: 'INPUT' }));
  return [...places(usual), 'Some options narrow that further.'];
}

function reachWords(extension: MatchExtension | TargetExtension): string {
  if (extension.semantics?.lower !== undefined) return 'Read, printed, evaluated and compiled.';
  if (extension.semantics !== undefined)
    return 'Read, printed and evaluated, in the netstack too; a rule with it is not compiled.';
  return extension.kind === 'target' && extension.effect !== undefined
    ? 'Read, checked and printed; runs in the netstack, and is refused everywhere else.'
    : 'Read, checked and printed; a rule with it is refused where it would have to be run.';
}

function section(extension: MatchExtension | TargetExtension, reachOf: ReachOf | undefined): string {
  const families = extension.families.map((family) => (family === 'ipv4' ? 'IPv4' : 'IPv6')).join(', ');
  const flag = extension.kind === 'match' ? '-m' : '-j';
  const spellings = [extension.name, ...(extension.aliases ?? [])].map((name) => `\`${flag} ${name}\``);
  const lines = [
    `### ${extension.name} (${families})`,
    '',
    `${spellings.join(', ')}. ${extension.summary}.`,
    '',
    reachWords(extension),
    ...placesOf(extension),
  ];
  if (extension.options.length > 0) {
    const runs = reachOf !== undefined && extension.semantics?.lower !== undefined;
    const rows = extension.options.map((option) =>
      optionRow(option, runs ? reachOf(extension, option) : undefined),
    );
    lines.push(
      '',
      `| option | argument | meaning |${runs ? ' runs at |' : ''}`,
      `|---|---|---|${runs ? '---|' : ''}`,
      ...rows,
    );
  }
  return lines.join('\n');
}

/** The whole document as Markdown; with `reachOf`, a column that says where each option can run. */
export function iptablesReference(reachOf?: ReachOf): string {
  const extensions = allExtensions();
  const table = (options: readonly BaseOption[]): string =>
    ['| option | argument | meaning |', '|---|---|---|', ...options.map(baseOptionRow)].join('\n');
  const sections = (kind: 'match' | 'target'): string =>
    extensions
      .filter((extension) => extension.kind === kind)
      .map((extension) => section(extension, reachOf))
      .join('\n\n');
  return `${[
    '# iptables rules that Sluice reads',
    'Made from the extension files by `npm run docs`; do not edit.',
    'Text forms are those of iptables 1.8.9: input as iptables-restore takes it, output as iptables-save gives it. `!` before an option negates it.',
    '## Rules',
    table(RULE_OPTIONS),
    '## Commands',
    'In a restore file `-A`, `-I`, `-D`, `-R`, `-C`, `-N`, `-X`, `-E`, `-F`, `-Z` and `-P` work; `-t` and `-w` do not.',
    table(COMMAND_OPTIONS),
    '## Verdicts',
    [
      '| target | meaning |',
      '|---|---|',
      ...VERDICTS.map(([name, text]) => `| \`-j ${name}\` | ${text} |`),
    ].join('\n'),
    '## Matches',
    sections('match'),
    '## Targets',
    sections('target'),
  ].join('\n\n')}\n`;
}
