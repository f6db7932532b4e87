/** Bindings that come and go one by one: the set, and every look-up at every moment. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Binding,
  BindingsError,
  compareBindings,
  formatBinding,
  inConflict,
  lookupLinear,
  trafficKey,
} from '../../src/sklookup/index.ts';
import { anyBinding, anyBindingSet, anyTuple, DEVICES, withoutConflicts } from '../support/bindings.ts';
import { SkLookupMachine } from '../support/sklookup-machine.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 2_000 : 60;

const lines = (bindings: readonly Binding[]): string[] =>
  bindings.toSorted(compareBindings).map(formatBinding);

/** Sets with prefixes enough that tables grow, and that regions are kept. */
function manyBindings(count: number): Binding[] {
  return Array.from({ length: count }, (_, n) => ({
    label: `l${n % 7}`,
    protocol: 'tcp' as const,
    prefix: {
      address: { family: 'ipv4' as const, bytes: Uint8Array.of(20, n >> 12, (n >> 4) & 255, (n & 15) << 4) },
      length: n % 3 === 0 ? 28 : 32,
    },
    ports: { min: 80, max: 80 },
  }));
}

/** Prefixes of a family and length that have 64 neighbours, as far as their bits go. */
const NEIGHBOURHOODS = [
  ['ipv4', 32],
  ['ipv4', 22],
  ['ipv6', 128],
  ['ipv6', 72],
  ['ipv6', 67],
  ['ipv6', 64],
  ['ipv6', 33],
] as const;

/** Makes neighbour `n` of some block, and of the next one where a block holds fewer. */
function neighbours([family, length]: (typeof NEIGHBOURHOODS)[number]) {
  const width = family === 'ipv4' ? 4 : 16;
  return fc
    .uint8Array({ minLength: width, maxLength: width })
    .map((bytes) => (n: number, label: string): Binding => {
      const address = bytes.slice();
      for (let bit = 0; bit < 8 * width - length + 6; bit++) {
        const at = width - 1 - (bit >> 3);
        address[at]! &= ~(1 << (bit & 7));
        const index = bit - (8 * width - length);
        if (index >= 0 && (n >> index) & 1) address[at]! |= 1 << (bit & 7);
      }
      return {
        label,
        protocol: 'tcp',
        prefix: { address: { family, bytes: address }, length },
        ports: { min: 80, max: 80 },
      };
    });
}

/** Asked between any two stores: expect() alone would take most of the time. */
function requireEither(label: string, before: string, after: string): void {
  if (label !== before && label !== after) expect([before, after]).toContain(label);
}

describe('bind and unbind in place', () => {
  it('leave the set that was asked for, and no look-up ever meets anything but the one before or the one after', () => {
    const machine = new SkLookupMachine();
    fc.assert(
      fc.property(
        anyBindingSet(true, 12),
        fc.array(fc.tuple(fc.boolean(), anyBinding(true)), { minLength: 1, maxLength: 20 }),
        fc.array(anyTuple(true), { minLength: 3, maxLength: 3 }),
        (initial, steps, tuples) => {
          machine.install(initial);
          let model = initial;
          for (const [adds, binding] of steps) {
            const key = trafficKey(binding);
            const same = model.find((other) => trafficKey(other) === key);
            const others = model.filter((other) => other !== same);
            const before = tuples.map((tuple) => lookupLinear(model, tuple)?.label ?? '');
            const refused = adds && others.some((other) => inConflict(other, binding));
            if (!refused) {
              if (adds) model = [...others, binding];
              else if (same?.label === binding.label) model = others;
            }
            const after = tuples.map((tuple) => lookupLinear(model, tuple)?.label ?? '');
            machine.prepare(binding);
            machine.stored = () => {
              for (const [index, tuple] of tuples.entries())
                requireEither(machine.lookup(tuple), before[index]!, after[index]!);
            };
            const run = (): unknown =>
              adds
                ? machine.state.bind(binding, (device) => DEVICES[device]!)?.label
                : machine.state.unbind(binding, (device) => DEVICES[device]!);
            if (refused) expect(run).toThrow(BindingsError);
            else expect(run()).toBe(adds ? same?.label : same?.label === binding.label);
            machine.stored = () => undefined;
            expect(tuples.map((tuple) => machine.lookup(tuple))).toEqual(after);
            expect(lines(machine.state.bindings().bindings)).toEqual(lines(model));
            expect(machine.state.bindingCount).toBe(model.length);
          }
        },
      ),
      { numRuns: RUNS },
    );
  });

  it('tell neighbours apart that share a slot', () => {
    const machine = new SkLookupMachine();
    fc.assert(
      fc.property(
        fc.constantFrom(...NEIGHBOURHOODS).chain(neighbours),
        fc.array(fc.tuple(fc.boolean(), fc.nat(63), fc.constantFrom('a', 'b')), {
          minLength: 1,
          maxLength: 40,
        }),
        (neighbour, steps) => {
          const model = new Map<number, string>();
          machine.install([]);
          const tuples = Array.from({ length: 64 }, (_, n) => ({
            protocol: 'tcp' as const,
            localAddress: neighbour(n, '').prefix.address.bytes,
            localPort: 80,
            remoteAddress: neighbour(0, '').prefix.address.bytes,
            remotePort: 9,
            device: '',
          }));
          for (const [adds, n, label] of steps) {
            const binding = neighbour(n, label);
            machine.prepare(binding);
            const before = model.get(n) ?? '';
            if (adds) model.set(n, label);
            else if (before === label) model.delete(n);
            const after = model.get(n) ?? '';
            machine.stored = () => {
              requireEither(machine.lookup(tuples[n]!), before, after);
              const other = (n + 1) & 63;
              const untouched = model.get(other) ?? '';
              requireEither(machine.lookup(tuples[other]!), untouched, untouched);
            };
            if (adds) machine.state.bind(binding, () => 1);
            else expect(machine.state.unbind(binding, () => 1)).toBe(before === label);
            machine.stored = () => undefined;
          }
          expect(tuples.map((tuple) => machine.lookup(tuple))).toEqual(
            tuples.map((_, n) => model.get(n) ?? ''),
          );
          const rest = [...model].map(([n, label]) => neighbour(n, label));
          expect(lines(machine.state.bindings().bindings)).toEqual(lines(rest));
          // Written as a whole the set says the same.
          machine.install(rest);
          expect(tuples.map((tuple) => machine.lookup(tuple))).toEqual(
            tuples.map((_, n) => model.get(n) ?? ''),
          );
          expect(lines(machine.state.bindings().bindings)).toEqual(lines(rest));
        },
      ),
      { numRuns: RUNS },
    );
  });

  it('grow tables, link lengths and follow regions in a set of thousands', () => {
    const machine = new SkLookupMachine();
    const all = withoutConflicts(manyBindings(6_500));
    const at = 5_000;
    machine.install(all.slice(0, at));
    for (const binding of all.slice(at)) {
      machine.state.bind(binding, () => 1);
      machine.prepare(binding);
    }
    for (const binding of all.slice(0, 1_000)) expect(machine.state.unbind(binding, () => 1)).toBe(true);
    const rest = all.slice(1_000);
    expect(lines(machine.state.bindings().bindings)).toEqual(lines(rest));
    const eight = { address: { family: 'ipv4', bytes: Uint8Array.of(20, 0, 0, 0) }, length: 8 } as const;
    const short: Binding = { ...all[0]!, label: 'wide', prefix: eight };
    machine.state.bind(short, () => 1);
    machine.prepare(short);
    const bound = [...rest, short];
    for (let n = 0; n < all.length; n += 37) {
      const { bytes } = all[n]!.prefix.address;
      const tuple = {
        protocol: 'tcp',
        localAddress: bytes,
        localPort: 80,
        remoteAddress: Uint8Array.of(1, 1, 1, 1),
        remotePort: 9,
        device: '',
      } as const;
      const wanted = lookupLinear(bound, tuple)?.label ?? '';
      expect(machine.lookup(tuple), String(n)).toBe(wanted);
    }
  });

  it('write the set anew when what they leave behind has filled the arena', () => {
    const machine = new SkLookupMachine();
    const port = (n: number): Binding => ({
      label: 'p',
      protocol: 'udp',
      prefix: { address: { family: 'ipv6', bytes: new Uint8Array(16) }, length: 0 },
      ports: { min: n, max: n },
    });
    const ports = Array.from({ length: 2_000 }, (_, n) => port(n + 1));
    machine.install(ports);
    // Each change writes the prefix's bindings again: 64 bytes and more each, 250 times, in 16 MB.
    for (let n = 0; n < 250; n++) {
      expect(machine.state.unbind(ports[n]!, () => 1)).toBe(true);
      expect(machine.state.bind(port(10_000 + n), () => 1)).toBeUndefined();
    }
    const model = [...ports.slice(250), ...Array.from({ length: 250 }, (_, n) => port(10_000 + n))];
    expect(lines(machine.state.bindings().bindings)).toEqual(lines(model));
    expect(machine.state.bindingCount).toBe(2_000);
    expect(machine.state.destinations.bindings(0)).toBe(2_000);
  });

  it('give labels that nobody names any more back, so that others have room', () => {
    const machine = new SkLookupMachine();
    machine.state.install({ bindings: [], labels: new Map() }, () => 1);
    for (let n = 0; n < 4_200; n++) {
      const [binding] = manyBindings(1);
      const named = { ...binding!, label: `l${n}` };
      machine.state.bind(named, () => 1);
      if (n < 4_199) expect(machine.state.unbind(named, () => 1)).toBe(true);
    }
    expect(machine.state.destinations.list().map(({ label }) => label)).toEqual(['l4199']);
  });
});
