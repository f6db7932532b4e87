/**
 * Packets of many flows into a namespace at no cost worth mentioning: an XDP program, run by the kernel on frames of its
 * own (live frames), writes the next flow's header into each and lets it up the stack.
 */
import { Assembler, R0, R1, R2, R3, R4, R5 } from '../../src/isa/index.ts';
import {
  BpfMap,
  linkProgram,
  MapFlag,
  Program,
  TestRunFlag,
  testRun,
  xdpContext,
} from '../../src/kernel/index.ts';

export interface Flow {
  /** Ethernet address; default all zeros, as on loopback. */
  readonly mac?: Uint8Array;
  readonly source: number;
  readonly destination: number;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

const ETHERNET = 14;
const ETHERNET_SOURCE = 6;
const IPV4 = 20;
/** Source and type of the frame, IPv4 header and ports. */
const ENTRY = 32;
const COUNTER = 0;
/** When the packet before was met, and its flow; see flowtimes.ts. 0: a batch begins. */
export const LAST_TIME = 8;
const FLOWS = 64;
const PACKET_BYTES = 40;
const XDP_PASS = 2;

export class FlowGenerator {
  readonly program: Program;
  /** Room for what else is kept between packets, then the flows. */
  readonly map: BpfMap;

  /** `flows.length` must be a power of two. */
  constructor(flows: readonly Flow[]) {
    const valueSize = FLOWS + flows.length * ENTRY;
    this.map = BpfMap.create({
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'slc_flows',
      keySize: 4,
      valueSize,
      maxEntries: 1,
      flags: MapFlag.BPF_F_MMAPABLE,
    });
    const mapping = this.map.mmap();
    const bytes = new Uint8Array(mapping.buffer);
    for (const [index, flow] of flows.entries()) bytes.set(header(flow, index), FLOWS + index * ENTRY);
    mapping.unmap();
    const asm = new Assembler();
    const out = asm.label('out');
    asm.load('u32', R2, R1, 0).load('u32', R3, R1, 4).mov(R4, R2);
    asm.add(R4, ETHERNET + PACKET_BYTES).jump('>', R4, R3, out);
    asm.loadMapValue(R5, 'flows', COUNTER).load('u64', R4, R5, 0);
    asm.mov(R0, R4).add(R0, 1).store('u64', R5, 0, R0).store('u64', R5, LAST_TIME, 0);
    asm
      .and(R4, flows.length - 1)
      .mul(R4, ENTRY)
      .loadMapValue(R5, 'flows', FLOWS)
      .add(R5, R4);
    for (let at = 0; at < ENTRY; at += 8)
      asm.load('u64', R0, R5, at).store('u64', R2, ETHERNET_SOURCE + at, R0);
    asm.place(out).return(XDP_PASS);
    this.program = Program.load({
      type: 'BPF_PROG_TYPE_XDP',
      name: 'slc_flows',
      instructions: linkProgram(asm.finish(), { maps: { flows: this.map } }),
    });
  }

  /** Nanoseconds a packet for `packets` packets into the caller's namespace, by its loopback device or another. */
  send(packets: number, ifindex?: number, destination?: Uint8Array): number {
    const frame = new Uint8Array(ETHERNET + PACKET_BYTES);
    if (destination !== undefined) frame.set(destination);
    frame.set([8, 0], 12);
    // One that conntrack takes for good: the length of a UDP datagram, a TCP header that opens a connection.
    frame.set([0, PACKET_BYTES - IPV4], ETHERNET + IPV4 + 4);
    frame.set([0x50, 2], ETHERNET + IPV4 + 12);
    // The kernel's own clock: setting up and taking down the frames' memory costs milliseconds a call.
    return testRun(this.program, {
      data: frame,
      repeat: packets,
      dataRoom: 0,
      flags: TestRunFlag.BPF_F_TEST_XDP_LIVE_FRAMES,
      ...(ifindex === undefined ? {} : { context: xdpContext(frame.length, ifindex) }),
    }).durationNs;
  }

  close(): void {
    this.program.close();
    this.map.close();
  }
}

/** The identification says which flow it is. */
function header(flow: Flow, index: number): Uint8Array {
  const bytes = new Uint8Array(ENTRY);
  if (flow.mac !== undefined) bytes.set(flow.mac);
  const view = new DataView(bytes.buffer, ETHERNET - ETHERNET_SOURCE);
  bytes.set([8, 0, 0x45, 0, 0, PACKET_BYTES, 0, 0, 0, 0, 64, flow.protocol], 6);
  view.setUint16(4, index);
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
