/** Manual pages, man(7): sluice(1), and one for each command, from the same table as `--help` and docs/reference/cli.md. */
import { COMMON_OPTIONS, type Command } from './command.ts';
import { optionSummary, optionWords, usageLine } from './help.ts';
import type { CommandEntry } from './registry.ts';

const HEAD = '.\\" Made from the code by `npm run docs`.\n';
const EXIT_STATUS = [
  ['0', 'done, nothing found'],
  ['1', 'a finding: bad rules, a difference, a failed assertion'],
  ['2', 'wrong usage of the command line'],
  ['3', 'not supported here: by this hook, this engine, this build'],
  ['4', 'the environment refuses: privilege, kernel, file'],
  ['70', 'a defect of Sluice'],
] as const;

/** Text as troff shows it: backslashes and hyphens as themselves, no line a request. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1');
}

/** The same as the argument of a request, where quotes would group words. */
function argument(text: string): string {
  return roff(text).replaceAll('"', '\\(dq');
}

function section(name: string, body: string): string {
  return body === '' ? '' : `.SH ${name}\n${body}`;
}

function tagged(rows: readonly (readonly [string, string])[]): string {
  return rows.map(([tag, text]) => `.TP\n.B ${argument(tag)}\n${roff(text)}\n`).join('');
}

function paragraphs(text: string): string {
  return text
    .split('\n')
    .map((line) => `.PP\n${roff(line)}\n`)
    .join('');
}

/** "sluice-socket-bind": the name of a command's page. */
function pageName(command: string): string {
  return ['sluice', ...command.split(' ')].join('-');
}

function commandPage(command: Command, others: readonly Command[]): string {
  const { name, summary, description, examples = [] } = command;
  const related = others.filter(
    (other) => other !== command && other.name.split(' ')[0] === name.split(' ')[0],
  );
  const options = [...command.options, ...COMMON_OPTIONS].map(
    (option) => [optionWords(option), optionSummary(option)] as const,
  );
  return [
    HEAD,
    `.TH "${pageName(name).toUpperCase()}" 1 "" "sluice" "Sluice"\n`,
    section('NAME', `${roff(`${pageName(name)} - ${summary}`)}\n`),
    section('SYNOPSIS', `.B ${argument(usageLine(command))}\n`),
    section('DESCRIPTION', paragraphs(description ?? `${summary[0]!.toUpperCase()}${summary.slice(1)}.`)),
    section(
      'ARGUMENTS',
      tagged(command.arguments.map((argument) => [argument.name, argument.summary] as const)),
    ),
    section('OPTIONS', tagged(options)),
    section('EXAMPLES', tagged(examples.map(({ line, says }) => [line, says] as const))),
    section('EXIT STATUS', tagged(EXIT_STATUS)),
    section(
      'SEE ALSO',
      `${[...related.map((other) => pageName(other.name)), 'sluice'].map((page) => `.BR ${roff(page)} (1)`).join(',\n')}\n`,
    ),
  ].join('');
}

function overviewPage(entries: readonly CommandEntry[]): string {
  const groups = [...new Set(entries.map(({ group }) => group))];
  const commands = groups.map((group) => {
    const rows = entries
      .filter((entry) => entry.group === group)
      .map(({ name, summary }) => [`sluice ${name}`, summary] as const);
    return `.SS ${roff(group)}\n${tagged(rows)}`;
  });
  return [
    HEAD,
    '.TH "SLUICE" 1 "" "sluice" "Sluice"\n',
    section('NAME', `${roff('sluice - iptables rules as eBPF programs, in the kernel and in user space')}\n`),
    section('SYNOPSIS', `.B sluice\n${roff('COMMAND …')}\n`),
    section('DESCRIPTION', `Each command has a page of its own:\n.BR sluice\\-apply (1)\nand so on.\n`),
    section('COMMANDS', commands.join('')),
    section('EXIT STATUS', tagged(EXIT_STATUS)),
  ].join('');
}

/** The pages by file name. */
export function manualPages(
  entries: readonly CommandEntry[],
  commands: readonly Command[],
): Readonly<Record<string, string>> {
  return {
    'sluice.1': overviewPage(entries),
    ...Object.fromEntries(
      commands.map((command) => [`${pageName(command.name)}.1`, commandPage(command, commands)]),
    ),
  };
}
