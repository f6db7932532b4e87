import { COMMON_OPTIONS, type Command, type CommandOption } from './command.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

function words(option: CommandOption): string[] {
  return [
    option.long === undefined ? undefined : `--${option.long}`,
    option.short === undefined ? undefined : `-${option.short}`,
  ].filter((word) => word !== undefined);
}

/** What a value completes to, in words that bash and fish both evaluate. */
function valueSource(option: CommandOption): string {
  switch (option.completes) {
    case 'device':
      return 'ls /sys/class/net';
    case 'netns':
      return 'ls /run/netns 2>/dev/null';
    default:
      return option.choices === undefined ? '' : `echo ${option.choices.join(' ')}`;
  }
}

function bash(commands: readonly Command[]): string {
  const cases = commands.map((command) => {
    const options = [...command.options, ...COMMON_OPTIONS];
    const values = options
      .filter((option) => option.value !== undefined && valueSource(option) !== '')
      .map(
        (option) =>
          `      ${words(option).join('|')}) COMPREPLY=($(compgen -W "$(${valueSource(option)})" -- "$cur")); return ;;`,
      );
    const value = values.length === 0 ? '' : `    case "$prev" in\n${values.join('\n')}\n    esac\n`;
    return `  "${command.name}")\n${value}    [[ $cur == -* ]] && COMPREPLY=($(compgen -W "${options.flatMap(words).join(' ')}" -- "$cur")) ;;`;
  });
  const names = commands.map(({ name }) => `"${name}"`).join(' ');
  return `# bash completion for sluice
_sluice() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} name= two="\${COMP_WORDS[1]} \${COMP_WORDS[2]}" one=\${COMP_WORDS[1]} known
  COMPREPLY=()
  for known in ${names}; do
    if [[ $COMP_CWORD -gt 2 && $known == "$two" ]]; then name=$known; break; fi
    if [[ $COMP_CWORD -gt 1 && $known == "$one" ]]; then name=$known; fi
  done
  case "$name" in
  "")
    for known in ${names}; do
      if [[ $COMP_CWORD -eq 1 ]]; then COMPREPLY+=($(compgen -W "\${known%% *}" -- "$cur"))
      elif [[ $known == "$one "* ]]; then COMPREPLY+=($(compgen -W "\${known#* }" -- "$cur")); fi
    done ;;
${cases.join('\n')}
  esac
}
complete -o default -F _sluice sluice
`;
}

const zshText = (text: string): string =>
  text.replace(/[[\]:'\\]/g, (mark) => (mark === "'" ? "'\\''" : `\\${mark}`));

function zsh(commands: readonly Command[]): string {
  const cases = commands.map((command) => {
    const specs = [...command.options, ...COMMON_OPTIONS].flatMap((option) =>
      words(option).map((word) => {
        const value =
          option.value === undefined
            ? ''
            : `:${zshText(option.value)}:${option.choices !== undefined ? `(${option.choices.join(' ')})` : valueSource(option) === '' ? '_files' : `( $(${valueSource(option)}) )`}`;
        return `'${option.repeatable === true ? '*' : ''}${word}[${zshText(option.summary)}]${value}'`;
      }),
    );
    return `    '${command.name}') _arguments ${specs.join(' ')} '*:file:_files' ;;`;
  });
  const heads = [...new Set(commands.map(({ name }) => name.split(' ')[0]!))];
  return `#compdef sluice
_sluice() {
  local name=$words[2]
  case "$words[2] $words[3]" in
${commands
  .filter(({ name }) => name.includes(' '))
  .map(({ name }) => `    '${name}') name='${name}' ;;`)
  .join('\n')}
  esac
  if (( CURRENT == 2 )); then compadd ${heads.join(' ')}; return; fi
  case "$name" in
${heads
  .filter((head) => commands.some(({ name }) => name.startsWith(`${head} `)))
  .map(
    (head) =>
      `    '${head}') compadd ${commands
        .filter(({ name }) => name.startsWith(`${head} `))
        .map(({ name }) => name.slice(head.length + 1))
        .join(' ')} ;;`,
  )
  .join('\n')}
${cases.join('\n')}
  esac
}
compdef _sluice sluice
`;
}

function fish(commands: readonly Command[]): string {
  const quote = (text: string): string => `'${text.replace(/['\\]/g, '\\$&')}'`;
  const lines = ['# fish completion for sluice', 'complete -c sluice -n __fish_use_subcommand -f'];
  for (const command of commands) {
    const [head, tail] = command.name.split(' ') as [string, string?];
    const seen =
      tail === undefined
        ? `__fish_seen_subcommand_from ${head}`
        : `__fish_seen_subcommand_from ${head}; and __fish_seen_subcommand_from ${tail}`;
    if (tail === undefined)
      lines.push(`complete -c sluice -n __fish_use_subcommand -a ${head} -d ${quote(command.summary)}`);
    else {
      lines.push(`complete -c sluice -n __fish_use_subcommand -a ${head}`);
      lines.push(
        `complete -c sluice -n ${quote(`__fish_seen_subcommand_from ${head}`)} -f -a ${tail} -d ${quote(command.summary)}`,
      );
    }
    for (const option of [...command.options, ...COMMON_OPTIONS]) {
      const short = option.short === undefined ? '' : ` -s ${option.short}`;
      const long = option.long === undefined ? '' : ` -l ${option.long}`;
      // Words of -a are split at blanks, the output of a command at line ends alone.
      const source = option.choices?.join(' ') ?? valueSource(option).replace(/^.+$/, '($&)');
      const value = option.value === undefined ? '' : source === '' ? ' -r -F' : ` -x -a ${quote(source)}`;
      lines.push(`complete -c sluice -n ${quote(seen)}${short}${long}${value} -d ${quote(option.summary)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

/** The completion script of a shell, made from the commands' tables. */
export function completionScript(shell: Shell, commands: readonly Command[]): string {
  return { bash, zsh, fish }[shell](commands);
}
