/** Dispatchers in the kernel: records, commits, deadlines, and one generation for a packet. */
import { expect, test } from 'vitest';
import {
  compilePolicy,
  entryIndex,
  FLIGHT_SLOTS,
  FLIGHTS_OFFSET,
  type FlightRole,
  GATE_OPEN,
  GATE_SIZE,
  GATE_SLOTS,
  GATES_OFFSET,
  GENERATIONS_OFFSET,
  generationImage,
  Record as PolicyRecord,
  RECORD_SIZE,
  ROOT_ALIGNMENT,
  recordHome,
  SYSTEM_COUNTERS,
} from '../../src/compile/index.ts';
import { currentNetnsCookie, netfilterContext } from '../../src/kernel/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { LoadedPolicy } from '../support/policy.ts';

const OUTPUT = entryIndex({ flavour: 'netfilter', group: 'filter', family: 'ipv4', hook: 3 });
const DROP = 0;
const PASS = 1;

function setUp(role: FlightRole) {
  const text = '*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT DROP [0:0]\nCOMMIT\n';
  const { ruleset } = parseRuleset(text, { file: 'dispatcher', family: 'ipv4' });
  const policy = compilePolicy([ruleset], { hooks: ['netfilter'] });
  const loaded = new LoadedPolicy(policy, {}, role, [OUTPUT], 2);
  const first = GENERATIONS_OFFSET;
  // The second generation has nothing to run: packets pass.
  const second = first + loaded.size;
  const empty = generationImage(policy.counters, policy.state, {
    cpus: 1,
    number: 2n,
    addresses: [],
    devices: new Map(),
    entries: new Map(),
  });
  new Uint8Array(loaded.arena.buffer).set(empty.build(second), second);
  const { view } = loaded;
  const record = recordHome(currentNetnsCookie());
  const packet = Uint8Array.from([0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
  return {
    loaded,
    first,
    second,
    record,
    view,
    commit: (root: number, previous: number): void =>
      view.setBigUint64(record + PolicyRecord.root, BigInt(root) | (BigInt(previous) << 32n), true),
    run: (): number =>
      loaded.run(OUTPUT, { data: packet, context: netfilterContext('ipv4', 3), dataRoom: 0 }).returnValue,
    [Symbol.dispose]: () => loaded.close(),
  };
}

describeKernel('dispatchers', () => {
  test('one store commits, and a namespace without a record is cut off', () => {
    using set = setUp('only');
    expect(set.run()).toBe(DROP);
    expect(set.loaded.counter(SYSTEM_COUNTERS + 2)).toEqual({ packets: 1n, bytes: 20n });
    set.commit(set.second, set.first);
    expect(set.run()).toBe(PASS);
    set.view.setBigUint64(set.record + PolicyRecord.cookie, 0n, true);
    expect(set.run()).toBe(DROP);
    expect(set.loaded.counter(SYSTEM_COUNTERS + 2).packets).toBe(1n);
  });

  test('a record may lie up to three places after its home', () => {
    using set = setUp('only');
    const cookie = currentNetnsCookie();
    set.view.setBigUint64(set.record + PolicyRecord.cookie, cookie + 4096n, true);
    const third = set.record + 3 * RECORD_SIZE;
    set.view.setUint32(third + PolicyRecord.root, set.second, true);
    set.view.setBigUint64(third + PolicyRecord.cookie, cookie, true);
    expect(set.run()).toBe(PASS);
  });

  test('behind a closed gate the previous generation runs, behind an open one and without one the new', () => {
    using set = setUp('only');
    const gate = (number: number, closesNs: bigint): void =>
      set.view.setBigUint64(GATES_OFFSET + number * GATE_SIZE, closesNs, true);
    for (const number of [1, GATE_SLOTS - 1]) {
      set.commit(set.second | number, set.first);
      for (const [closesNs, verdict] of [
        [0n, DROP],
        [1n, DROP],
        [1n << 62n, PASS],
        [GATE_OPEN, PASS],
      ] as const) {
        gate(number, closesNs);
        expect(set.run(), `gate ${number}: ${closesNs}`).toBe(verdict);
      }
      gate(number, 0n);
    }
    set.commit(set.second, 0);
    expect(set.run()).toBe(PASS);
  });

  test('a first hook notes the generation while a commit is under way; a later one keeps to it', () => {
    const words = (view: DataView): bigint[] => {
      const found: bigint[] = [];
      for (let slot = 0; slot < FLIGHT_SLOTS; slot++) {
        const word = view.getBigUint64(FLIGHTS_OFFSET + slot * 8, true);
        if (word !== 0n) found.push(word);
      }
      return found;
    };
    using first = setUp('first');
    first.run();
    expect(words(first.view)).toEqual([]);
    first.view.setUint32(first.record + PolicyRecord.inFlight, first.first, true);
    expect(first.run()).toBe(DROP);
    const noted = words(first.view);
    expect(noted).toHaveLength(1);
    expect(Number(noted[0]! & 0xfffffn) * ROOT_ALIGNMENT).toBe(first.first);

    // A later hook that finds another packet's note, or none, goes by the record.
    using later = setUp('later');
    later.view.setUint32(later.record + PolicyRecord.inFlight, later.first, true);
    later.commit(later.second, later.first);
    for (let slot = 0; slot < FLIGHT_SLOTS; slot++) {
      later.view.setBigUint64(
        FLIGHTS_OFFSET + slot * 8,
        (0xabcdefn << 20n) | BigInt(later.first / ROOT_ALIGNMENT),
        true,
      );
    }
    expect(later.run()).toBe(PASS);
  });
});
