/**
 * A process of its own that applies a policy and ends without warning before a given step. It runs the compiled package,
 * which starts in a fraction of the time that the sources take.
 *
 * Argument: JSON of { request: an ApplyRequest without rulesets, rules: [{ family, text }], killAtStep: from 1 }.
 */
import { writeSync } from 'node:fs';
import { applyPolicy } from '../../dist/host/index.js';
import { parseRuleset } from '../../dist/rules/index.js';

const { request, rules, killAtStep } = JSON.parse(process.argv[2]);
const rulesets = rules.map(({ family, text }) => parseRuleset(text, { file: 'child', family }).ruleset);
let steps = 0;
await applyPolicy({ ...request, rulesets }, (step) => {
  steps++;
  if (steps !== killAtStep) return;
  writeSync(1, step);
  process.kill(process.pid, 'SIGKILL');
});
