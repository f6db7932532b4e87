/** The measuring programs of ../shared/data/vmbench: bytecode, packets, expected results. */
import { existsSync, readFileSync } from 'node:fs';
import { Machine, type Program } from '../../src/vm/index.ts';

const FOLDER = '../shared/data/vmbench';

export interface BenchProgram {
  readonly name: string;
  readonly bytecode: Uint8Array;
  readonly packet: Uint8Array;
  readonly expected: bigint;
  readonly needsMap: boolean;
  /** Takes a struct xdp_md instead of memory and length. */
  readonly isXdp: boolean;
}

const fromHex = (path: string): Uint8Array =>
  Uint8Array.from(Buffer.from(readFileSync(`${FOLDER}/${path}`, 'utf8').replace(/\s+/g, ''), 'hex'));

/** Empty when the data is absent. */
export function readBenchPrograms(): BenchProgram[] {
  if (!existsSync(`${FOLDER}/manifest.txt`)) return [];
  return readFileSync(`${FOLDER}/manifest.txt`, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [name, packet, expected, needsMap] = line.split(' ') as [string, string, string, string];
      return {
        name,
        bytecode: fromHex(`${name}.hex`),
        packet: fromHex(`${packet}.pkt.hex`),
        expected: BigInt(expected),
        needsMap: needsMap === '1',
        isXdp: name.endsWith('.xdp'),
      };
    });
}

/** A machine with the program loaded, and the map of 10,000 source addresses when it wants one. */
export function loadBench(bench: BenchProgram): { machine: Machine; program: Program } {
  const machine = new Machine();
  if (bench.needsMap) {
    const map = machine.createMap({
      name: 'sources',
      type: 'BPF_MAP_TYPE_HASH',
      keySize: 4,
      valueSize: 8,
      maxEntries: 10_000,
    });
    for (let i = 0; i < 10_000; i++) map.set(Uint8Array.of(10, i >> 16, i >> 8, i), new Uint8Array(8));
  }
  const program = machine.load(bench.bytecode, bench.isXdp ? { type: 'BPF_PROG_TYPE_XDP' } : {});
  return { machine, program };
}
