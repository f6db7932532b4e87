/** A program's listing with the rule beside each block of instructions. */
import { formatProgram } from '../isa/index.ts';
import { printRule, type Ruleset } from '../rules/index.ts';
import { formatAttachPoint } from './attach.ts';
import type { CompiledProgram, RuleTag } from './program.ts';

/** What stands for a rule in a listing; `undefined`: nothing is known of it. */
export type RuleText = (tag: RuleTag) => string | undefined;

/** The rules in iptables-save form, policies as ":CHAIN VERDICT". */
export function ruleTexts(rulesets: readonly Ruleset[]): RuleText {
  return ({ family, table, chain: name, rule: number }) => {
    const ruleset = rulesets.find((candidate) => candidate.family === family);
    const chain = ruleset?.tables
      .find((candidate) => candidate.name === table)
      ?.chains.find((candidate) => candidate.name === name);
    if (chain === undefined) return undefined;
    if (number === 0) return `:${name} ${chain.policy ?? '-'}`;
    const rule = chain.rules[number - 1];
    return rule === undefined ? undefined : printRule(rule, name, family);
  };
}

/** Listing in the kernel's notation; a line "; table rule-number: text" stands before each rule's instructions. */
export function annotate(program: CompiledProgram, textOf: RuleText): string {
  const { code } = program;
  const notes = new Map(code.notes);
  let last: RuleTag | undefined;
  for (const [slot, tag] of code.tags.entries()) {
    if (tag === last) continue;
    if (tag !== undefined && !sameRule(tag, last)) {
      const text = textOf(tag) ?? '(unknown rule)';
      const line = `${tag.family} ${tag.table}${tag.rule > 0 ? ` ${tag.rule}` : ''}: ${text}`;
      const note = notes.get(slot);
      notes.set(slot, note === undefined ? line : `${line}\n; ${note}`);
    } else if (tag === undefined && last !== undefined && !notes.has(slot)) {
      notes.set(slot, 'end of rules');
    }
    last = tag;
  }
  return formatProgram(code.instructions, { references: code.references, notes, functions: code.functions });
}

/** An attach point's program as text. */
export interface ProgramListing {
  /** The attach point. */
  readonly title: string;
  readonly program: CompiledProgram;
  readonly text: string;
}

/** Listings of these programs, in their order; one that several attach points run stands at the first of them. */
export function listPrograms(programs: readonly CompiledProgram[], textOf: RuleText): ProgramListing[] {
  const listed = new Map<CompiledProgram['code'], string>();
  return programs.map((program) => {
    const title = formatAttachPoint(program.point);
    const first = listed.get(program.code);
    if (first !== undefined) return { title, program, text: `; the program of ${first}` };
    listed.set(program.code, title);
    return { title, program, text: annotate(program, textOf) };
  });
}

function sameRule(a: RuleTag, b: RuleTag | undefined): boolean {
  return (
    b !== undefined &&
    a.family === b.family &&
    a.table === b.table &&
    a.chain === b.chain &&
    a.rule === b.rule
  );
}
