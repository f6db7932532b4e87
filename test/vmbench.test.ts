import { describe, expect, test } from 'vitest';
import { XdpContext } from '../src/vm/index.ts';
import { loadBench, readBenchPrograms } from './support/vmbench.ts';

const benches = readBenchPrograms();

describe.skipIf(benches.length === 0)('measuring programs', () => {
  test.each(benches.map((bench) => [bench.name, bench] as const))('%s gives its known result', (_, bench) => {
    const { machine, program } = loadBench(bench);
    if (bench.isXdp) {
      const context = new XdpContext(machine, machine.createPacket(2048).set(bench.packet));
      expect(BigInt(program.run(context))).toBe(bench.expected);
    } else {
      expect(machine.runRaw(program, bench.packet)).toBe(bench.expected);
    }
  });

  test('the map program counts in the map', () => {
    const { machine, program } = loadBench(benches.find(({ name }) => name === 'e_map')!);
    const { packet } = benches.find(({ name }) => name === 'e_map')!;
    for (let run = 0; run < 3; run++) machine.runRaw(program, packet);
    expect(machine.map('sources').get(packet.subarray(26, 30))?.[0]).toBe(3);
  });
});
