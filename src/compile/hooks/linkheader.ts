/**
 * What a LOG record has of a packet besides its bytes: the link-layer header and the sender, as nf_log_syslog.c looks them up
 * (dump_mac_header, nf_log_dump_sk_uid_gid).
 */
import { type Assembler, R1, R2, R3, R4, R5, R10, type Register } from '../../isa/index.ts';
import { LINK_CAPTURE, LogRecord } from '../actions/log.ts';
import type { Emission } from '../emit/emission.ts';
import type { RuleTag } from '../program.ts';

/** Devices whose frames have an Ethernet header (include/uapi/linux/if_arp.h). */
export const ARPHRD_ETHER = 1;
/** skb->mac_header of a packet that has none. */
export const NO_MAC_HEADER = 0xffff;
/** Sockets that are no full ones: TCP_TIME_WAIT, TCP_NEW_SYN_RECV (include/net/tcp_states.h). */
const PARTIAL_STATES: readonly number[] = [6, 12];

/**
 * Writes the link header of the sk_buff at `skb` to the record whose pointer lies in the frame at `record`. `skb` is not
 * one of r1..r5, which are used.
 */
export function emitSkbLink({ asm }: Emission, skb: Register, record: number): void {
  const done = asm.label('link_done');
  const whole = asm.label('link_whole');
  asm.load('u64', R4, R10, record);
  asm.loadField('u64', R1, skb, 'sk_buff', 'dev');
  asm.loadField('u16', R2, R1, 'net_device', 'type').store('u32', R4, LogRecord.deviceType, R2);
  asm.loadField('u16', R5, R1, 'net_device', 'hard_header_len');
  asm.loadField('u16', R2, skb, 'sk_buff', 'vlan_proto').store('u16', R4, LogRecord.vlanProtocolBe, R2);
  asm.loadField('u16', R2, skb, 'sk_buff', 'vlan_tci').store('u16', R4, LogRecord.vlanTci, R2);
  asm.loadField('u16', R3, skb, 'sk_buff', 'mac_header').jump('==', R3, NO_MAC_HEADER, done);
  asm.loadField('u16', R2, skb, 'sk_buff', 'network_header').sub(R2, R3);
  asm.store('u32', R4, LogRecord.macLength, R2).jump('==', R2, 0, done).jump('==', R5, 0, done);
  asm.jump('<=', R5, LINK_CAPTURE, whole).mov(R5, LINK_CAPTURE);
  asm.place(whole).store('u32', R4, LogRecord.linkLength, R5);
  asm.loadField('u64', R1, skb, 'sk_buff', 'head').add(R3, R1);
  asm.mov(R1, R4).add(R1, LogRecord.link).mov(R2, R5).call('bpf_probe_read_kernel');
  asm.place(done);
}

/**
 * Writes who owns the packet's socket to the record, if it has an open one in this namespace. `skbOf` makes a register point
 * to the sk_buff. Uses r0..r5.
 */
export function emitSkbOwner(
  { asm, frame, hook }: Emission,
  record: number,
  skbOf: (asm: Assembler<RuleTag>) => Register,
): void {
  const done = asm.label('owner_done');
  const netns = frame.slot('ownerNetns');
  hook.cookie(asm, R1);
  asm.store('u64', R10, netns, R1);
  const skb = skbOf(asm);
  asm.loadField('u64', R1, skb, 'sk_buff', 'sk').jump('==', R1, 0, done);
  asm.loadField('u8', R2, R1, 'sock', '__sk_common.skc_state');
  for (const state of PARTIAL_STATES) asm.jump('==', R2, state, done);
  asm
    .loadField('u64', R2, R1, 'sock', '__sk_common.skc_net.net')
    .loadField('u64', R2, R2, 'net', 'net_cookie');
  asm.load('u64', R3, R10, netns).jump('!=', R2, R3, done);
  asm.loadField('u64', R1, R1, 'sock', 'sk_socket').jump('==', R1, 0, done);
  asm.loadField('u64', R1, R1, 'socket', 'file').jump('==', R1, 0, done);
  asm.loadField('u64', R1, R1, 'file', 'f_cred').jump('==', R1, 0, done);
  asm.load('u64', R4, R10, record).store('u32', R4, LogRecord.owned, 1);
  asm.loadField('u32', R2, R1, 'cred', 'fsuid.val').store('u32', R4, LogRecord.uid, R2);
  asm.loadField('u32', R2, R1, 'cred', 'fsgid.val').store('u32', R4, LogRecord.gid, R2);
  asm.place(done);
}
