/**
 * Where a packet goes in a namespace: small netfilter programs before and after the tables of each hook write a line for
 * each packet that passes, and two gates let in and out only what a replay sends. What the namespace says on its own
 * account (resets, ICMP errors, group reports) ends at the gate of LOCAL_OUT, before connection tracking sees it.
 */

import { HOOK_CHAINS, Hook } from '../../../ir/index.ts';
import { Assembler, R0, R1, R2, R3, R4, R6, R7, R9, R10 } from '../../../isa/index.ts';
import {
  attachNetfilter,
  BpfMap,
  kernelTypes,
  type Link,
  linkProgram,
  MapFlag,
  type Mapping,
  Program,
} from '../../../kernel/index.ts';
import type { Family } from '../../../net/index.ts';

/** skb->priority of what a replay sends: nothing else in the namespace has it. No rule can ask for it. */
export const SENDER_PRIORITY = 0x736c6365;

/** One line: a packet came to a hook's tables, or is behind them. */
export interface Station {
  readonly hook: Hook;
  readonly passed: boolean;
  /** skb->len */
  readonly length: number;
}

const MAP = 'stations';
/** Lines that there is room for: a packet has ten at most, and copies of broadcasts some more. */
const LINES = 64;
const HEADER_BYTES = 8;
const LINE_BYTES = 8;

/** Before anything else at a hook. */
const GATE_PRIORITY = -1000;
/** After defragmentation (-400), before the raw tables (-300). */
const ENTRY_PRIORITY = -399;
/** After the last table and nat's source step (100), before conntrack's confirmation. */
const EXIT_PRIORITY = 1001;

const NF_DROP = 0;
const NF_ACCEPT = 1;
const CONTEXT_STATE = 0;
const CONTEXT_SKB = 8;

export class Stations {
  readonly #map: BpfMap;
  readonly #mapping: Mapping;
  readonly #lines: DataView;
  readonly #objects: (Program | Link)[] = [];

  /** Attaches in the calling thread's namespace, at these hooks; the gates are at both ways in. */
  constructor(families: readonly Family[], hooks: readonly Hook[]) {
    this.#map = BpfMap.create({
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'slc_stations',
      keySize: 4,
      valueSize: HEADER_BYTES + LINES * LINE_BYTES,
      maxEntries: 1,
      flags: MapFlag.BPF_F_MMAPABLE,
    });
    this.#mapping = this.#map.mmap();
    this.#lines = new DataView(this.#mapping.buffer);
    try {
      const entry = this.#load('slc_entry', buildRecorder(false));
      const exit = this.#load('slc_exit', buildRecorder(true));
      const gates = [
        [Hook.PRE_ROUTING, this.#load('slc_gate_in', buildGate(false))],
        [Hook.LOCAL_OUT, this.#load('slc_gate_out', buildGate(true))],
      ] as const;
      for (const family of families) {
        for (const [hook, program] of gates) this.#attach(program, family, hook, GATE_PRIORITY);
        for (const hook of hooks) {
          this.#attach(entry, family, hook, ENTRY_PRIORITY);
          this.#attach(exit, family, hook, EXIT_PRIORITY);
        }
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #load(name: string, code: ReturnType<typeof buildGate>): Program {
    const instructions = linkProgram(code, { maps: { [MAP]: this.#map }, types: kernelTypes() });
    const program = Program.load({
      type: 'BPF_PROG_TYPE_NETFILTER',
      name,
      instructions,
      expectedAttachType: 'BPF_NETFILTER',
    });
    this.#objects.unshift(program);
    return program;
  }

  #attach(program: Program, family: Family, hook: Hook, priority: number): void {
    this.#objects.unshift(attachNetfilter(program, { family, hook, priority }));
  }

  /** True once the packet at hand has come to any hook. */
  get reached(): boolean {
    return this.#lines.getBigUint64(0, true) !== 0n;
  }

  /** The lines since the last call, in order. */
  take(): Station[] {
    const count = Math.min(LINES, Number(this.#lines.getBigUint64(0, true)));
    const stations = Array.from({ length: count }, (_, index): Station => {
      const at = HEADER_BYTES + index * LINE_BYTES;
      const place = this.#lines.getUint32(at, true);
      return {
        hook: (place & 0xff) as Hook,
        passed: (place & 0x100) !== 0,
        length: this.#lines.getUint32(at + 4, true),
      };
    });
    this.#lines.setBigUint64(0, 0n, true);
    return stations;
  }

  close(): void {
    for (const object of this.#objects.splice(0)) object.close();
    this.#mapping.unmap();
    this.#map.close();
  }
}

/** Accepts what the replay sends and nothing else (`own`), or everything but that: it comes back by lo. */
function buildGate(own: boolean): ReturnType<Assembler<never>['finish']> {
  const asm = new Assembler<never>();
  const pass = asm.label('pass');
  asm.load('u64', R9, R1, CONTEXT_SKB).loadField('u32', R2, R9, 'sk_buff', 'priority');
  asm.mov32(R3, SENDER_PRIORITY).jump(own ? '==' : '!=', R2, R3, pass);
  asm.return(NF_DROP).place(pass).return(NF_ACCEPT);
  return asm.finish({ prune: true });
}

/** Writes a line. The packets of a replay come one after the other, so the count needs no lock. */
function buildRecorder(passed: boolean): ReturnType<Assembler<never>['finish']> {
  const asm = new Assembler<never>();
  const full = asm.label('full');
  asm.mov(R6, R1).load('u64', R9, R6, CONTEXT_SKB).load('u64', R7, R6, CONTEXT_STATE);
  asm.store('u32', R10, -4, 0).mov(R2, R10).add(R2, -4).loadMap(R1, MAP);
  asm.call('bpf_map_lookup_elem').jump('==', R0, 0, full);
  asm.load('u64', R1, R0, 0).jump('>=', R1, LINES, full);
  asm.mov(R2, R1).add(R2, 1).store('u64', R0, 0, R2);
  asm.lsh(R1, Math.log2(LINE_BYTES)).add(R0, R1);
  asm.loadField('u8', R3, R7, 'nf_hook_state', 'hook');
  if (passed) asm.or(R3, 0x100);
  asm.loadField('u32', R4, R9, 'sk_buff', 'len');
  asm.store('u32', R0, HEADER_BYTES, R3).store('u32', R0, HEADER_BYTES + 4, R4);
  asm.place(full).return(NF_ACCEPT);
  return asm.finish({ prune: true });
}

/** "lost-after-prerouting", "not-received": where a packet's trace ends when no rule has dropped it. */
export function lostAt(last: Station | undefined, sent: boolean): string {
  if (last === undefined) return sent ? 'not-sent' : 'not-received';
  const chain = HOOK_CHAINS[last.hook]!.toLowerCase();
  return last.passed ? `lost-after-${chain}` : `lost-in-${chain}`;
}
