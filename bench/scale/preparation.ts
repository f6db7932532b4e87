/**
 * A process of its own that makes tables of the iptables-save text on its standard input, as `sluice apply` does first:
 * prints the times, and how much memory the process had at most. Arguments: the table.
 */
import { readFileSync } from 'node:fs';
import { compilePolicy } from '../../src/compile/index.ts';
import { parseRuleset, type TableName } from '../../src/rules/index.ts';

const text = readFileSync(0, 'utf8');
const idleBytes = process.memoryUsage.rss();
const start = performance.now();
const { ruleset } = parseRuleset(text, { file: 'bench', family: 'ipv4' });
const parsed = performance.now();
const { classifier } = compilePolicy([ruleset], {
  hooks: ['netfilter'],
  tables: [process.argv[2] as TableName],
  strategy: 'classifier',
});
const compiled = performance.now();
console.log(
  JSON.stringify({
    parseMs: parsed - start,
    compileMs: compiled - parsed,
    tableBytes: classifier?.size ?? 0,
    idleBytes,
    peakBytes: process.resourceUsage().maxRSS * 1024,
  }),
);
