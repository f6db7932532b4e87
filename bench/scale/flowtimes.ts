/**
 * What the packets of each flow cost, while the flows take turns: a program before the rules notes when each packet comes
 * by. From one packet to the next of its batch is the first one's way through the rules to its end, and the start of the next.
 */
import { Assembler, R0, R1, R2, R3, R4, R6, R7, R10 } from '../../src/isa/index.ts';
import {
  attachNetfilter,
  BpfMap,
  kernelTypes,
  linkProgram,
  MapFlag,
  Program,
} from '../../src/kernel/index.ts';
import { type FlowGenerator, LAST_TIME } from './generator.ts';

const LAST_FLOW = LAST_TIME + 8;
const LIMIT = LAST_FLOW + 8;
const CONTEXT_SKB = 8;
const IDENTIFICATION = 4;
const DYNPTR = -16;
const BUFFER = -24;
const ENTRY_SHIFT = 4;
const NF_ACCEPT = 1;
/** Before the tables of filter and mangle, behind conntrack. */
const PRIORITY = -160;

interface Closable {
  close(): void;
}

export class FlowTimes {
  readonly #program: Program;
  readonly #times: BpfMap;
  readonly #generator: FlowGenerator;
  readonly #flows: number;

  /** `flows`: how many the generator has. */
  constructor(generator: FlowGenerator, flows: number) {
    this.#generator = generator;
    this.#flows = flows;
    this.#times = BpfMap.create({
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'slc_times',
      keySize: 4,
      valueSize: flows << ENTRY_SHIFT,
      maxEntries: 1,
      flags: MapFlag.BPF_F_MMAPABLE,
    });
    const asm = new Assembler();
    const out = asm.label('out');
    asm
      .load('u64', R1, R1, CONTEXT_SKB)
      .mov(R2, 0)
      .mov(R3, R10)
      .add(R3, DYNPTR)
      .callKfunc('bpf_dynptr_from_skb');
    asm.mov(R1, R10).add(R1, DYNPTR).mov(R2, IDENTIFICATION).mov(R3, R10).add(R3, BUFFER).mov(R4, 2);
    asm.callKfunc('bpf_dynptr_slice').jump('==', R0, 0, out).load('u16', R7, R0, 0).toBe(R7, 16);
    asm.call('bpf_ktime_get_ns').loadMapValue(R6, 'flows', 0);
    asm.load('u64', R2, R6, LAST_TIME).load('u64', R3, R6, LAST_FLOW);
    asm.store('u64', R6, LAST_TIME, R0).store('u64', R6, LAST_FLOW, R7).jump('==', R2, 0, out);
    asm.sub(R0, R2).load('u64', R1, R6, LIMIT).jump('>', R0, R1, out);
    asm
      .and(R3, flows - 1)
      .lsh(R3, ENTRY_SHIFT)
      .loadMapValue(R4, 'times', 0)
      .add(R4, R3);
    asm.load('u64', R1, R4, 0).add(R1, R0).store('u64', R4, 0, R1);
    asm.load('u64', R1, R4, 8).add(R1, 1).store('u64', R4, 8, R1);
    asm.place(out).return(NF_ACCEPT);
    this.#program = Program.load({
      type: 'BPF_PROG_TYPE_NETFILTER',
      name: 'slc_times',
      instructions: linkProgram(asm.finish(), {
        maps: { flows: generator.map, times: this.#times },
        types: kernelTypes(),
      }),
      expectedAttachType: 'BPF_NETFILTER',
    });
  }

  attach(hook: 0 | 1 | 2): Closable {
    return attachNetfilter(this.#program, { family: 'ipv4', hook, priority: PRIORITY });
  }

  /** Begins anew. Packets that take longer than `limitNs` were interrupted and do not count. */
  reset(limitNs: number): void {
    this.#write(this.#times, (view) => new Uint8Array(view.buffer).fill(0));
    this.#write(this.#generator.map, (view) => view.setBigUint64(LIMIT, BigInt(Math.round(limitNs)), true));
  }

  /** Mean of each flow, in ns; flows that were never met are left out. */
  means(): number[] {
    const means: number[] = [];
    this.#write(this.#times, (view) => {
      for (let flow = 0; flow < this.#flows; flow++) {
        const count = view.getBigUint64((flow << ENTRY_SHIFT) + 8, true);
        if (count > 0n) means.push(Number(view.getBigUint64(flow << ENTRY_SHIFT, true)) / Number(count));
      }
    });
    return means;
  }

  #write(map: BpfMap, use: (view: DataView) => void): void {
    const mapping = map.mmap();
    use(new DataView(mapping.buffer));
    mapping.unmap();
  }

  close(): void {
    this.#program.close();
    this.#times.close();
  }
}
