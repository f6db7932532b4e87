/**
 * Packets of many flows into a namespace at no cost worth mentioning: an XDP program, run by the kernel on frames of its
 * own (live frames), writes the next flow's header into each and lets it up the stack.
 */
import { Assembler, R0, R1, R2, R3, R4, R5 } from '../../src/isa/index.ts';
import { BpfMap, linkProgram, MapFlag, Program, testRun } from '../../src/kernel/index.ts';

export interface Flow {
  readonly source: number;
  readonly destination: number;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

const ETHERNET = 14;
/** IPv4 header and ports. */
const WRITTEN = 24;
const ENTRY = 32;
const COUNTER = 0;
const FLOWS = 64;
const PACKET_BYTES = 40;
const BPF_F_TEST_XDP_LIVE_FRAMES = 2;
const XDP_PASS = 2;

export class FlowGenerator {
  readonly program: Program;
  readonly #map: BpfMap;

  /** `flows.length` must be a power of two. */
  constructor(flows: readonly Flow[]) {
    const valueSize = FLOWS + flows.length * ENTRY;
    this.#map = BpfMap.create({
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'slc_flows',
      keySize: 4,
      valueSize,
      maxEntries: 1,
      flags: MapFlag.BPF_F_MMAPABLE,
    });
    const mapping = this.#map.mmap();
    const bytes = new Uint8Array(mapping.buffer);
    for (const [index, flow] of flows.entries()) bytes.set(header(flow), FLOWS + index * ENTRY);
    mapping.unmap();
    const asm = new Assembler();
    const out = asm.label('out');
    asm.load('u32', R2, R1, 0).load('u32', R3, R1, 4).mov(R4, R2);
    asm.add(R4, ETHERNET + PACKET_BYTES).jump('>', R4, R3, out);
    asm.loadMapValue(R5, 'flows', COUNTER).load('u64', R4, R5, 0);
    asm.mov(R0, R4).add(R0, 1).store('u64', R5, 0, R0);
    asm
      .and(R4, flows.length - 1)
      .mul(R4, ENTRY)
      .loadMapValue(R5, 'flows', FLOWS)
      .add(R5, R4);
    for (let at = 0; at < WRITTEN; at += 8) asm.load('u64', R0, R5, at).store('u64', R2, ETHERNET + at, R0);
    asm.place(out).return(XDP_PASS);
    this.program = Program.load({
      type: 'BPF_PROG_TYPE_XDP',
      name: 'slc_flows',
      instructions: linkProgram(asm.finish(), { maps: { flows: this.#map } }),
    });
  }

  /** Nanoseconds a packet for `packets` packets into the caller's namespace, by its loopback device. */
  send(packets: number): number {
    const frame = new Uint8Array(ETHERNET + PACKET_BYTES);
    frame.set([8, 0], 12);
    frame[ETHERNET + 32] = 0x50;
    // The kernel's own clock: setting up and taking down the frames' memory costs milliseconds a call.
    const flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    return testRun(this.program, { data: frame, repeat: packets, dataRoom: 0, flags }).durationNs;
  }

  close(): void {
    this.program.close();
    this.#map.close();
  }
}

function header(flow: Flow): Uint8Array {
  const bytes = new Uint8Array(WRITTEN);
  const view = new DataView(bytes.buffer);
  bytes.set([0x45, 0, 0, PACKET_BYTES, 0, 0, 0, 0, 64, flow.protocol]);
  view.setUint32(12, flow.source);
  view.setUint32(16, flow.destination);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(10, ~sum & 0xffff);
  view.setUint16(20, flow.sourcePort);
  view.setUint16(22, flow.destinationPort);
  return bytes;
}
