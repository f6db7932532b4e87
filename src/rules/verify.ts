/**
 * What the kernel checks when a table is committed: the walk over all chains from every hook (mark_source_chains,
 * net/ipv4/netfilter/ip_tables.c), then table, hook and protocol of each match and target (xt_check_match,
 * xt_check_target, net/netfilter/x_tables.c).
 */
import { HOOK_CHAINS, type Hook } from '../ir/index.ts';
import type { Family } from '../net/index.ts';
import { type MatchExtension, OptionError, type TargetExtension, type Where, whereOf } from './extension.ts';
import type { BaseMatch, Chain, MaskedAddress, Rule, Span, Table } from './model.ts';
import { formatProtocol } from './names/protocols.ts';
import type { Reporter } from './report.ts';
import { TABLE_HOOKS } from './tables.ts';

/** Rules of a chain that the kernel's walk comes to: it stops after an unconditional verdict. */
function walkedRules(chain: Chain): readonly Rule[] {
  const end = chain.rules.findIndex(
    (rule) => rule.target?.kind === 'verdict' && rule.matches.length === 0 && isUnconditional(rule.base),
  );
  return end < 0 ? chain.rules : chain.rules.slice(0, end + 1);
}

/** True where struct ipt_ip or ip6t_ip6 is all zero: any address at all leaves no trace in it. */
function isUnconditional({ source, destination, ...others }: BaseMatch): boolean {
  return isAnyAddress(source) && isAnyAddress(destination) && Object.keys(others).length === 0;
}

function isAnyAddress(given: MaskedAddress | undefined): boolean {
  if (given === undefined) return true;
  const { address, mask, negate } = given;
  return !negate && [...mask, ...address].every((byte) => byte === 0);
}

interface Frame {
  readonly chain: Chain;
  readonly rules: readonly Rule[];
  next: number;
}

/** Marks chains reached from one hook; reports the jumps that close a circle. */
function walk(
  start: Chain,
  chains: ReadonlyMap<string, Chain>,
  reach: (chain: Chain) => boolean,
  onLoop: (rule: Rule, path: readonly string[]) => void,
): void {
  if (!reach(start)) return;
  const stack: Frame[] = [{ chain: start, rules: walkedRules(start), next: 0 }];
  const onPath = new Set([start]);
  while (stack.length > 0) {
    const frame = stack[stack.length - 1]!;
    const rule = frame.rules[frame.next++];
    if (rule === undefined) {
      onPath.delete(frame.chain);
      stack.pop();
      continue;
    }
    if (rule.target?.kind !== 'chain') continue;
    const chain = chains.get(rule.target.chain);
    if (chain === undefined) continue;
    if (onPath.has(chain)) {
      const names = stack.map((one) => one.chain.name);
      onLoop(rule, [...names.slice(names.indexOf(chain.name)), chain.name]);
    } else if (reach(chain)) {
      onPath.add(chain);
      stack.push({ chain, rules: walkedRules(chain), next: 0 });
    }
  }
}

/** Bit masks of hooks that each chain is reached from. */
export function reachingHooks(
  table: Table,
  onLoop: (rule: Rule, path: readonly string[]) => void = () => {},
): ReadonlyMap<string, number> {
  const chains = new Map(table.chains.map((chain) => [chain.name, chain]));
  const reached = new Map<string, number>();
  const looped = new Set<Rule>();
  for (const hook of TABLE_HOOKS[table.name]) {
    const start = chains.get(HOOK_CHAINS[hook]!);
    if (start === undefined) continue;
    const reach = (chain: Chain): boolean => {
      const before = reached.get(chain.name) ?? 0;
      if ((before & (1 << hook)) !== 0) return false;
      reached.set(chain.name, before | (1 << hook));
      return true;
    };
    walk(start, chains, reach, (rule, path) => {
      if (looped.has(rule)) return;
      looped.add(rule);
      onLoop(rule, path);
    });
  }
  return reached;
}

/** Reports what the kernel would refuse at COMMIT, at the rule that causes it: at the table, if the rule is not of this text. */
export function verifyTable(
  table: Table,
  family: Family,
  reporter: Reporter,
  sourceLine: (line: number) => string,
): void {
  const report = (fault: Fault, found: Span): void => {
    const span = found.file === reporter.file ? found : table.span;
    reporter.errorAt(fault.code, fault.message, span, sourceLine(span.line), fault.hint);
  };
  const reached = reachingHooks(table, (rule, path) => {
    const message = `chains jump in a circle: ${path.join(' -> ')}`;
    const hint = 'the kernel refuses loops, also those that no packet would take';
    report({ code: 'CHAIN_LOOP', message, hint }, rule.target!.span);
  });
  for (const chain of table.chains) {
    const mask = reached.get(chain.name) ?? 0;
    const hooks = TABLE_HOOKS[table.name].filter((hook) => (mask & (1 << hook)) !== 0);
    const walked = walkedRules(chain).length;
    for (const [index, rule] of chain.rules.entries())
      verifyRule(rule, { table, chain, family, hooks: index < walked ? hooks : [] }, report);
  }
}

interface RulePlace {
  readonly table: Table;
  readonly chain: Chain;
  readonly family: Family;
  readonly hooks: readonly Hook[];
}

function verifyRule(rule: Rule, place: RulePlace, report: (fault: Fault, span: Span) => void): void {
  const check = (use: UsedExtension): void => {
    const { extension, name, state, span } = use;
    const fault =
      misplaced(whereOf(extension, state), name, rule, place) ?? refused(extension, state, rule, place);
    if (fault !== undefined) report(fault, span);
  };
  for (const match of rule.matches) check(match);
  if (rule.target?.kind === 'extension') check(rule.target);
}

interface UsedExtension {
  readonly extension: MatchExtension | TargetExtension;
  readonly name: string;
  readonly state: unknown;
  readonly span: Span;
}

/** What the extension's checkentry function refuses. */
function refused(
  extension: MatchExtension | TargetExtension,
  state: unknown,
  rule: Rule,
  place: RulePlace,
): Fault | undefined {
  if (extension.admit === undefined) return undefined;
  try {
    extension.admit(state, {
      family: place.family,
      table: place.table.name,
      chain: place.chain.name,
      hooks: place.hooks,
      matches: rule.matches,
      ...(rule.base.protocol === undefined ? {} : { protocol: rule.base.protocol }),
    });
    return undefined;
  } catch (error) {
    if (!(error instanceof OptionError)) throw error;
    return { code: 'REFUSED', message: `${extension.name}: ${error.message}`, hint: error.hint };
  }
}

interface Fault {
  readonly code: 'CHAIN_LOOP' | 'WRONG_TABLE' | 'WRONG_HOOK' | 'WRONG_PROTOCOL' | 'REFUSED';
  readonly message: string;
  readonly hint: string | undefined;
}

function misplaced(where: Where, name: string, rule: Rule, place: RulePlace): Fault | undefined {
  const { table } = place;
  if (where.tables !== undefined && !where.tables.includes(table.name))
    return {
      code: 'WRONG_TABLE',
      message: `${name} is not possible in table ${table.name}`,
      hint: `it is in ${where.tables.join(', ')}`,
    };
  if (where.hooks !== undefined) {
    const allowed = where.hooks;
    const chains = (hooks: readonly Hook[]): string => hooks.map((hook) => HOOK_CHAINS[hook]).join(', ');
    const wrong = place.hooks.filter((hook) => !allowed.includes(hook));
    if (wrong.length > 0) {
      const possible = TABLE_HOOKS[table.name].filter((hook) => allowed.includes(hook));
      return {
        code: 'WRONG_HOOK',
        message: `${name} is not possible in rules reached from ${chains(wrong)}`,
        hint: `it is in ${chains(possible) || 'other tables'}`,
      };
    }
  }
  if (where.protocols !== undefined) {
    const protocol = rule.base.protocol;
    if (protocol === undefined || protocol.negate || !where.protocols.includes(protocol.number)) {
      const names = where.protocols.map(formatProtocol);
      return {
        code: 'WRONG_PROTOCOL',
        message: `${name} needs ${names.length === 1 ? '' : 'one of '}-p ${names.join(', ')}`,
        hint: `add -p ${names[0]} to the rule`,
      };
    }
  }
  return undefined;
}
