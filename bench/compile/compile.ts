/**
 * What a packet costs at 1, 10 and 100 rules at each hook: Sluice's programs at xdp, tcx ingress, netfilter INPUT and
 * cgroup ingress, iptables-legacy and nft at INPUT, all in one run, interleaved. Packets of thousands of flows match random
 * rules, are accepted by them, and end in the same place. "Added" is against a namespace without rules; the program at cgroup,
 * which only sockets get to, is timed by test runs instead. The 10th percentile of each one's rounds counts.
 *
 * Prints JSON and writes docs/performance/compile.{json,md}. Needs root. Run: `npm run bench compile`.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { measure } from './measure.ts';
import { table } from './report.ts';

const ROUNDS = Number(process.env.SLUICE_BENCH_ROUNDS ?? 25);
const RULES = [1, 10, 100] as const;

const measured = RULES.flatMap((rules) => measure(rules, ROUNDS));
const text = `${JSON.stringify({ compile: { version: 1, rounds: ROUNDS, measured } }, undefined, 2)}\n`;
console.log(text);
const folder = new URL('../../docs/performance/', import.meta.url);
mkdirSync(folder, { recursive: true });
writeFileSync(new URL('compile.json', folder), text);
writeFileSync(new URL('compile.md', folder), table(measured));
