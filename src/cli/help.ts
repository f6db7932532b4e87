import { COMMON_OPTIONS, type Command, type CommandOption } from './command.ts';
import type { CommandEntry } from './registry.ts';

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join('');
}

/** The list of commands by group. */
export function overview(commands: readonly CommandEntry[]): string {
  const groups = [...new Set(commands.map(({ group }) => group))];
  const width = Math.max(...commands.map(({ name }) => name.length));
  const body = groups
    .map((group) => {
      const rows = commands.filter((command) => command.group === group);
      return `${group}\n${columns(rows.map(({ name, summary }) => [name.padEnd(width), summary] as const))}`;
    })
    .join('\n');
  return `Usage: sluice COMMAND …\n\n${body}\nsluice COMMAND --help shows one command. Exit codes: 0 done, 1 a finding, 2 wrong usage,\n3 not supported here, 4 the environment refuses.\n`;
}

/** "-j, --json", with the placeholder of the value. */
export function optionWords(option: CommandOption): string {
  const names = [option.short && `-${option.short}`, option.long && `--${option.long}`]
    .filter(Boolean)
    .join(', ');
  return option.value === undefined ? names : `${names} ${option.value}`;
}

/** The summary, with the choices and whether it may be repeated. */
export function optionSummary({ summary, choices, repeatable }: CommandOption): string {
  return `${summary}${choices === undefined ? '' : ` (${choices.join(', ')})`}${repeatable === true ? '; repeatable' : ''}`;
}

/** "sluice run RULES --pcap CAP …" */
export function usageLine(command: Command): string {
  const words = command.arguments.map((argument) => {
    const name = `${argument.name}${argument.repeatable === true ? '…' : ''}`;
    return argument.optional === true ? `[${name}]` : name;
  });
  return ['sluice', command.name, ...(command.options.length > 0 ? ['[OPTION…]'] : []), ...words].join(' ');
}

/** `sluice COMMAND --help`. */
export function commandHelp(command: Command): string {
  const parts = [`Usage: ${usageLine(command)}\n\n${command.summary}\n`];
  if (command.description !== undefined) parts.push(`${command.description}\n`);
  if (command.arguments.length > 0) {
    parts.push(
      `Arguments\n${columns(command.arguments.map(({ name, summary }) => [name, summary] as const))}`,
    );
  }
  const options = [...command.options, ...COMMON_OPTIONS];
  parts.push(
    `Options\n${columns(options.map((option) => [optionWords(option), optionSummary(option)] as const))}`,
  );
  if (command.examples !== undefined) {
    parts.push(
      `Examples\n${command.examples.map(({ line, says }) => `  ${line}\n      ${says}\n`).join('')}`,
    );
  }
  return parts.join('\n');
}
