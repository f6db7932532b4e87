/** The programs and tables of a live policy, with the rule beside each block of instructions and each record. */
import {
  compilePolicy,
  listPrograms,
  listTables,
  type ProgramListing,
  ruleTexts,
} from '../../compile/index.ts';
import { findBpffs } from '../../kernel/index.ts';
import { parseRuleset } from '../../rules/index.ts';
import type { GenerationDocument } from './document.ts';
import { PolicyError } from './error.ts';
import { RuleState } from './rulestate.ts';
import { placesOf } from './sets.ts';
import type { LivePolicy } from './state.ts';
import { contentHash, PolicyStore } from './store.ts';

/**
 * Compiles the rules that were loaded once more (edits change tables, no programs), which gives the same programs, and says so only if it does.
 * @throws {PolicyError} `HOST_POLICY_VERSION` when another build made the live programs
 */
export function livePrograms(document: GenerationDocument): ProgramListing[] {
  const rulesets = (document.loaded ?? document.rulesets).map(
    ({ family, text }) => parseRuleset(text, { file: 'live rules', family }).ruleset,
  );
  const { hooks, hz, knownMarks, fragments, allowPartial, strategy, sets } = document;
  const compiled = compilePolicy(rulesets, {
    hooks,
    hz,
    marks: knownMarks,
    allowPartial,
    sets: placesOf(sets ?? []),
    ...(fragments === undefined ? {} : { fragments }),
    ...(strategy === undefined ? {} : { strategy }),
  });
  const live = new Set(document.programs.map(({ hash }) => hash));
  const textOf = ruleTexts(rulesets);
  if (compiled.programs.some((program) => !live.has(contentHash(program))))
    throw new PolicyError(
      'HOST_POLICY_VERSION',
      `the live programs were made by another build (${document.build})`,
      'apply the rules again with this one, or use that build',
    );
  return listPrograms(compiled.programs, textOf);
}

/**
 * The tables of a live policy as they lie in its arena now, edits included; empty where all its rules are code.
 * @throws {PolicyError} `HOST_POLICY_BUSY` when the policy has changed since it was read
 */
export function liveTables({ policy, netns, generation, document }: LivePolicy): string {
  const bpffs = findBpffs();
  const store = bpffs === undefined ? undefined : PolicyStore.open(bpffs, policy);
  try {
    const root = store?.records.find(netns.cookie)?.running ?? 0;
    if (store === undefined || root === 0 || store.generation(root).number !== generation) {
      throw new PolicyError('HOST_POLICY_BUSY', `policy ${policy} changed meanwhile`, 'try again');
    }
    const { chains } = new RuleState(document);
    const byNumber = new Map([...chains].map(([key, chain]) => [chain.number, { key, lines: chain.lines }]));
    const lines = listTables({ bytes: new Uint8Array(store.arena.buffer), base: 0 }, root, {
      points: document.programs.map(({ point }) => point),
      chain: (number) => byNumber.get(number)?.key,
      rule: (number, index) => byNumber.get(number)?.lines[index],
    });
    return lines.map((line) => `${line}\n`).join('');
  } finally {
    store?.close();
  }
}
