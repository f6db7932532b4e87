/** The rules as programs in the running kernel: by test runs where they can tell, with real packets where they cannot. */
import { CompileError, compilePolicy } from '../../compile/index.ts';
import { placesInOrder } from '../../rules/index.ts';
import type { ReplayEngine, ReplayOptions } from './engine.ts';
import { COMPILED_TABLES } from './interpreter.ts';
import { NamespaceEngine } from './live/engine.ts';
import { beyondNamespace, beyondTestRuns } from './reach.ts';
import { TestRunEngine } from './testrun.ts';

/**
 * @throws {CompileError} when rules have no program, or ask for what a replay cannot give the kernel
 * @throws {UnsupportedRulesError} when rules of the nat table cannot be evaluated
 * @throws {KernelError} without privilege, koffi or a kernel that is new enough
 */
export function kernelEngine(options: ReplayOptions): ReplayEngine {
  const { rulesets } = options;
  const policy = compilePolicy(rulesets, {
    hooks: ['netfilter'],
    tables: COMPILED_TABLES,
    sets: placesInOrder(options.sets),
  });
  if (beyondTestRuns(policy, rulesets).length === 0) return new TestRunEngine(policy, options);
  const refusals = beyondNamespace(policy, rulesets);
  if (refusals.length > 0)
    throw new CompileError(refusals, '--engine interpreter runs the same programs on such rules, too');
  return new NamespaceEngine(policy, options);
}
