/**
 * The strategy `inline`: rules as code, one behind the other, each chain once.
 *
 * A rule is its predicates (a failed one goes to the next rule), its counter and its action. The matching way falls
 * through, so that the verifier reaches an end soon and keeps few branches open. A chain called from one place
 * returns by a plain jump; one called from several finds the number of its return site in a word of the frame.
 *
 * The verifier does not follow that word: to it such a chain may return to any of its sites, an earlier one included. So each way to
 * such a chain need not be gone through apart, which would multiply from level to level; all that is there is one more loop, which
 * the kernel's budget bounds as others, and at whose head the verifier has nothing left by which to tell the ways apart.
 */

import type { IrChain, IrRule, IrTable } from '../../../ir/index.ts';
import { type Label, R1, R10 } from '../../../isa/index.ts';
import { emitAction } from '../../actions/index.ts';
import { SYSTEM_COUNTERS } from '../../arena/layout.ts';
import { emitBlur } from '../../emit/blur.ts';
import { emitCount } from '../../emit/counter.ts';
import type { Emission } from '../../emit/emission.ts';
import { emitPredicate } from '../../predicates/index.ts';
import type { RuleTag } from '../../program.ts';
import { type CallPlan, planCalls, type ReturnSite, walkedRules } from './calls.ts';

/** One built-in chain to run, and where its counters begin among the generation's. */
export interface ChainRun {
  readonly table: IrTable;
  readonly chain: string;
  readonly firstCounter: number;
}

/** Emits the chain and all it calls; ACCEPT goes to `accepted`. Uses r0..r5. */
export function emitChainRun(emission: Emission, run: ChainRun, accepted: Label): void {
  new ChainWriter(emission, run, accepted).write();
}

class ChainWriter {
  readonly #emission: Emission;
  readonly #run: ChainRun;
  readonly #accepted: Label;
  readonly #plan: CallPlan;
  readonly #entries = new Map<string, Label>();
  readonly #sites = new Map<number, Label>();
  /** Code that nothing falls into, behind the chains. */
  readonly #asides: (() => void)[] = [];

  constructor(emission: Emission, run: ChainRun, accepted: Label) {
    this.#run = run;
    this.#accepted = accepted;
    this.#plan = planCalls(run.table.chains, run.chain);
    this.#emission = emission;
    for (const chain of this.#plan.order) this.#entries.set(chain.name, emission.asm.label(chain.name));
    for (const sites of this.#plan.sites.values()) {
      for (const site of sites) {
        if (!this.#sites.has(site.id)) this.#sites.set(site.id, emission.asm.label(`return_${site.id}`));
      }
    }
  }

  write(): void {
    const { asm, labels } = this.#emission;
    for (const chain of this.#plan.order) {
      const entry = this.#entries.get(chain.name)!;
      asm.at(this.#tag(chain.name, Math.min(1, chain.rules.length)));
      if (this.#returnsByNumber(chain.name)) {
        asm.note('entered from several places');
        asm.place(entry);
        emitBlur(this.#emission);
        asm.mayGoto(labels.hotdrop);
      } else asm.place(entry);
      for (const [index, rule] of walkedRules(chain).entries()) this.#rule(chain, rule, index);
      asm.at(this.#tag(chain.name, 0));
      if (chain.policy === undefined) this.#return(chain);
      else this.#policy(chain, chain.policy);
    }
    for (let aside = this.#asides.shift(); aside !== undefined; aside = this.#asides.shift()) aside();
    asm.at(undefined);
  }

  #returnsByNumber(chain: string): boolean {
    return this.#plan.sites.get(chain)!.length > 1;
  }

  #tag(chain: string, rule: number): RuleTag {
    const { table } = this.#run;
    return { family: table.family, table: table.table, chain, rule };
  }

  #rule(chain: IrChain, rule: IrRule, index: number): void {
    const { asm, labels } = this.#emission;
    const tag = this.#tag(chain.name, index + 1);
    const next = asm.label('next_rule');
    asm.at(tag);
    this.#conditions(rule, tag, 0, next);
    this.#count(rule);
    const { action } = rule;
    switch (action.kind) {
      case 'accept':
        asm.goto(this.#accepted);
        break;
      case 'drop':
        asm.goto(labels.drop);
        break;
      case 'return':
        this.#return(chain);
        break;
      case 'jump': {
        const site = this.#plan.sites
          .get(action.chain)!
          .find((s) => s.chain === chain.name && s.rule === index)!;
        this.#call(action.chain, site.id);
        asm.place(this.#sites.get(site.id)!);
        break;
      }
      case 'goto':
        this.#goto(chain, action.chain);
        break;
      default:
        emitAction(this.#emission, action, tag);
    }
    asm.place(next);
  }

  /** The conditions from the one at `first` on. */
  #conditions(rule: IrRule, tag: RuleTag, first: number, fail: Label): void {
    const emission = this.#emission;
    const { asm } = emission;
    for (const [place, predicate] of rule.predicates.entries()) {
      if (place < first) continue;
      const key = `${tag.family} ${tag.table} ${tag.chain} ${tag.rule} ${place}`;
      if (predicate.kind !== 'sctp-chunks' || !predicate.negate) {
        emitPredicate(emission, predicate, key, fail);
        continue;
      }
      const doomed = asm.label('doomed');
      emitPredicate(emission, predicate, key, fail, doomed);
      this.#asides.push(() => this.#doomed(rule, tag, place, doomed));
    }
  }

  /**
   * Chunks that cannot be read count as such that are not there: with `!` the packet is held against the conditions behind
   * the one at `place`, counted and acted on, and dropped then (ipt_do_table looks at hotdrop behind the target).
   */
  #doomed(rule: IrRule, tag: RuleTag, place: number, entry: Label): void {
    const { asm, labels } = this.#emission;
    asm.at(tag).place(entry);
    this.#conditions(rule, tag, place + 1, labels.hotdrop);
    this.#count(rule);
    emitAction(this.#emission, rule.action, tag);
    asm.goto(labels.hotdrop);
  }

  #count({ counter }: IrRule): void {
    emitCount(this.#emission, SYSTEM_COUNTERS + this.#run.firstCounter + counter);
  }

  #policy(chain: IrChain, policy: NonNullable<IrChain['policy']>): void {
    const { asm, labels } = this.#emission;
    const site = this.#plan.sites.get(chain.name)?.[0];
    if (site !== undefined) asm.place(this.#sites.get(site.id)!);
    emitCount(this.#emission, SYSTEM_COUNTERS + this.#run.firstCounter + policy.counter);
    asm.goto(policy.verdict === 'accept' ? this.#accepted : labels.drop);
  }

  /** Where the chain's return site is noted. */
  #site(chain: string): number {
    return this.#emission.frame.word(`return.${this.#plan.level.get(chain)!}`);
  }

  #call(chain: string, site: number): void {
    const { asm } = this.#emission;
    if (this.#returnsByNumber(chain)) asm.store('u32', R10, this.#site(chain), site);
    asm.goto(this.#entries.get(chain)!);
  }

  /** The target returns to where this chain would have. */
  #goto(from: IrChain, to: string): void {
    const { asm } = this.#emission;
    const inherited = this.#plan.sites.get(from.name)!;
    if (inherited.length === 1) {
      this.#call(to, inherited[0]!.id);
      return;
    }
    asm.load('u32', R1, R10, this.#site(from.name)).store('u32', R10, this.#site(to), R1);
    asm.goto(this.#entries.get(to)!);
  }

  /** RETURN in a built-in chain is its policy. */
  #return(chain: IrChain): void {
    const { asm } = this.#emission;
    const sites = this.#plan.sites.get(chain.name)!;
    if (sites.length === 1) {
      asm.goto(this.#sites.get(sites[0]!.id)!);
      return;
    }
    asm.load('u32', R1, R10, this.#site(chain.name));
    this.#branch(sites);
  }

  /** Binary search of the site in r1; ids are in ascending order. */
  #branch(sites: readonly ReturnSite[]): void {
    const { asm } = this.#emission;
    if (sites.length === 1) {
      asm.goto(this.#sites.get(sites[0]!.id)!);
      return;
    }
    const middle = sites.length >> 1;
    const upper = asm.label('later_site');
    asm.jump('>=', R1, sites[middle]!.id, upper);
    this.#branch(sites.slice(0, middle));
    asm.place(upper);
    this.#branch(sites.slice(middle));
  }
}
