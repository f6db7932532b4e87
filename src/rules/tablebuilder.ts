/**
 * A table while commands change it: what libiptc does between reading a table from the kernel and committing it.
 * Every operation reports what libiptc would refuse.
 */
import type { Family } from '../net/index.ts';
import type { Command } from './command.ts';
import type { Chain, Counters, Rule, Span, Table, TableName } from './model.ts';
import { printRule } from './printer.ts';
import type { Place, Reporter } from './report.ts';
import { didYouMean } from './suggestion.ts';
import { builtinChains, builtinHook } from './tables.ts';
import { MAXIMUM_CHAIN_NAME, VERDICT_NAMES } from './text/chain-name.ts';
import { byteLength } from './text/utf8.ts';

/** Commands that change nothing. */
const LOOKING: readonly Command['kind'][] = ['check', 'list', 'list-rules'];

export class TableBuilder {
  readonly table: Table;
  private readonly family: Family;
  private readonly reporter: Reporter;
  private readonly chains = new Map<string, Chain>();
  /** Chains that lines with errors were meant for: rule numbers mean nothing there any more. */
  private readonly damaged = new Set<string>();
  private readonly keeps: boolean;
  /** The table as it was, until something is done to it: libiptc commits nothing then. */
  private unchanged: Table | undefined;
  /** Rules that were there: libiptc zeroes no counters but theirs, for those of others are set already. */
  private readonly kept = new Set<Rule>();

  /**
   * The built-in chains are there from the beginning, with the policies of `previous` or ACCEPT; libiptc gives up a
   * policy's counters with every change.
   * @param keeps the rules and other chains of `previous` are there, too
   */
  constructor(
    name: TableName,
    family: Family,
    span: Span,
    reporter: Reporter,
    previous?: Table,
    keeps = false,
  ) {
    this.family = family;
    this.reporter = reporter;
    this.keeps = keeps;
    this.table = { name, chains: [], span };
    for (const chain of builtinChains(name)) {
      const before = previous?.chains.find((candidate) => candidate.name === chain);
      this.addChain(chain, before?.policy ?? 'ACCEPT', span);
    }
    if (!keeps) return;
    this.unchanged = previous;
    for (const before of previous?.chains ?? []) {
      const chain = this.chains.get(before.name) ?? this.addChain(before.name, undefined, before.span);
      for (const rule of before.rules) {
        chain.rules.push(rule);
        this.kept.add(rule);
      }
    }
  }

  private addChain(name: string, policy: Chain['policy'], span: Span): Chain {
    const chain: Chain = { name, policy, counters: { packets: 0n, bytes: 0n }, rules: [], span };
    this.chains.set(name, chain);
    this.table.chains.push(chain);
    return chain;
  }

  /** The table as it is now. */
  get committed(): Table {
    return this.unchanged ?? this.table;
  }

  isChain(name: string): boolean {
    return this.chains.has(name);
  }

  chainNames(): Iterable<string> {
    return this.chains.keys();
  }

  /** Notes that a line for this chain had errors. */
  markDamaged(chain: string): void {
    this.damaged.add(chain);
  }

  /** A line ":chain policy [packets:bytes]". */
  declare(name: string, policy: string, counters: Counters, place: Place, policyPlace: Place): void {
    const builtin = builtinHook(this.table.name, name) !== undefined;
    if (!builtin || policy !== '-') this.unchanged = undefined;
    const known = this.keeps && !builtin ? this.chains.get(name) : undefined;
    // A chain of the user's that is named is emptied, also where the others are kept.
    if (known !== undefined) known.rules.length = 0;
    else if (!builtin && !this.create(name, place)) return;
    if (policy !== '-') this.setPolicy(name, policy, counters, place, policyPlace);
  }

  private create(name: string, place: Place): boolean {
    if (VERDICT_NAMES.includes(name))
      this.reporter.error('CHAIN_NAME', `chain name "${name}" is the name of a target`, place);
    else if (byteLength(name) > MAXIMUM_CHAIN_NAME)
      this.reporter.error(
        'CHAIN_NAME',
        `chain name "${name}" is longer than ${MAXIMUM_CHAIN_NAME} bytes`,
        place,
      );
    else if (this.chains.has(name))
      this.reporter.error('CHAIN_EXISTS', `chain "${name}" exists already`, place, 'remove one of the lines');
    else {
      this.addChain(name, undefined, this.reporter.span(place));
      return true;
    }
    return false;
  }

  private setPolicy(
    name: string,
    policy: string,
    counters: Counters,
    place: Place,
    policyPlace: Place,
  ): void {
    const chain = this.chains.get(name);
    if (chain === undefined || chain.policy === undefined)
      this.reporter.error(
        'POLICY',
        chain === undefined ? `unknown chain "${name}"` : `user chain "${name}" cannot have a policy`,
        place,
        chain === undefined
          ? didYouMean(name, builtinChains(this.table.name))
          : `chains of table ${this.table.name} that have one: ${builtinChains(this.table.name).join(', ')}`,
      );
    else if (policy !== 'ACCEPT' && policy !== 'DROP')
      this.reporter.error(
        'POLICY',
        `policy "${policy}" is neither ACCEPT nor DROP`,
        policyPlace,
        didYouMean(policy, ['ACCEPT', 'DROP']),
      );
    else {
      chain.policy = policy;
      chain.counters = { packets: counters.packets, bytes: counters.bytes };
    }
  }

  private find(name: string, place: Place): Chain | undefined {
    const chain = this.chains.get(name);
    if (chain === undefined)
      this.reporter.error(
        'UNKNOWN_CHAIN',
        `unknown chain "${name}" in table ${this.table.name}`,
        place,
        didYouMean(name, this.chains.keys()) ?? `declare it before its rules: ":${name} - [0:0]"`,
      );
    return chain;
  }

  /** Does what the command says; `place` is where to report what cannot be done. */
  apply(command: Command, place: Place): void {
    if (!LOOKING.includes(command.kind)) this.unchanged = undefined;
    switch (command.kind) {
      case 'append':
        this.append(command.chain, command.rules, place);
        return;
      case 'insert':
      case 'replace':
        this.putAt(command.kind, command.chain, command.number, command.rules, place);
        return;
      case 'delete':
      case 'check':
        this.eachSame(command.kind, command.chain, command.rules, place);
        return;
      case 'delete-number': {
        const chain = this.find(command.chain, place);
        if (chain !== undefined && this.inReach(chain, command.number, chain.rules.length, place))
          chain.rules.splice(command.number - 1, 1);
        return;
      }
      case 'new-chain':
        this.create(command.chain, place);
        return;
      case 'flush':
        for (const chain of this.named(command.chain, place)) chain.rules.length = 0;
        return;
      case 'delete-chain':
        this.deleteChains(command.chain, place);
        return;
      case 'rename-chain':
        this.rename(command.chain, command.newName, place);
        return;
      case 'policy':
        this.setPolicy(
          command.chain,
          command.policy,
          command.counters ?? { packets: 0n, bytes: 0n },
          place,
          place,
        );
        return;
      case 'zero':
        this.zero(command.chain, command.number, place);
        return;
      default:
        this.reporter.warning('WITHOUT_EFFECT', 'listing rules changes nothing when a file is read', place);
    }
  }

  private append(name: string, rules: readonly Rule[], place: Place): void {
    const chain = this.find(name, place);
    if (chain !== undefined) for (const rule of rules) chain.rules.push(rule);
  }

  private named(name: string | undefined, place: Place): Chain[] {
    if (name === undefined) return this.table.chains;
    const chain = this.find(name, place);
    return chain === undefined ? [] : [chain];
  }

  private inReach(chain: Chain, number: number, limit: number, place: Place): boolean {
    if (number <= limit) return true;
    if (!this.damaged.has(chain.name))
      this.reporter.error(
        'NO_SUCH_RULE',
        `chain ${chain.name} has ${chain.rules.length} rules, so there is no place ${number}`,
        place,
      );
    return false;
  }

  private putAt(
    kind: 'insert' | 'replace',
    name: string,
    number: number,
    rules: readonly Rule[],
    place: Place,
  ): void {
    const chain = this.find(name, place);
    if (chain === undefined) return;
    const limit = kind === 'insert' ? chain.rules.length + 1 : chain.rules.length;
    if (!this.inReach(chain, number, limit, place)) return;
    // Each of several rules goes to the same place, so the last one ends up first.
    for (const rule of rules) chain.rules.splice(number - 1, kind === 'replace' ? 1 : 0, rule);
  }

  private eachSame(kind: 'delete' | 'check', name: string, rules: readonly Rule[], place: Place): void {
    const chain = this.find(name, place);
    if (chain === undefined) return;
    for (const rule of rules) {
      const text = printRule(rule, name, this.family);
      const index = chain.rules.findIndex((other) => printRule(other, name, this.family) === text);
      if (index < 0) {
        if (!this.damaged.has(name))
          this.reporter.error('NO_SUCH_RULE', `chain ${name} has no such rule`, place);
      } else if (kind === 'delete') chain.rules.splice(index, 1);
    }
  }

  private isReferenced(name: string): boolean {
    return this.table.chains.some((chain) =>
      chain.rules.some((rule) => rule.target?.kind === 'chain' && rule.target.chain === name),
    );
  }

  private deleteChains(name: string | undefined, place: Place): void {
    const candidates = name === undefined ? this.table.chains.filter(isUserChain) : this.named(name, place);
    for (const chain of candidates) {
      if (!isUserChain(chain))
        this.reporter.error('BUILTIN_CHAIN', `cannot delete the built-in chain ${chain.name}`, place);
      else if (chain.rules.length > 0 || this.isReferenced(chain.name))
        this.reporter.error(
          'CHAIN_IN_USE',
          chain.rules.length > 0 ? `chain ${chain.name} has rules` : `chain ${chain.name} is jumped to`,
          place,
          'flush it and delete the rules that jump to it first',
        );
      else {
        this.chains.delete(chain.name);
        this.table.chains.splice(this.table.chains.indexOf(chain), 1);
      }
    }
  }

  private rename(oldName: string, newName: string, place: Place): void {
    const chain = this.find(oldName, place);
    if (chain === undefined) return;
    if (!isUserChain(chain)) {
      this.reporter.error('BUILTIN_CHAIN', `cannot rename the built-in chain ${oldName}`, place);
      return;
    }
    if (this.chains.has(newName)) {
      this.reporter.error('CHAIN_EXISTS', `chain "${newName}" exists already`, place);
      return;
    }
    const renamed: Chain = { ...chain, name: newName };
    this.table.chains[this.table.chains.indexOf(chain)] = renamed;
    this.chains.delete(oldName);
    this.chains.set(newName, renamed);
    for (const { rules } of this.table.chains) {
      for (const [index, rule] of rules.entries()) {
        if (rule.target?.kind === 'chain' && rule.target.chain === oldName)
          this.change(rules, index, { target: { ...rule.target, chain: newName } });
      }
    }
  }

  /** Another object in its place: who holds the rule as it was must not see it change. */
  private change(rules: Rule[], index: number, change: Partial<Rule>): void {
    const rule = rules[index]!;
    rules[index] = { ...rule, ...change };
    if (this.kept.has(rule)) this.kept.add(rules[index]);
  }

  private zero(name: string | undefined, number: number | undefined, place: Place): void {
    for (const chain of this.named(name, place)) {
      if (number !== undefined && !this.inReach(chain, number, chain.rules.length, place)) return;
      for (const [index, rule] of chain.rules.entries())
        if ((number === undefined || index === number - 1) && this.kept.has(rule))
          this.change(chain.rules, index, { counters: { packets: 0n, bytes: 0n } });
    }
  }
}

function isUserChain(chain: Chain): boolean {
  return chain.policy === undefined;
}
