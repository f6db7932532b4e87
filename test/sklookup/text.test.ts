/** Bindings files: what is read is what was written, and what is wrong is shown where it stands. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type BindingFile,
  BindingsError,
  bindingFileJson,
  compareBindings,
  findConflicts,
  flowHash,
  formatBinding,
  formatBindingFile,
  inConflict,
  inPrecedence,
  type LabelOptions,
  parseBindings,
  SocketStateError,
  spreadPlaces,
} from '../../src/sklookup/index.ts';
import { anyBinding, anyBindingSet, LABELS } from '../support/bindings.ts';
import { SkLookupMachine } from '../support/sklookup-machine.ts';

const anyOptions: fc.Arbitrary<LabelOptions> = fc.record({
  whenEmpty: fc.constantFrom('drop', 'pass'),
  spread: fc.constantFrom('reuseport', 'hash'),
  flows: fc.constantFrom('keep', 'forget'),
});
const anyFile: fc.Arbitrary<BindingFile> = fc.record({
  bindings: anyBindingSet(true, 20),
  labels: fc
    .dictionary(fc.constantFrom(...LABELS), anyOptions)
    .map((labels) => new Map(Object.entries(labels))),
});

function findings(text: string): string[] {
  try {
    parseBindings(text, 'f');
    return [];
  } catch (error) {
    if (!(error instanceof BindingsError)) throw error;
    return error.diagnostics.map(({ code, span }) => `${code} ${span.line}:${span.column}+${span.length}`);
  }
}

describe('bindings files', () => {
  it('read back what was written, as text and as JSON', () => {
    fc.assert(
      fc.property(anyFile, (file) => {
        expect(parseBindings(formatBindingFile(file), 'f')).toEqual(file);
        expect(parseBindings(JSON.stringify(bindingFileJson(file), null, 1), 'f')).toEqual(file);
      }),
    );
  });

  it('read the common line as the others: blanks change nothing', () => {
    fc.assert(
      fc.property(anyBinding(false), fc.constantFrom('', '/7', '/0', '/32'), (binding, length) => {
        const address = formatBinding(binding).split(' ')[2]!.split('/')[0]!;
        const line = `l.1-x ${binding.protocol} ${address}${length} 8000-8999`;
        const read = (text: string) => parseBindings(text, 'f').bindings;
        expect(read(line)).toEqual(read(` ${line.replaceAll(' ', '  ')} # x`));
        expect(read(`${line}\r\n`)).toEqual(read(line));
      }),
    );
  });

  it('never fail otherwise than with findings inside the text', () => {
    const word = fc.oneof(
      fc.constantFrom(
        'web',
        'label',
        'tcp',
        'udp',
        'all',
        '::1',
        '10.0.0.0/8',
        '80',
        '1-2',
        'from',
        'in',
        'remote-port',
        'when-empty',
        '#',
        '{',
        '"',
        '\n',
        ',',
      ),
      fc.string({ maxLength: 6 }),
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 30 }), (words) => {
        const text = words.join(' ');
        try {
          parseBindings(text, 'f');
        } catch (error) {
          if (!(error instanceof BindingsError)) throw error;
          const lines = text.split(/\r?\n/);
          for (const { span, hint } of error.diagnostics) {
            expect(span.column).toBeLessThanOrEqual((lines[span.line - 1] ?? '').length + 1);
            expect(hint).not.toBe('');
          }
        }
      }),
      { numRuns: 1000 },
    );
  });

  it.each([
    ['web tcp 10.0.0.0/8', 'BINDINGS_SYNTAX 1:19+1'],
    ['web sctp 10.0.0.0/8 80', 'BINDINGS_VALUE 1:5+4'],
    ['-web tcp 10.0.0.0/33 0', 'BINDINGS_VALUE 1:1+4', 'BINDINGS_VALUE 1:10+11', 'BINDINGS_VALUE 1:22+1'],
    ['a tcp ::1 80 from 10.0.0.1', 'BINDINGS_VALUE 1:19+8'],
    ['a tcp ::1 80 from', 'BINDINGS_SYNTAX 1:18+1'],
    ['a tcp ::1 80 form ::2', 'BINDINGS_SYNTAX 1:14+4'],
    ['a tcp ::1 80 in a in b', 'BINDINGS_SYNTAX 1:19+2'],
    ['a tcp ::1 80 remote-port 1-2', 'BINDINGS_VALUE 1:26+3'],
    ['a tcp ::1 90-80', 'BINDINGS_VALUE 1:11+5'],
    ['a tcp 010.0.0.1 80', 'BINDINGS_VALUE 1:7+9'],
    ['a tcp 10.0.0.256 80', 'BINDINGS_VALUE 1:7+10'],
    ['a tcp 10.0.0/24 80', 'BINDINGS_VALUE 1:7+9'],
    ['a tcp 10.0.0.0/033 80', 'BINDINGS_VALUE 1:7+12'],
    ['a tcp 10.0.0.0/ 80', 'BINDINGS_VALUE 1:7+9'],
    ['label a when-empty maybe', 'BINDINGS_VALUE 1:20+5'],
    ['label a\nlabel a', 'BINDINGS_DUPLICATE 2:7+1'],
    ['# x\na tcp ::1 80\n b tcp ::1 80 # y', 'BINDINGS_CONFLICT 3:2+16'],
    [
      '{"bindings":[{"label":"a","protocol":"tcp","prefix":"::1","port":80}]}',
      'BINDINGS_VALUE 1:14+55',
      'BINDINGS_VALUE 1:66+2',
    ],
    ['{"bindings":[', 'BINDINGS_SYNTAX 1:14+1'],
  ])('%j', (text, ...wanted) => {
    expect(findings(text)).toEqual(wanted);
  });

  it('a label may be called "label"', () => {
    expect(parseBindings('label tcp ::1 80', 'f').bindings[0]).toMatchObject({
      label: 'label',
      protocol: 'tcp',
    });
  });

  it('are printed in the order of precedence', () => {
    fc.assert(
      fc.property(fc.array(anyBinding(true), { maxLength: 40 }), (bindings) => {
        const sorted = bindings.toSorted(compareBindings);
        expect(inPrecedence(bindings).map(formatBinding)).toEqual(sorted.map(formatBinding));
      }),
    );
  });

  it('find a conflict exactly where two of a set tie', () => {
    fc.assert(
      fc.property(fc.array(anyBinding(true), { maxLength: 12 }), (bindings) => {
        const tied = bindings.some((a, at) => bindings.some((b, other) => other > at && inConflict(a, b)));
        expect(findConflicts(bindings).length > 0).toBe(tied);
      }),
      { numRuns: 500 },
    );
  });
});

describe('spreading', () => {
  it('deals places by weight, and moves few when a member goes', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 2, maxLength: 20 }), (weights) => {
        const members = weights.map((weight, seed) => ({ seed, weight }));
        const places = spreadPlaces(members);
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        if (total === 0) {
          expect(places.length).toBe(0);
          return;
        }
        for (const [index, weight] of weights.entries()) {
          const share = places.filter((place) => place === index).length / places.length;
          expect(Math.abs(share - weight / total)).toBeLessThan(0.01);
        }
        const fewer = members.map((member, index) => (index === 0 ? { ...member, weight: 0 } : member));
        const after = spreadPlaces(fewer);
        if (after.length === 0) return;
        const moved = places.filter((place, at) => place !== 0 && after[at] !== place).length;
        expect(moved / places.length).toBeLessThan(0.35);
      }),
      { numRuns: 60 },
    );
  });

  it('hashes as the program does', () => {
    const machine = new SkLookupMachine();
    machine.install(parseBindings('dns tcp 10.0.0.0/8 all', 'f').bindings);
    const [destination] = machine.state.destinations.list();
    const members = ['m0', 'm1', 'm2'].map((name) => {
      const slot = machine.state.destinations.reserveSlot(destination!.index);
      machine.putSocket(slot, name);
      return { slot, weight: 1, address: new Uint8Array(4), port: 1 };
    });
    machine.state.destinations.setMembers(destination!.index, members);
    const places = spreadPlaces(members.map(({ slot, weight }) => ({ seed: slot, weight })));
    fc.assert(
      fc.property(
        fc.nat(0xffffff),
        fc.integer({ min: 1, max: 65535 }),
        fc.nat(0xffffffff),
        fc.nat(65535),
        (host, localPort, remote, remotePort) => {
          const local = 0x0a000000 + host;
          const four = (value: number) => Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
          const hash = flowHash([
            BigInt(local),
            0n,
            BigInt(remote),
            0n,
            BigInt(localPort),
            BigInt(remotePort),
          ]);
          const place = Number((BigInt(hash) * BigInt(places.length)) >> 32n);
          const tuple = {
            protocol: 'tcp',
            localAddress: four(local),
            localPort,
            remoteAddress: four(remote),
            remotePort,
            device: '',
          } as const;
          expect(machine.lookup(tuple)).toBe(`m${places[place]}`);
        },
      ),
    );
  });
});

describe('a full arena', () => {
  it('refuses more members, labels and bindings than there is room for, and keeps what is in force', () => {
    const machine = new SkLookupMachine();
    const file = parseBindings('a tcp 10.0.0.1 80', 'f');
    machine.install(file.bindings);
    const full = expect.objectContaining({ code: 'SOCKETS_FULL', hint: expect.stringMatching(/./) });
    const member = { slot: 1, weight: 1, address: new Uint8Array(4), port: 1 };
    expect(() =>
      machine.state.destinations.setMembers(
        0,
        Array.from({ length: 65 }, () => member),
      ),
    ).toThrow(full);
    const many = Array.from({ length: 4097 }, (_, n) => `l${n} tcp 10.${n >> 8}.${n & 255}.0/24 80`).join(
      '\n',
    );
    expect(() => machine.state.install(parseBindings(many, 'f'), () => 1)).toThrow(SocketStateError);
    expect(machine.state.bindings()).toEqual(file);
    const tuple = {
      protocol: 'tcp',
      localAddress: Uint8Array.of(10, 0, 0, 1),
      localPort: 80,
      remoteAddress: Uint8Array.of(1, 1, 1, 1),
      remotePort: 1,
      device: '',
    } as const;
    expect(machine.lookup(tuple)).toBe('a');
  });
});
