/** Every shared real ruleset that compiles passes the kernel's verifier, all its programs. */
import { expect, test } from 'vitest';
import { type CompiledPolicy, CompileError, compilePolicy } from '../../src/compile/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { LoadedPolicy } from '../support/policy.ts';
import { CANONICAL, canonicalTables } from '../support/rulesets.ts';
import { sharedDataExists } from '../support/shared-data.ts';

describeKernel(
  'real rulesets in the kernel',
  () => {
    test('load at netfilter', () => {
      let loaded = 0;
      for (const { file, ruleset } of canonicalTables('filter')) {
        if (ruleset === undefined) continue;
        let policy: CompiledPolicy;
        try {
          policy = compilePolicy([ruleset], { hooks: ['netfilter'] });
        } catch (error) {
          if (error instanceof CompileError) continue;
          throw error;
        }
        try {
          new LoadedPolicy(policy).close();
          loaded += 1;
        } catch (error) {
          throw new Error(`${file}: ${error instanceof Error ? error.message : error}`, { cause: error });
        }
      }
      expect(loaded).toBeGreaterThan(300);
    });
  },
  sharedDataExists(CANONICAL) ? undefined : 'the shared rulesets',
);
