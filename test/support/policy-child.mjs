/**
 * A process of its own that applies a policy and ends without warning before a given step. It runs the compiled package,
 * which starts in a fraction of the time that the sources take, and loads it before it is told what to do.
 *
 * Input, one line: JSON of { request: an ApplyRequest without rulesets, rules: [{ family, text }], killAtStep: from 1 }.
 * Output: the step before which it ended.
 */
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { applyPolicy } from '../../dist/host/index.js';
import { openTargets } from '../../dist/host/policy/index.js';
import { parseRuleset } from '../../dist/rules/index.js';

for (const { netns } of openTargets([], [])) netns.close();
const lines = createInterface({ input: process.stdin });
const [line] = await new Promise((resolve) => lines.once('line', (text) => resolve([text])));
lines.close();
const { request, rules, killAtStep } = JSON.parse(line);
const rulesets = rules.map(({ family, text }) => parseRuleset(text, { file: 'child', family }).ruleset);
let steps = 0;
await applyPolicy({ ...request, rulesets }, (step) => {
  steps++;
  if (steps !== killAtStep) return;
  writeSync(1, step);
  process.kill(process.pid, 'SIGKILL');
});
