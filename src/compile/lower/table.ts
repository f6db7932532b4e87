/** A parsed table as IR: every rule its predicates, its action and its counter; what has no semantics is refused. */
import type { Action, IrChain, IrRule, IrTable } from '../../ir/index.ts';
import type { Family } from '../../net/index.ts';
import {
  type Chain,
  type MatchExtension,
  type MatchUse,
  type Rule,
  type RuleContext,
  type SetPlace,
  type Span,
  type Table,
  type TargetExtension,
  whySetFails,
} from '../../rules/index.ts';
import type { Refusal } from '../error.ts';
import { lowerBase } from './base.ts';

export interface LoweredTable {
  readonly ir: IrTable;
  /** What could not be lowered: the IR leaves out those conditions, so with any it must not be compiled as it is. */
  readonly refusals: readonly Refusal[];
  /** Rules with a target that nothing here gives a meaning: "chain rule". */
  readonly unknownTargets: ReadonlySet<string>;
  /** Where each rule stands in the text, by chain: for refusals of later passes. */
  readonly spans: ReadonlyMap<string, readonly Span[]>;
}

export function lowerTable(
  table: Table,
  family: Family,
  sets: ReadonlyMap<string, SetPlace> = new Map(),
): LoweredTable {
  const refusals: Refusal[] = [];
  const chains = new Map<string, IrChain>();
  const spans = new Map<string, Span[]>();
  const unknownTargets = new Set<string>();
  let counters = 0;
  for (const chain of table.chains) {
    const rules: IrRule[] = [];
    for (const [index, rule] of chain.rules.entries()) {
      const lowering = new RuleLowering(table, chain, rule, index + 1, family, sets);
      rules.push(lowering.lower(counters));
      refusals.push(...lowering.refusals);
      if (lowering.unknownTarget) unknownTargets.add(`${chain.name} ${index + 1}`);
      counters += 1;
    }
    spans.set(
      chain.name,
      chain.rules.map((rule) => rule.span),
    );
    if (chain.policy === undefined) {
      chains.set(chain.name, { name: chain.name, rules });
    } else {
      const verdict = chain.policy === 'DROP' ? 'drop' : 'accept';
      chains.set(chain.name, { name: chain.name, rules, policy: { verdict, counter: counters } });
      counters += 1;
    }
  }
  return { ir: { family, table: table.name, chains, counters }, refusals, unknownTargets, spans };
}

/** One rule of a chain, whose counter is of no account; `undefined`: not all of it can be lowered. */
export function lowerRule(
  table: Pick<Table, 'name'>,
  chain: Pick<Chain, 'name' | 'rules'>,
  index: number,
  family: Family,
  sets: ReadonlyMap<string, SetPlace> = new Map(),
): IrRule | undefined {
  const lowering = new RuleLowering(table, chain, chain.rules[index]!, index + 1, family, sets);
  const rule = lowering.lower(0);
  return lowering.refusals.length === 0 && !lowering.unknownTarget ? rule : undefined;
}

class RuleLowering {
  readonly refusals: Refusal[] = [];
  unknownTarget = false;
  readonly #table: Pick<Table, 'name'>;
  readonly #chain: Pick<Chain, 'name'>;
  readonly #rule: Rule;
  readonly #number: number;
  readonly #family: Family;
  readonly #sets: ReadonlyMap<string, SetPlace>;

  constructor(
    table: Pick<Table, 'name'>,
    chain: Pick<Chain, 'name'>,
    rule: Rule,
    number: number,
    family: Family,
    sets: ReadonlyMap<string, SetPlace>,
  ) {
    this.#sets = sets;
    this.#table = table;
    this.#chain = chain;
    this.#rule = rule;
    this.#number = number;
    this.#family = family;
  }

  lower(counter: number): IrRule {
    const predicates = lowerBase(this.#rule.base, this.#family);
    for (const match of this.#rule.matches) {
      if (this.#lacksSet(match, `match ${match.name}`)) continue;
      const lowered = match.extension.semantics?.lower?.(match.state, this.#context());
      if (lowered !== undefined) {
        predicates.push(...lowered);
        continue;
      }
      const reason =
        match.extension.semantics === undefined
          ? 'this match is read and printed, but nothing can run it'
          : 'no program can ask for this; it is evaluated, and runs in the netstack';
      this.#refuse(match.span, `match ${match.name}`, reason);
    }
    const source = { table: this.#table.name, chain: this.#chain.name, rule: this.#number };
    return { predicates, action: this.#action(), counter, source };
  }

  #action(): Action {
    const { target } = this.#rule;
    if (target === undefined) return { kind: 'continue' };
    switch (target.kind) {
      case 'chain':
        return { kind: target.goto ? 'goto' : 'jump', chain: target.chain };
      case 'verdict':
        if (target.verdict === 'QUEUE') {
          this.#refuse(target.span, 'target QUEUE', 'no program may hand a packet to user space');
          this.unknownTarget = true;
          return { kind: 'drop' };
        }
        return { kind: ({ ACCEPT: 'accept', DROP: 'drop', RETURN: 'return' } as const)[target.verdict] };
      case 'extension': {
        const { semantics, effect } = target.extension;
        if (semantics === undefined) {
          const reason =
            effect === undefined
              ? 'this target is read and printed, but nothing can run it'
              : 'no program can do this; it runs in the netstack';
          this.#refuse(target.span, `target ${target.name}`, reason);
          this.unknownTarget = true;
          return { kind: 'drop' };
        }
        if (this.#lacksSet(target, `target ${target.name}`)) {
          this.unknownTarget = true;
          return { kind: 'drop' };
        }
        return semantics.lower(target.state, this.#context());
      }
    }
  }

  /** Refuses a use of a set that is not there, or that cannot be looked up. */
  #lacksSet(
    {
      extension,
      state,
      span,
    }: Pick<MatchUse, 'state' | 'span'> & { extension: MatchExtension | TargetExtension },
    what: string,
  ): boolean {
    const why = (extension.sets?.(state) ?? [])
      .map((reference) => whySetFails(reference, this.#sets))
      .find((reason) => reason !== undefined);
    if (why !== undefined) this.#refuse(span, what, why);
    return why !== undefined;
  }

  #context(): RuleContext {
    const { protocol } = this.#rule.base;
    const known = {
      family: this.#family,
      table: this.#table.name,
      chain: this.#chain.name,
      sets: this.#sets,
    };
    return protocol === undefined ? known : { ...known, protocol };
  }

  #refuse(span: Span, what: string, reason: string): void {
    this.refusals.push({
      code: 'NOT_COMPILED',
      table: this.#table.name,
      chain: this.#chain.name,
      rule: this.#number,
      span,
      what,
      reason,
      hooks: [],
    });
  }
}
