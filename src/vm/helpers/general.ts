/** Helpers that any program may call: time, randomness, loops, memory, text (`kernel/bpf/helpers.c`). */

import type { Machine } from '../machine.ts';
import { E2BIG, EFAULT, EINVAL } from '../maps/map.ts';
import { type HelperFunction, pointer, pointerOrNull, u32, u64 } from './arguments.ts';
import { MAX_LOOPS } from './limits.ts';

/** HZ of the kernels that this machine stands for; jiffies begin five minutes before they wrap 32 bits. */
const HZ = 1000n;
const INITIAL_JIFFIES = 0xffffffffn & -300_000n;

const boot = (m: Machine): bigint => m.clock.bootNs?.() ?? m.clock.monotonicNs();

/** The machine's clock as programs and kernel structures have it. */
export function jiffies(m: Machine): bigint {
  return INITIAL_JIFFIES + (boot(m) * HZ) / 1_000_000_000n;
}

const loop: HelperFunction = (m) => {
  const iterations = u32(m, 1);
  if (u64(m, 4) !== 0n) return -EINVAL;
  if (iterations > MAX_LOOPS) return -E2BIG;
  const callback = m.callbackArgument(2);
  const context = u32(m, 3);
  for (let index = 0; index < iterations; index++)
    if (m.callBack(callback, index, context) !== 0) return index + 1;
  return iterations;
};

/** Copies kernel memory: any region, and the buffer around the packet. What cannot be read leaves zeros and -EFAULT. */
const probeRead: HelperFunction = (m) => {
  const bytes = u32(m, 2);
  const to = pointerOrNull(m, 1, bytes, 'write');
  const from = u64(m, 3);
  if (!readable(m, from, bytes)) {
    m.memory.u8.fill(0, to, to + bytes);
    return -EFAULT;
  }
  m.memory.u8.copyWithin(to, Number(from), Number(from) + bytes);
  return 0;
};

function readable(m: Machine, from: bigint, bytes: number): boolean {
  if (from < 4096n || from > 0x7fffffffn) return bytes === 0;
  const address = Number(from);
  const packet = m.context?.packet;
  if (packet !== undefined && address >= packet.hardStart && address + bytes <= packet.limit) return true;
  return m.memory.findRegion(address, bytes, false) !== undefined;
}

/** One program at a time: every lock is free. */
const lock: HelperFunction = (m) => {
  pointer(m, 1, 4, 'write');
  return 0;
};

/** Copies up to a NUL; the result counts it. */
const probeReadString: HelperFunction = (m) => {
  const bytes = u32(m, 2);
  const to = pointerOrNull(m, 1, bytes, 'write');
  const from = u64(m, 3);
  const { u8 } = m.memory;
  for (let count = 0; count < bytes; count++) {
    if (!readable(m, from + BigInt(count), 1)) {
      u8.fill(0, to, to + bytes);
      return -EFAULT;
    }
    // The last place is the terminator's, however long the text is.
    const byte = count === bytes - 1 ? 0 : u8[Number(from) + count]!;
    u8[to + count] = byte;
    if (byte === 0) return count + 1;
  }
  return 0;
};

const compareText: HelperFunction = (m) => {
  const length = u32(m, 2);
  const first = pointerOrNull(m, 1, length, 'read');
  const second = u32(m, 3);
  const { u8 } = m.memory;
  for (let at = 0; at < length; at++) {
    if (m.memory.findRegion(second + at, 1, false) === undefined) {
      return m.fail('VM_ACCESS', `argument 3: cannot read: ${m.memory.describe(second + at)}`);
    }
    const a = u8[first + at]!;
    const b = u8[second + at]!;
    if (a !== b) return a < b ? -1 : 1;
    if (a === 0) return 0;
  }
  return 0;
};

/** printf's conversions that the kernel allows: %d %i %u %x %p with l and ll, %s and %%; three arguments. */
const trace: HelperFunction = (m) => {
  const bytes = u32(m, 2);
  const format = pointer(m, 1, bytes, 'read');
  const text = textAt(m, format, bytes);
  let next = 3;
  const out = text.replace(/%(%|(l{0,2})([diuxps]))/g, (_whole, sign: string, long: string, kind: string) => {
    if (sign === '%') return '%';
    if (next > 5) return '';
    const value = u64(m, next++);
    if (kind === 's') return textAt(m, Number(value), 128);
    const wide = long !== '' || kind === 'p';
    if (kind === 'x' || kind === 'p') return BigInt.asUintN(wide ? 64 : 32, value).toString(16);
    if (kind === 'u') return `${BigInt.asUintN(wide ? 64 : 32, value)}`;
    return `${BigInt.asIntN(wide ? 64 : 32, value)}`;
  });
  m.environment.trace?.(out);
  return out.length;
};

/** Text up to a NUL, as Latin-1; what cannot be read ends it. */
function textAt(m: Machine, address: number, limit: number): string {
  let text = '';
  for (let at = 0; at < limit; at++) {
    if (m.memory.findRegion(address + at, 1, false) === undefined) break;
    const byte = m.memory.u8[address + at]!;
    if (byte === 0) break;
    text += String.fromCharCode(byte);
  }
  return text;
}

export const GENERAL_HELPERS: Readonly<Record<string, HelperFunction>> = {
  bpf_ktime_get_ns: (m) => m.clock.monotonicNs(),
  bpf_ktime_get_coarse_ns: (m) => m.clock.monotonicNs(),
  bpf_ktime_get_boot_ns: boot,
  bpf_jiffies64: jiffies,
  bpf_get_prandom_u32: (m) => BigInt(m.random() >>> 0),
  bpf_get_smp_processor_id: (m) => m.cpu,
  bpf_get_numa_node_id: () => 0,
  bpf_loop: loop,
  bpf_spin_lock: lock,
  bpf_spin_unlock: lock,
  bpf_probe_read_kernel: probeRead,
  bpf_probe_read_kernel_str: probeReadString,
  bpf_strncmp: compareText,
  bpf_trace_printk: trace,
};
