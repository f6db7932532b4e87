/** Writers that end in the middle of a change, at each of their stores: the set of before or of after, and a repair that counts anew. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Binding,
  compareBindings,
  formatBinding,
  inConflict,
  lookupLinear,
  trafficKey,
} from '../../src/sklookup/index.ts';
import { anyBinding, anyBindingSet, anyTuple, DEVICES } from '../support/bindings.ts';
import { SkLookupMachine } from '../support/sklookup-machine.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 500 : 10;

class Killed extends Error {}

const lines = (bindings: readonly Binding[]): string[] =>
  bindings.toSorted(compareBindings).map(formatBinding);
const ifindex = (device: string): number => DEVICES[device]!;

/** Runs and stops before store `step + 1` is made, as a process that is killed; false: it came to its end. */
function runUntil(machine: SkLookupMachine, step: number, change: () => void): boolean {
  let left = step;
  machine.stored = () => {
    if (left-- === 0) throw new Killed();
  };
  try {
    change();
    return false;
  } catch (error) {
    if (error instanceof Killed) return true;
    throw error;
  } finally {
    machine.stored = () => undefined;
  }
}

/** What must hold of a settled state. */
function expectSettled(machine: SkLookupMachine, model: readonly Binding[]): void {
  const { state } = machine;
  expect(state.unsettled).toBe(false);
  expect(state.bindingCount).toBe(model.length);
  const counted = state.destinations.list().map((each) => {
    const { label, protocol, family, index, members } = each;
    const bound = model.filter(
      (binding) =>
        binding.label === label && binding.protocol === protocol && binding.prefix.address.family === family,
    ).length;
    expect(bound + members.length).toBeGreaterThan(0);
    expect(state.destinations.bindings(index)).toBe(bound);
    return bound;
  });
  expect(counted.reduce((sum, each) => sum + each, 0)).toBe(model.length);
  expect(state.destinations.strayedSlots()).toEqual([]);
}

describe('a writer that ends in the middle', () => {
  it('leaves the set of before or of after to programs and readers, and what the next one counts right', () => {
    const machine = new SkLookupMachine();
    fc.assert(
      fc.property(
        anyBindingSet(true, 12),
        anyBinding(true),
        fc.constantFrom('bind', 'unbind', 'apply'),
        fc.array(anyTuple(true), { minLength: 4, maxLength: 4 }),
        (initial, binding, change, tuples) => {
          for (let step = 0; ; step++) {
            machine.install(initial);
            const key = trafficKey(binding);
            const others = initial.filter((other) => trafficKey(other) !== key);
            if (change !== 'unbind' && others.some((other) => inConflict(other, binding))) return;
            const target = change === 'unbind' ? (initial[0] ?? binding) : binding;
            const after =
              change === 'unbind'
                ? initial.filter((other) => trafficKey(other) !== trafficKey(target))
                : change === 'bind'
                  ? [...others, binding]
                  : [binding];
            machine.prepare(target);
            const { state } = machine;
            const killed = runUntil(machine, step, () => {
              if (change === 'bind') state.bind(target, ifindex);
              else if (change === 'unbind') state.unbind(target, ifindex);
              else state.install({ bindings: after, labels: new Map() }, ifindex);
            });
            const found = lines(state.bindings().bindings);
            expect([lines(initial), lines(after)]).toContainEqual(found);
            const model = found.join() === lines(after).join() ? after : initial;
            const answers = (): string[] => tuples.map((tuple) => machine.lookup(tuple));
            const wanted = tuples.map((tuple) => lookupLinear(model, tuple)?.label ?? '');
            expect(answers()).toEqual(wanted);
            expect(state.bindingCount).toBe(model.length);
            if (state.unsettled) state.repair(() => undefined);
            expectSettled(machine, model);
            expect(answers()).toEqual(wanted);
            if (!killed) return;
          }
        },
      ),
      { numRuns: RUNS },
    );
  });

  it('leaves no place in the socket map taken that no label names', () => {
    const [binding] = [{ label: 'a', protocol: 'tcp', ports: { min: 80, max: 80 } } as const].map(
      (rest): Binding => ({
        ...rest,
        prefix: { address: { family: 'ipv4', bytes: Uint8Array.of(10, 0, 0, 1) }, length: 32 },
      }),
    );
    let kills = 0;
    for (let step = 0; ; step++) {
      const machine = new SkLookupMachine();
      const { state } = machine;
      state.install({ bindings: [binding!], labels: new Map() }, ifindex);
      const killed = runUntil(machine, step, () =>
        state.change(() => {
          const { index } = state.destination('b', 'udp', 'ipv6');
          const slot = state.destinations.reserveSlot(index);
          state.destinations.setMembers(index, [{ slot, weight: 1, address: new Uint8Array(16), port: 1 }]);
        }),
      );
      const emptied: number[] = [];
      if (state.unsettled) state.repair((slot) => emptied.push(slot));
      const registered = state.destinations.list().some(({ members }) => members.length > 0);
      expect(state.destinations.list().map(({ label }) => label)).toEqual(registered ? ['a', 'b'] : ['a']);
      expectSettled(machine, [binding!]);
      if (registered) expect(emptied).toEqual([]);
      // The place is free again: the next one gets it.
      else expect(state.destinations.reserveSlot(0)).toBe(0);
      if (!killed) break;
      kills++;
    }
    expect(kills).toBeGreaterThan(5);
  });
});
