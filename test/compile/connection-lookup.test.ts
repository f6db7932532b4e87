/**
 * Connection state by look-up, in the interpreter: after every packet of random conversations the set of states that the
 * program leaves holds what the netstack's conntrack then says, and is that one state wherever it is said to be exact.
 * Conntrack runs without what no look-up can see: windows, and checksums.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AttachPoint } from '../../src/compile/index.ts';
import { CtStateBit } from '../../src/ir/index.ts';
import { Conntrack, type Entry, ManualClock } from '../../src/netstack/index.ts';
import type { TupleRequest } from '../../src/vm/index.ts';
import { conversation } from '../support/generate/conversations.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { type FoundConnection, LookupMachine } from '../support/lookup-machine.ts';
import { buildLookup } from '../support/lookup-program.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 50 : 1;
const CONVERSATIONS = 200 * SOAK;
const { NEW, ESTABLISHED, RELATED, INVALID, UNTRACKED } = CtStateBit;
const ALL = NEW | ESTABLISHED | RELATED | INVALID | UNTRACKED;
const POINTS: readonly AttachPoint[] = [{ flavour: 'xdp' }, { flavour: 'tcx', direction: 'ingress' }];

/** The entry that the tuple belongs to. */
function findEntry(request: TupleRequest, entries: Iterable<Entry>): FoundConnection | undefined {
  for (const entry of entries) {
    for (const direction of ['original', 'reply'] as const) {
      const tuple = entry[direction];
      if (
        tuple.protocol === request.protocol &&
        tuple.sourcePort === request.sourcePort &&
        tuple.destinationPort === request.destinationPort &&
        sameBytes(tuple.source, request.sourceAddress) &&
        sameBytes(tuple.destination, request.destinationAddress)
      ) {
        return { entry, direction };
      }
    }
  }
  return undefined;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

describe.each(POINTS)('state by look-up at $flavour', (point) => {
  test.each(['ipv4', 'ipv6'] as const)('%s', (family) => {
    const seen = new Map<number, number>();
    const program = buildLookup(point, family);
    const property = fc.property(conversation(family), (shapes) => {
      const settings = { checksum: false, tcpBeLiberal: true, tcpIgnoreInvalidRst: true };
      const conntrack = new Conntrack({ clock: new ManualClock(), settings });
      const machine = new LookupMachine(point, family, program, (request) =>
        findEntry(request, conntrack.entries()),
      );
      const history: string[] = [];
      for (const shape of shapes) {
        const bytes = buildPacket(shape);
        const states = machine.states(bytes);
        const tracking = conntrack.track({ family, bytes, hook: 'pre-routing' });
        if (tracking === 'drop') throw new Error('the table is full');
        history.push(`${Buffer.from(bytes).toString('hex')}: ${states} for ${tracking.state}`);
        const { protocol } = tracking.connection?.original ?? { protocol: 0 };
        if (protocol !== 0 && protocol !== 6 && protocol !== 17) expect(states, history.join('\n')).toBe(ALL);
        expect(states & CtStateBit[tracking.state], history.join('\n')).not.toBe(0);
        seen.set(states, (seen.get(states) ?? 0) + 1);
        conntrack.confirm(tracking);
      }
    });
    fc.assert(property, { numRuns: CONVERSATIONS });
    // Every kind of set has come up often, those of one state most of all; without helpers none is expected.
    for (const set of [ESTABLISHED, NEW, INVALID, NEW | RELATED, NEW | RELATED | INVALID, ALL]) {
      expect(seen.get(set) ?? 0, `set ${set}`).toBeGreaterThan(5);
    }
    expect([...seen.keys()].sort((a, b) => a - b)).toEqual([
      INVALID,
      ESTABLISHED,
      NEW,
      NEW | RELATED,
      NEW | RELATED | INVALID,
      ALL,
    ]);
  });
});
