/**
 * A mistake in any one extension shows. The vectors, recorded from a real kernel, hold for the extensions as they are;
 * with a mistake seeded into one of them, some vector must fail.
 */
import { describe, expect, test } from 'vitest';
import { allExtensions } from '../../src/rules/index.ts';
import { mutantsOf, usedExtensions } from '../support/mutants.ts';
import { firstDeviation, parseVector, readVectors } from '../support/vectors.ts';

const vectors = readVectors().map((vector) => ({ vector, ruleset: parseVector(vector) }));

/** Mutants that cannot show in which rules a packet hits, each with the reason. */
const UNSEEN: readonly RegExp[] = [
  // They read nothing that could be cut short, so they never give up.
  /^-m (addrtype|comment|conntrack|dscp|hl|iprange|length|limit|mac|mark|pkttype|state|statistic|tos|ttl): never gives up$/,
  // Only the printer asks.
  /^-m tcp: flagsGiven/,
  // Not mistakes: a comment always matches, LOG goes on, REJECT drops.
  /^-m comment: always matches$/,
  /^-j LOG: continue$|^-j REJECT: drop$|^-j MARK: continue$/,
  // What is logged or answered moves no counter.
  /^-j LOG: (level|flags)/,
  /^-j REJECT: kind/,
  // The kernel does not look at --fraglen.
  /^-m frag: length/,
  // Chance can be recorded only where it is certain.
  /^-m statistic: probability/,
  // A ten-thousandth of a second.
  /^-m limit: average/,
  // Adds IPS_EXPECTED, which nothing here can have.
  /^-m conntrack: status\.value \+ 1$/,
];

/**
 * Without vectors: random rules of them are compared with the running kernel (test/kernel/match-live.test.ts and
 * sets.test.ts), packets with its records (test/netstack/path-walks.test.ts); owners and sockets have examples
 * (test/netstack/rule-sockets.test.ts). Mistakes are not seeded into these.
 */
const WITHOUT_VECTORS: readonly string[] = [
  ...['connbytes', 'connlimit', 'connmark', 'ecn', 'hashlimit', 'physdev', 'policy', 'quota', 'realm'],
  ...['recent', 'rpfilter', 'rt', 'set', 'string', 'tcpmss', 'u32', 'cluster', 'time', 'owner', 'socket'],
]
  .map((name) => `-m ${name}`)
  .concat('-j SET');

describe('vectors of a real kernel', () => {
  test.each(vectors)('$vector.name', ({ vector, ruleset }) => {
    expect(firstDeviation(vector, ruleset)).toBeUndefined();
  });

  test('every extension of the first tier has its vectors', () => {
    const used = new Set(vectors.flatMap(({ ruleset }) => usedExtensions(ruleset)));
    const missing = allExtensions()
      .filter(({ semantics }) => semantics !== undefined)
      .map(({ kind, name }) => `${kind === 'match' ? '-m' : '-j'} ${name}`)
      .filter((name) => !used.has(name) && !WITHOUT_VECTORS.includes(name));
    expect(missing).toEqual([]);
  });
});

describe('seeded mistakes', () => {
  const extensions = [...new Set(vectors.flatMap(({ ruleset }) => usedExtensions(ruleset)))].sort();

  test.each(extensions)('%s: every one of them is caught', (extension) => {
    const survivors = new Map<string, boolean>();
    for (const { vector, ruleset } of vectors) {
      for (const mutant of mutantsOf(ruleset, extension)) {
        if (survivors.get(mutant.name) === false) continue;
        survivors.set(mutant.name, firstDeviation(vector, mutant.apply(ruleset)) === undefined);
      }
    }
    const alive = [...survivors].filter(([, survived]) => survived).map(([name]) => name);
    expect(alive.filter((name) => UNSEEN.every((pattern) => !pattern.test(name)))).toEqual([]);
    expect(survivors.size).toBeGreaterThan(0);
  });
});
