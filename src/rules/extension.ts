import type { Action, Hook, Predicate } from '../ir/index.ts';
import type { Family } from '../net/index.ts';
import type { EvaluationPacket } from './evaluate/packet.ts';
import type { PacketHost } from './evaluate/packet-host.ts';
import type { MatchUse, TableName } from './model.ts';
import type { SetPlace } from './sets/place.ts';
import type { SetReference } from './text/set-reference.ts';
import type { AbiForm } from './uapi/payload.ts';

/**
 * One match or target of iptables, whole, in one file: its options and their text (man iptables-extensions(8)),
 * where it may stand, what it means (evaluate) and what it lowers to. The registry in `registry.ts` lists them.
 *
 * `S` is the plain data an instance of the extension holds once parsed. Extensions without `semantics` are parsed,
 * checked and printed, and refused with their span by whatever would have to run them.
 */
export interface Extension<S> {
  /** The name after `-m` or `-j`. Where names differ by family (icmp6) there are two extensions. */
  readonly name: string;
  /** Other spellings that load the same extension and print as `name`. */
  readonly aliases?: readonly string[];
  readonly families: readonly Family[];
  /** One line for the generated reference. */
  readonly summary: string;
  readonly options: readonly OptionSpec<S>[];
  /** Where the kernel accepts the extension; absent means everywhere. Checked for every hook a chain is reached from. */
  readonly where?: Where | ((state: S) => Where);
  /** State before any option was seen. */
  initial(context: RuleContext): S;
  /** Checks across options once the rule ends: required options, protocol needed, … @throws {OptionError} */
  finish?(state: S, context: RuleContext): void;
  /**
   * What the kernel's checkentry refuses beyond {@link where}, although the text is well formed: called when the
   * table is committed, for every rule, after all lines of the table were read. @throws {OptionError}
   */
  admit?(state: S, context: AdmitContext): void;
  /** The IP sets that it names: without them it cannot run. */
  sets?(state: S): readonly SetReference[];
  /** Canonical options as iptables-save prints them: leading space before each word, "" when none. */
  print(state: S, context: PrintContext): string;
  /** What `iptables -L -n` shows in a rule's last column, leading space included. Absent: as {@link print}. */
  list?(state: S, context: PrintContext): string;
  /** The binary forms that Linux 6.18 registers, the one that iptables 1.8.9 writes first. Absent: not known over the ABI. */
  readonly abi?: readonly AbiForm<S>[];
}

export interface MatchExtension<S = unknown> extends Extension<S> {
  readonly kind: 'match';
  readonly semantics?: MatchSemantics<S>;
}

export interface TargetExtension<S = unknown> extends Extension<S> {
  readonly kind: 'target';
  readonly semantics?: TargetSemantics<S>;
  /**
   * What it does where a whole host stands around the tables, in place of `semantics.evaluate`: translating, answering,
   * rewriting. A target with an effect and no semantics runs there alone; everything else refuses it.
   */
  effect?(state: S, packet: EvaluationPacket, host: PacketHost): TargetOutcome;
}

/**
 * Outcome of a match. `hotdrop` drops the packet at once (struct xt_action_param). `counted-hotdrop` is what comes of a
 * negated condition that gave up: the match holds, so the rule counts and its target runs, and then the packet is dropped.
 */
export type MatchOutcome = boolean | 'hotdrop' | 'counted-hotdrop';

export interface MatchSemantics<S> {
  /**
   * Fresh per-rule memory (limit credit, nth counter), or one that rules share by name; absent for stateless matches.
   * `nowMs` is the packet clock.
   */
  memory?(state: S, nowMs: number, shared: SharedMemories): unknown;
  /** The kernel's match function. `memory` is what {@link memory} made for this rule. */
  evaluate(state: S, packet: EvaluationPacket, memory: unknown): MatchOutcome;
  /** The same as predicates, evaluated in order. Absent: no program can ask for it, and rules with it are not compiled. */
  lower?(state: S, context: RuleContext): readonly Predicate[];
  /** `--explain`: the first condition that failed, with the packet's value: "dport 443 is not 22". */
  explain?(state: S, packet: EvaluationPacket): string;
}

/** What rules of one namespace share by name, as the kernel keeps it: lists of `recent`, tables of `hashlimit`. */
export type SharedMemories = Map<string, unknown>;

/** What is shared under this name; made by the first who asks. A name stands for one type only. */
export function shareMemory<T>(shared: SharedMemories, name: string, create: () => T): T {
  if (!shared.has(name)) shared.set(name, create());
  return shared.get(name) as T;
}

/** What a target did: a verdict, or `continue` to the next rule. */
export type TargetOutcome = 'accept' | 'drop' | 'continue' | 'return' | QueueOutcome;

/** NF_QUEUE: the packet waits for a program's verdict. */
export interface QueueOutcome {
  readonly queue: number;
  /** NF_VERDICT_FLAG_QUEUE_BYPASS: without a listener it goes on to the next hook. */
  readonly bypass: boolean;
}

export interface TargetSemantics<S> {
  evaluate(state: S, packet: EvaluationPacket, memory: unknown): TargetOutcome;
  lower(state: S, context: RuleContext): Action;
}

/** What struct xt_match and struct xt_target restrict (`table`, `hooks`, `proto`), and checkentry functions like them. */
export interface Where {
  readonly tables?: readonly TableName[];
  readonly hooks?: readonly Hook[];
  /** The rule needs `-p` with one of these numbers, not negated. */
  readonly protocols?: readonly number[];
}

/** The rule an option belongs to, as far as it is known when asked. */
export interface RuleContext {
  readonly family: Family;
  readonly table: TableName;
  readonly chain: string;
  /** From `-p`, wherever in the rule it stands. */
  readonly protocol?: { readonly number: number; readonly negate: boolean };
  /** Where programs find the sets that rules name; known once rules are lowered. */
  readonly sets?: ReadonlyMap<string, SetPlace>;
}

/** The finished rule in its table, as a checkentry function sees it. */
export interface AdmitContext extends RuleContext {
  /** The hooks from which the rule's chain can be reached; empty for a chain that nothing jumps to. */
  readonly hooks: readonly Hook[];
  /** All matches of the rule, in order. */
  readonly matches: readonly MatchUse[];
}

export interface PrintContext {
  readonly family: Family;
  readonly protocol?: { readonly number: number; readonly negate: boolean };
}

export interface OptionSpec<S> {
  /** Long name without dashes. */
  readonly name: string;
  readonly aliases?: readonly string[];
  /** How many words follow: `optional` takes one unless the next word begins with "-" or "!". */
  readonly arguments: 0 | 1 | 2 | 'optional';
  /** `!` may stand before the option (and, as old files have it, before its argument). */
  readonly negatable?: boolean;
  /** May be given more than once in one instance of the extension. */
  readonly repeatable?: boolean;
  /** Argument syntax for the reference and diagnostics: "port[:port]". */
  readonly syntax?: string;
  /** One line for the reference. */
  readonly summary: string;
  /** Stores the option in the state. @throws {OptionError} when the value is wrong. */
  apply(state: S, values: readonly string[], negated: boolean, context: RuleContext): void;
}

/** A wrong option value: the parser adds the span. `argument` is the index of the offending word, -1 for the option itself. */
export class OptionError extends Error {
  readonly hint: string | undefined;
  readonly argument: number;
  constructor(message: string, options: { hint?: string; argument?: number } = {}) {
    super(message);
    this.name = 'OptionError';
    this.hint = options.hint;
    this.argument = options.argument ?? 0;
  }
}

/** {@link Extension.where} of one use of an extension; empty when it may stand everywhere. */
export function whereOf<S>(extension: Extension<S>, state: S): Where {
  return typeof extension.where === 'function' ? extension.where(state) : (extension.where ?? {});
}

/**
 * Makes a typed extension fit the registry, which does not know `S`. Sound because the parser only ever hands an
 * extension states that its own `initial` made.
 */
export function defineMatch<S>(extension: Omit<MatchExtension<S>, 'kind'>): MatchExtension {
  return { kind: 'match', ...extension } as MatchExtension;
}

/** As {@link defineMatch}, for targets. */
export function defineTarget<S>(extension: Omit<TargetExtension<S>, 'kind'>): TargetExtension {
  return { kind: 'target', ...extension } as TargetExtension;
}
