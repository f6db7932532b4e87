/** What `-j` and `-g` mean once the whole rule is read: a verdict, a chain, or a target extension. */
import type { CommandContext } from './commandline.ts';
import type { TargetExtension } from './extension.ts';
import type { Word } from './lexer.ts';
import type { ExtensionUse } from './loaded.ts';
import type { TableName, TargetUse } from './model.ts';
import { targetNames } from './registry.ts';
import { nearest } from './suggestion.ts';
import { builtinHook } from './tables.ts';
import { VERDICT_NAMES } from './text/chain-name.ts';

/** The words of `-j` or `-g`. */
export interface TargetWords {
  readonly name: Word;
  readonly option: Word;
  readonly goto: boolean;
}

/** True for ACCEPT, DROP, RETURN and QUEUE. */
export function isVerdict(name: string): name is 'ACCEPT' | 'DROP' | 'RETURN' | 'QUEUE' {
  return VERDICT_NAMES.includes(name);
}

/**
 * A chain of this name wins over a target of this name, as in iptables. Reports unknown names.
 */
export function resolveTarget(
  words: TargetWords | undefined,
  loaded: ExtensionUse | undefined,
  context: CommandContext,
  table: TableName,
): TargetUse | undefined {
  if (words === undefined) return undefined;
  const { reporter } = context;
  const name = words.name.text;
  const place = {
    column: words.option.column,
    length: words.name.column + words.name.length - words.option.column,
  };
  const span = reporter.span(place);
  if (!words.goto && isVerdict(name)) {
    if (name === 'DROP' && table === 'nat')
      reporter.error(
        'NAT_DROP',
        'the nat table cannot drop: it sees only the first packet of a connection',
        words.name,
        'drop in the filter or raw table',
      );
    return { kind: 'verdict', verdict: name, span };
  }
  if (context.isChain(name)) {
    if (builtinHook(table, name) !== undefined)
      reporter.error('BUILTIN_CHAIN', `cannot jump to the built-in chain ${name}`, words.name);
    if (loaded !== undefined)
      reporter.warning('CHAIN_NAME', `"${name}" is a chain here, not the target of that name`, words.name);
    return { kind: 'chain', chain: name, goto: words.goto, span };
  }
  if (loaded !== undefined)
    return {
      kind: 'extension',
      extension: loaded.extension as TargetExtension,
      name: loaded.name,
      state: loaded.state,
      span,
    };
  reportUnknown(words, context);
  return undefined;
}

function reportUnknown(words: TargetWords, context: CommandContext): void {
  const name = words.name.text;
  const chains = [...context.chainNames()];
  const near = nearest(
    name,
    words.goto ? chains : [...VERDICT_NAMES, ...targetNames(context.family), ...chains],
  );
  const declare = context.restore
    ? `chains are declared before rules that use them: ":${name} - [0:0]"`
    : `create the chain with -N ${name}`;
  context.reporter.error(
    words.goto ? 'UNKNOWN_CHAIN' : 'UNKNOWN_TARGET',
    words.goto ? `"${name}" is not a chain` : `"${name}" is neither a target nor a chain`,
    words.name,
    near === undefined ? declare : `did you mean ${near}? ${declare}`,
  );
}
