/** The programs of a live policy, with the rule beside each block of instructions. */
import {
  annotate,
  type CompiledProgram,
  compilePolicy,
  formatAttachPoint,
  ruleTexts,
} from '../../compile/index.ts';
import { parseRuleset } from '../../rules/index.ts';
import type { GenerationDocument } from './document.ts';
import { PolicyError } from './error.ts';
import { contentHash } from './store.ts';

export interface ProgramListing {
  readonly title: string;
  readonly program: CompiledProgram;
  readonly text: string;
}

/**
 * Compiles the rules that were loaded once more (edits change tables, no programs), which gives the same programs, and says so only if it does.
 * @throws {PolicyError} `HOST_POLICY_VERSION` when another build made the live programs
 */
export function livePrograms(document: GenerationDocument): ProgramListing[] {
  const rulesets = (document.loaded ?? document.rulesets).map(
    ({ family, text }) => parseRuleset(text, { file: 'live rules', family }).ruleset,
  );
  const { hooks, hz, knownMarks, fragments, allowPartial } = document;
  const compiled = compilePolicy(rulesets, {
    hooks,
    hz,
    marks: knownMarks,
    allowPartial,
    ...(fragments === undefined ? {} : { fragments }),
  });
  const live = new Set(document.programs.map(({ hash }) => hash));
  const textOf = ruleTexts(rulesets);
  return compiled.programs.map((program) => {
    if (!live.has(contentHash(program))) {
      throw new PolicyError(
        'HOST_POLICY_VERSION',
        `the live programs were made by another build (${document.build})`,
        'apply the rules again with this one, or use that build',
      );
    }
    return { title: formatAttachPoint(program.point), program, text: annotate(program, textOf) };
  });
}
