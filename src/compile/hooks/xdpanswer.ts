/** Answers at xdp: the frame goes out again by the device that it came in at (XDP_TX). Priority tags are left off. */
import { type Label, R0, R1, R2, R3, R4, R6, R9, R10 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import { ANSWER_IP, ANSWER_LINK, type Answering } from './answer.ts';
import { ETHERTYPE } from './ethertype.ts';

const XDP_TX = 3;
const ETH_HLEN = 14;
const ETH_ALEN = 6;

export const XDP_ANSWER: Answering = {
  begin(emission: Emission, block: number, no: Label): void {
    const { asm, family, frame } = emission;
    const addresses = frame.block('scratch', 40);
    const own = addresses + 16;
    asm
      .mov(R1, R6)
      .mov(R2, 0)
      .mov(R3, R10)
      .add(R3, addresses)
      .mov(R4, 2 * ETH_ALEN);
    asm.call('bpf_xdp_load_bytes').jump('!=', R0, 0, no);
    // Frames to a group, or taken in by a promiscuous device, were not sent to this host alone.
    asm.mov(R1, R6).callKfunc('bpf_cast_to_kern_ctx');
    asm.loadField('u64', R1, R0, 'xdp_buff', 'rxq').loadField('u64', R1, R1, 'xdp_rxq_info', 'dev');
    asm.loadField('u64', R3, R1, 'net_device', 'dev_addr');
    asm.mov(R1, R10).add(R1, own).mov(R2, ETH_ALEN).call('bpf_probe_read_kernel').jump('!=', R0, 0, no);
    asm.load('u32', R1, R10, addresses).load('u32', R2, R10, own).jump('!=', R1, R2, no);
    asm
      .load('u16', R1, R10, addresses + 4)
      .load('u16', R2, R10, own + 4)
      .jump('!=', R1, R2, no);
    emitSwappedAddresses(emission, addresses, block);
    asm.store('u16', R10, block + ANSWER_IP - 2, ETHERTYPE[family]);
  },

  unfinished(): void {},

  reshape(emission, room, keep, no): void {
    const { asm } = emission;
    asm
      .mov(R1, R6)
      .mov(R2, R9)
      .sub(R2, ETH_HLEN + room);
    asm.call('bpf_xdp_adjust_head').jump('!=', R0, 0, no);
    asm.mov(R1, R6).call('bpf_xdp_get_buff_len');
    if (typeof keep === 'number') asm.mov(R2, keep);
    else asm.load('u32', R2, R10, keep.word);
    asm
      .add(R2, ETH_HLEN + room)
      .sub(R2, R0)
      .mov(R1, R6);
    asm.call('bpf_xdp_adjust_tail').jump('!=', R0, 0, no);
  },

  send(emission, block, bytes, no): void {
    const { asm } = emission;
    asm
      .mov(R1, R6)
      .mov(R2, 0)
      .mov(R3, R10)
      .add(R3, block + ANSWER_LINK)
      .mov(R4, ETH_HLEN + bytes);
    asm.call('bpf_xdp_store_bytes').jump('!=', R0, 0, no);
    asm.return(XDP_TX);
  },
};

/** The sender becomes the destination: both addresses lie at `addresses`, as they were received. Uses r1. */
export function emitSwappedAddresses(emission: Emission, addresses: number, block: number): void {
  const { asm } = emission;
  const link = block + ANSWER_LINK;
  for (const [from, to] of [
    [ETH_ALEN, 0],
    [0, ETH_ALEN],
  ] as const) {
    for (let at = 0; at < ETH_ALEN; at += 2) {
      asm.load('u16', R1, R10, addresses + from + at).store('u16', R10, link + to + at, R1);
    }
  }
}
