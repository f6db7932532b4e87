/**
 * Matches that only the evaluator runs, against this kernel: random rules about one of them at a time, packets near their
 * borders, and every counter compared after every packet.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { conversation } from '../support/generate/conversations.ts';
import { type Focus, focusedRuleset } from '../support/generate/focused.ts';
import {
  bridgePiece,
  connectionMemoryPiece,
  connlimitPiece,
  ecnPiece,
  hashlimitPiece,
  policyPiece,
  quotaPiece,
  recentPiece,
  rpfilterPiece,
  rtPiece,
  stringPiece,
  tcpmssPiece,
  timePiece,
  u32Piece,
} from '../support/generate/memory-pieces.ts';
import { packetsFor } from '../support/generate/packets.ts';
import type { GeneratedRuleset } from '../support/generate/rulesets.ts';
import type { Shape } from '../support/generate/shape.ts';
import { describeKernel } from '../support/kernel.ts';
import { type Conduct, LiveComparison } from '../support/live-compare.ts';
import { withNamespaces } from '../support/netns.ts';
import { tickMs, waitForTick } from '../support/ticks.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;
const RULESETS = 3 * SOAK;
const RULES = 16;
const PACKETS = 40;

function focusesOf(family: Family): ReadonlyMap<string, Focus> {
  return new Map<string, Focus>([
    ['hashlimit', { piece: hashlimitPiece(family) }],
    ['quota', { piece: quotaPiece }],
    ['u32', { piece: u32Piece }],
    ['string', { piece: stringPiece }],
    ['ecn', { protocol: 'tcp', piece: ecnPiece }],
    ['tcpmss', { protocol: 'tcp', piece: tcpmssPiece }],
    ['rpfilter', { piece: rpfilterPiece }],
    ['physdev', { piece: bridgePiece }],
    ['time', { piece: timePiece(Date.now()) }],
    ['policy', { piece: policyPiece, place: 'FORWARD' }],
    ...(family === 'ipv6' ? [['rt', { piece: rtPiece }] as const] : []),
  ]);
}

/** A ruleset and packets for it. */
type Trial = readonly [GeneratedRuleset, readonly Shape[]];

function trialOf(family: Family, focus: Focus): fc.Arbitrary<Trial> {
  return focusedRuleset(family, focus, RULES).chain((ruleset) =>
    fc
      .array(packetsFor(ruleset), { minLength: PACKETS, maxLength: PACKETS, size: 'max' })
      .map((shapes) => [
        ruleset,
        shapes.map((shape) => ({ ...shape, payloadBytes: shape.payloadBytes % 60 })),
      ]),
  );
}

/** Lists that no other ruleset knows: the kernel keeps those of the ruleset before. */
function recentTrial(family: Family): fc.Arbitrary<Trial> {
  return fc
    .uniqueArray(fc.stringMatching(/^[a-z]{12}$/), { minLength: 2, maxLength: 2 })
    .chain((lists) => trialOf(family, { piece: recentPiece(family, lists) }));
}

/** Connections of a few hosts, in a namespace that counts what they transfer. */
function connectionTrial(family: Family): fc.Arbitrary<Trial> {
  const rules = focusedRuleset(family, { piece: connectionMemoryPiece, place: 'FORWARD' }, RULES);
  return fc
    .tuple(rules, fc.array(conversation(family), { minLength: 4, maxLength: 4 }))
    .map(([ruleset, talks]) => [{ ...ruleset, stateful: true }, talks.flat()]);
}

/** Longer than a tick at HZ=250: lists of connections are gone through once a tick. */
const TICK_MS = 5;

/** Connections of a few hosts, counted rule by rule; without SCTP, whose connections end within seconds when half open. */
function connlimitTrial(family: Family): fc.Arbitrary<Trial> {
  const rules = focusedRuleset(family, { piece: connlimitPiece(family), place: 'FORWARD' }, RULES);
  return fc
    .tuple(rules, fc.array(conversation(family), { minLength: 4, maxLength: 4 }))
    .map(([ruleset, talks]) => [
      { ...ruleset, stateful: true },
      talks.flat().filter(({ transport }) => transport.kind !== 'sctp'),
    ]);
}

describeKernel('matches with a memory', () => {
  test.each(['ipv4', 'ipv6'] as const)('%s: the evaluator counts what the kernel counts', async (family) => {
    const trials = new Map<string, fc.Arbitrary<Trial>>([
      ...[...focusesOf(family)].map(([name, focus]) => [name, trialOf(family, focus)] as const),
      ['recent', recentTrial(family)],
      ['connections', connectionTrial(family)],
    ]);
    await withNamespaces(['fw'], ({ fw }) => {
      const comparison = new LiveComparison(fw);
      fw.sysctl('net/netfilter/nf_conntrack_acct', 1);
      for (const [name, trial] of trials) {
        // A smaller case would find what its own larger form has left in the kernel's tables.
        const property = fc.property(fc.noShrink(trial), ([ruleset, shapes]) => {
          const difference = comparison.firstDifference(ruleset, shapes);
          expect(difference, `${name}\n${ruleset.text}`).toBeUndefined();
        });
        fc.assert(property, { numRuns: RULESETS });
      }
    });
  });

  test.each(['ipv4', 'ipv6'] as const)(
    '%s: connlimit counts the connections the kernel counts',
    async (family) => {
      await withNamespaces(['fw'], ({ fw }) => {
        const comparison = new LiveComparison(fw, tickMs);
        const conduct: Conduct = {
          before: () => waitForTick(tickMs() + TICK_MS),
          // A group that has become empty is thrown away when another, by a seed of the kernel's, lies beside it. Then the next
          // packet is counted; otherwise it finds nothing and is dropped.
          isOpen: ({ decision }) => decision.kind === 'hotdrop',
        };
        const property = fc.property(fc.noShrink(connlimitTrial(family)), ([ruleset, shapes]) => {
          expect(comparison.firstDifference(ruleset, shapes, conduct), ruleset.text).toBeUndefined();
        });
        fc.assert(property, { numRuns: RULESETS });
      });
    },
  );
});
