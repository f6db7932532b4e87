/** The tables and the program against the linear definition, in the virtual machine. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Binding, formatBinding, lookupLinear } from '../../src/sklookup/index.ts';
import { anyBindingSet, anyTuple } from '../support/bindings.ts';
import { SkLookupMachine } from '../support/sklookup-machine.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 5_000 : 120;

describe('tables', () => {
  const machine = new SkLookupMachine();

  it('give every packet to the binding that comes first in precedence', () => {
    fc.assert(
      fc.property(
        anyBindingSet(true),
        fc.array(anyTuple(true), { minLength: 30, maxLength: 30 }),
        (bindings, tuples) => {
          machine.install(bindings);
          for (const tuple of tuples) {
            const wanted = lookupLinear(bindings, tuple)?.label ?? '';
            expect(
              machine.lookup(tuple),
              `${bindings.map(formatBinding).join('\n')}\n${JSON.stringify(tuple)}`,
            ).toBe(wanted);
          }
        },
      ),
      { numRuns: RUNS },
    );
  });

  it('search long lists of ports, sources, devices and remote ports', () => {
    const prefix = { address: { family: 'ipv4', bytes: Uint8Array.of(10, 0, 0, 0) }, length: 8 } as const;
    const bindings: Binding[] = [];
    const labelOf = (n: number): string => `l${n % 50}`;
    for (let port = 1; port <= 300; port++)
      bindings.push({
        label: labelOf(port),
        protocol: 'tcp',
        prefix,
        ports: { min: port * 10, max: port * 10 },
      });
    for (let from = 1; from <= 40; from++)
      bindings.push({
        label: labelOf(from),
        protocol: 'tcp',
        prefix,
        ports: { min: from * 50, max: from * 50 + 100 + from },
      });
    for (let n = 0; n < 300; n++) {
      const source = {
        address: { family: 'ipv4', bytes: Uint8Array.of(172, 16, n >> 4, (n & 15) << 4) },
        length: 28,
      } as const;
      bindings.push({ label: labelOf(n), protocol: 'tcp', prefix, ports: { min: 9000, max: 9000 }, source });
    }
    for (let n = 1; n <= 300; n++)
      bindings.push({
        label: labelOf(n),
        protocol: 'tcp',
        prefix,
        ports: { min: 9001, max: 9001 },
        remotePort: n,
      });
    for (let n = 1; n <= 30; n++) {
      const device = n % 2 === 0 ? 'eth0' : 'eth1';
      bindings.push({
        label: labelOf(n),
        protocol: 'tcp',
        prefix,
        ports: { min: 9001, max: 9001 },
        remotePort: n,
        device,
      });
    }
    machine.install(bindings);
    fc.assert(
      fc.property(
        fc.oneof(fc.nat(3100), fc.constantFrom(9000, 9001)),
        fc.nat(310),
        fc.nat(310),
        fc.constantFrom('', 'eth0', 'eth1', 'lo'),
        (localPort, n, remotePort, device) => {
          const tuple = {
            protocol: 'tcp',
            localAddress: Uint8Array.of(10, 1, 1, 1),
            localPort,
            remoteAddress: Uint8Array.of(172, 16, n >> 4, ((n & 15) << 4) | 5),
            remotePort,
            device,
          } as const;
          expect(machine.lookup(tuple)).toBe(lookupLinear(bindings, tuple)?.label ?? '');
        },
      ),
      { numRuns: 2000 },
    );
  });
});
