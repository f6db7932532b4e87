import { CommanderError, Command as Parser } from 'commander';
import {
  COMMON_OPTIONS,
  type Command,
  type CommandOption,
  type Invocation,
  optionName,
  UsageError,
} from './command.ts';

function flags(option: CommandOption): string {
  const names = [option.short && `-${option.short}`, option.long && `--${option.long}`]
    .filter(Boolean)
    .join(', ');
  return option.value === undefined ? names : `${names} <${option.value}>`;
}

function collect(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

/** Parses the words after a command's name by its table. @throws {UsageError} */
export function parseInvocation(command: Command, words: readonly string[]): Invocation {
  if (command.passesThrough === true) {
    const help = words.length === 1 && words[0] === '--help';
    return invocation(help ? { help } : {}, [], words);
  }
  const parser = new Parser(command.name).exitOverride().helpOption(false).allowExcessArguments(false);
  parser.configureOutput({ writeErr: () => {}, writeOut: () => {} });
  const specs = [...command.options, ...COMMON_OPTIONS];
  for (const option of specs) {
    if (option.repeatable === true) parser.option(flags(option), option.summary, collect);
    else parser.option(flags(option), option.summary);
  }
  for (const argument of command.arguments) {
    const name = `${argument.name}${argument.repeatable === true ? '...' : ''}`;
    parser.argument(argument.optional === true ? `[${name}]` : `<${name}>`, argument.summary);
  }
  const dashes = words.indexOf('--');
  const own = dashes < 0 ? words : words.slice(0, dashes);
  const rest = dashes < 0 ? [] : words.slice(dashes + 1);
  try {
    // Asking for help must work whatever else is missing.
    if (own.includes('--help') || own.includes('-h')) return invocation({ help: true }, [], rest);
    parser.parse(own, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      throw new UsageError(error.message.replace(/^error: /, ''), `see: sluice ${command.name} --help`);
    }
    throw error;
  }
  const values = parser.opts<Record<string, unknown>>();
  const named: Record<string, unknown> = {};
  for (const option of specs) {
    const value = values[attribute(optionName(option))];
    if (value === undefined) continue;
    const given = Array.isArray(value) ? (value as string[]) : [value as string];
    for (const one of given) {
      if (option.choices !== undefined && !option.choices.includes(one)) {
        throw new UsageError(`--${optionName(option)} takes ${option.choices.join(', ')}, not "${one}"`);
      }
    }
    named[optionName(option)] = value;
  }
  return invocation(named, parser.args, rest);
}

/** commander's camel-case key of a long option. */
function attribute(name: string): string {
  return name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

function invocation(
  values: Readonly<Record<string, unknown>>,
  args: readonly string[],
  rest: readonly string[],
): Invocation {
  const text = (name: string): string | undefined => {
    const value = values[name];
    return typeof value === 'string' ? value : undefined;
  };
  return {
    arguments: args,
    rest,
    flag: (name) => values[name] === true,
    text,
    list: (name) => (Array.isArray(values[name]) ? (values[name] as string[]) : []),
    number(name, { min, max }) {
      const value = text(name);
      if (value === undefined) return undefined;
      const number = Number(value);
      if (!/^-?[0-9]+$/.test(value) || number < min || number > max) {
        throw new UsageError(`--${name} takes a whole number from ${min} to ${max}, not "${value}"`);
      }
      return number;
    },
  };
}
