/** Answers at tcx ingress: the packet is sent out again by the device that it came in at, with or without a link header. */
import { type Label, R0, R1, R2, R3, R4, R5, R6, R10 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import { ANSWER_IP, ANSWER_LINK, type Answering } from './answer.ts';
import { ETHERTYPE } from './ethertype.ts';
import { Skb } from './skb.ts';
import { emitSwappedAddresses } from './xdpanswer.ts';

const PACKET_HOST = 0;
const ETH_HLEN = 14;
const BPF_HDR_START_MAC = 0;
const BPF_ADJ_ROOM_MAC = 1;
const BPF_F_RECOMPUTE_CSUM = 1;
/** skb->ip_summed: two bits behind pkt_type (3), ignore_df and dst_pending_confirm. */
const IP_SUMMED_SHIFT = 5;
const CHECKSUM_PARTIAL = 3;

export const TCX_ANSWER: Answering = {
  begin(emission: Emission, block: number, no: Label): void {
    const { asm, family, frame } = emission;
    const addresses = frame.block('scratch', 40);
    const link = frame.word('answerLink');
    const ready = asm.label('answer_link');
    asm.load('u32', R1, R6, Skb.pktType).jump('!=', R1, PACKET_HOST, no);
    const untagged = asm.label('answer_untagged');
    asm.load('u32', R1, R6, Skb.vlanPresent).jump('==', R1, 0, untagged);
    asm.mov(R1, R6).call('bpf_skb_vlan_pop').jump('!=', R0, 0, no);
    asm.place(untagged);
    asm.mov(R1, R6).callKfunc('bpf_cast_to_kern_ctx');
    asm.loadField('u16', R1, R0, 'sk_buff', 'network_header');
    asm.loadField('u16', R2, R0, 'sk_buff', 'mac_header').sub(R1, R2);
    asm.store('u32', R10, link, R1).jump('==', R1, 0, ready).jump('!=', R1, ETH_HLEN, no);
    asm.mov(R1, R6).mov(R2, 0).mov(R3, R10).add(R3, addresses).mov(R4, 12).mov(R5, BPF_HDR_START_MAC);
    asm.call('bpf_skb_load_bytes_relative').jump('!=', R0, 0, no);
    emitSwappedAddresses(emission, addresses, block);
    asm.store('u16', R10, block + ANSWER_IP - 2, ETHERTYPE[family]);
    asm.place(ready);
  },

  unfinished(emission, yes): void {
    const { asm } = emission;
    asm.mov(R1, R6).callKfunc('bpf_cast_to_kern_ctx');
    asm.loadField('u8', R1, R0, 'sk_buff', '__pkt_type_offset').rsh(R1, IP_SUMMED_SHIFT).and(R1, 3);
    asm.jump('==', R1, CHECKSUM_PARTIAL, yes);
  },

  reshape(emission, room, keep, no): void {
    const { asm, frame } = emission;
    asm.mov(R1, R6).load('u32', R2, R10, frame.word('answerLink'));
    if (typeof keep === 'number') asm.add(R2, keep);
    else asm.load('u32', R3, R10, keep.word).add(R2, R3);
    asm.mov(R3, 0).call('bpf_skb_change_tail').jump('!=', R0, 0, no);
    if (room === 0) return;
    asm.mov(R1, R6).mov(R2, room).mov(R3, BPF_ADJ_ROOM_MAC).mov(R4, 0);
    asm.call('bpf_skb_adjust_room').jump('!=', R0, 0, no);
  },

  send(emission, block, bytes, no): void {
    const { asm, frame } = emission;
    const bare = asm.label('answer_bare');
    const written = asm.label('answer_written');
    asm.load('u32', R1, R10, frame.word('answerLink')).jump('==', R1, 0, bare);
    const write = (from: number, size: number): void => {
      asm.mov(R1, R6).mov(R2, 0).mov(R3, R10).add(R3, from).mov(R4, size).mov(R5, BPF_F_RECOMPUTE_CSUM);
      asm.call('bpf_skb_store_bytes').jump('!=', R0, 0, no);
    };
    write(block + ANSWER_LINK, ETH_HLEN + bytes);
    asm.goto(written).place(bare);
    write(block + ANSWER_IP, bytes);
    asm.place(written);
    asm.load('u32', R1, R6, Skb.ifindex).mov(R2, 0).call('bpf_redirect').exit();
  },
};
