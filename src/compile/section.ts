/** One family's part of a program: the facts its rules need, where the packet goes, the chains, the verdicts. */
import type { Assembler, Label } from '../isa/index.ts';
import type { Family } from '../net/index.ts';
import { emitHandedStart } from './actions/handed.ts';
import { actionNeeds, announceAction } from './actions/index.ts';
import { reserveForReplies } from './actions/reply/reply.ts';
import { emitVerdicts } from './actions/verdict.ts';
import type { Emission, HandedActions } from './emit/emission.ts';
import { closeFacts, type Fact, Facts } from './emit/fact.ts';
import { Frame } from './emit/frame.ts';
import type { LogPoints } from './emit/logpoint.ts';
import type { StateWords } from './emit/state.ts';
import { emitFragmentStrategy, type FragmentStrategy, fragmentNeeds } from './fragments.ts';
import type { HookEmitter } from './hooks/hook.ts';
import { emitRoute, ROUTE, ROUTE_NEEDS } from './hooks/route.ts';
import { predicateNeeds } from './predicates/index.ts';
import type { RuleTag } from './program.ts';
import { emitIpv4Facts } from './prologue/ipv4.ts';
import { emitIpv6Facts } from './prologue/ipv6.ts';
import { planCalls } from './strategies/inline/calls.ts';
import { type ChainRun, emitChainRun } from './strategies/inline/chain.ts';

/** Chains in the order in which a packet meets them; an accepted packet goes on to the next. */
export interface SectionPlan {
  readonly family: Family;
  readonly before: readonly ChainRun[];
  /** For packets to this host, or all packets where `forward` is absent. */
  readonly local: readonly ChainRun[];
  /** For the others: needs the routing decision. */
  readonly forward?: readonly ChainRun[];
}

/** What the sections of all programs of a generation share. */
export interface GenerationParts {
  readonly state: StateWords;
  readonly logs: LogPoints;
  readonly hz: number;
  readonly fragments: FragmentStrategy;
}

/** Emits the section behind its label. r6..r9 as the prologue left them. */
export function emitSection(
  asm: Assembler<RuleTag>,
  hook: HookEmitter,
  plan: SectionPlan,
  parts: GenerationParts,
  handed: HandedActions,
): void {
  const runs = [...plan.before, ...plan.local, ...(plan.forward ?? [])];
  const frame = new Frame();
  const facts = new Facts(plan.family, sectionFacts(runs, hook, plan, parts.fragments), frame);
  const answers = hook.answering !== undefined && runs.some(rejects);
  const labels = {
    accept: asm.label('accept'),
    drop: asm.label('drop'),
    hotdrop: asm.label('hotdrop'),
    malformed: asm.label('malformed'),
    ...(answers
      ? {
          reply: {
            label: asm.label('reply'),
            frameSize: reserveForReplies({ facts, family: plan.family, frame }),
          },
        }
      : {}),
  };
  const { state, logs, hz } = parts;
  const emission: Emission = {
    asm,
    hook,
    family: plan.family,
    facts,
    frame,
    state,
    handed,
    logs,
    labels,
    hz,
  };
  for (const run of runs) {
    for (const chain of planCalls(run.table.chains, run.chain).named) {
      for (const rule of chain.rules) announceAction(emission, rule.action);
    }
  }
  hook.open(emission);
  if (plan.family === 'ipv4') emitIpv4Facts(emission);
  else emitIpv6Facts(emission);
  hook.facts(emission);
  emitHandedStart(emission);
  emitFragmentStrategy(emission, parts.fragments);
  emitRuns(emission, plan.before);
  if (plan.forward === undefined) {
    emitRuns(emission, plan.local);
  } else {
    const forward = asm.label('forward');
    emitRoute(emission, forward, labels.reply === undefined ? undefined : frame.word(ROUTE));
    emitRuns(emission, plan.local);
    asm.goto(labels.accept).place(forward);
    emitRuns(emission, plan.forward);
  }
  emitVerdicts(emission, parts.fragments);
}

function rejects({ table, chain }: ChainRun): boolean {
  const { named } = planCalls(table.chains, chain);
  return named.some(({ rules }) => rules.some(({ action }) => action.kind === 'reject'));
}

function emitRuns(emission: Emission, runs: readonly ChainRun[]): void {
  for (const run of runs) {
    const accepted: Label = emission.asm.label(`after_${run.table.table}`);
    emitChainRun(emission, run, accepted);
    emission.asm.place(accepted);
  }
}

function sectionFacts(
  runs: readonly ChainRun[],
  hook: HookEmitter,
  plan: SectionPlan,
  fragments: FragmentStrategy,
): Set<Fact> {
  const wanted: Fact[] = [];
  for (const run of runs) {
    for (const chain of planCalls(run.table.chains, run.chain).named) {
      for (const rule of chain.rules) {
        wanted.push(
          ...rule.predicates.flatMap((predicate) => predicateNeeds(predicate, plan.family)),
          ...actionNeeds(rule.action, hook),
        );
      }
    }
  }
  if (plan.forward !== undefined) wanted.push(...ROUTE_NEEDS);
  if (hook.lookupNeeds !== undefined && wanted.includes('ctState')) wanted.push(...hook.lookupNeeds);
  wanted.push(...fragmentNeeds(fragments, plan.family));
  return closeFacts(wanted, plan.family);
}
