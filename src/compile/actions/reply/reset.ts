/** The TCP reset (RFC 9293, 3.10.7.1), as nf_send_reset and nf_send_reset6 make it. */
import { type Label, R0, R1, R2, R5, R10 } from '../../../isa/index.ts';
import { emitCopy } from '../../emit/copy.ts';
import type { Emission } from '../../emit/emission.ts';
import { ANSWER_IP, type Answering } from '../../hooks/answer.ts';
import { emitChecksum, emitFold, emitFrameSum } from './checksum.ts';
import { ADDRESS_SIZE, ADDRESSES, emitIpHeader, emitSwappedIpAddresses, HEADER_SIZE } from './header.ts';

const TCP = 6;
const TCP_HEADER = 20;
const FIN = 1;
const SYN = 2;
const RST = 4;
const ACK = 0x10;
/** Protocol and length of the pseudo header, as words of the packet are loaded. */
const PSEUDO_HEADER = (TCP << 8) + (TCP_HEADER << 8);

/** Answers and ends the program, or goes to `no`. Uses r0..r5. */
export function emitReset(emission: Emission, answering: Answering, block: number, no: Label): void {
  const { asm, facts, family, frame } = emission;
  const ip = block + ANSWER_IP;
  const tcp = ip + HEADER_SIZE[family];
  const received = frame.block('scratch', 40);
  const transport = facts.offset('transportOffset');
  asm.load('u32', R1, R10, facts.offset('protocol')).jump('!=', R1, TCP, no);
  emitCopy(emission, received, { constant: 0, word: transport }, TCP_HEADER, no);
  const flags = received + 13;
  // Never a reset for a reset.
  asm.load('u8', R1, R10, flags).mov(R2, R1).and(R2, RST).jump('!=', R2, 0, no);

  asm.load('u16', R2, R10, received).store('u16', R10, tcp + 2, R2);
  asm.load('u16', R2, R10, received + 2).store('u16', R10, tcp, R2);
  for (let at = 4; at < TCP_HEADER; at += 4) asm.store('u32', R10, tcp + at, 0);
  asm.store('u8', R10, tcp + 12, (TCP_HEADER / 4) << 4);
  const unacknowledged = asm.label('reset_acknowledges');
  const numbered = asm.label('reset_numbered');
  asm.and(R1, ACK).jump('==', R1, 0, unacknowledged);
  asm.load('u32', R1, R10, received + 8).store('u32', R10, tcp + 4, R1);
  asm.store('u8', R10, tcp + 13, RST).goto(numbered);
  asm.place(unacknowledged);
  // What the segment takes of the sequence: its bytes, SYN and FIN.
  asm
    .load('u32', R1, R10, received + 4)
    .toBe(R1, 32)
    .load('u32', R2, R10, facts.offset('length'))
    .add32(R1, R2);
  asm.load('u32', R2, R10, transport).sub32(R1, R2);
  asm
    .load('u8', R2, R10, received + 12)
    .rsh(R2, 4)
    .lsh(R2, 2)
    .sub32(R1, R2);
  asm.load('u8', R2, R10, flags).mov(R0, R2).and(R0, FIN).add32(R1, R0);
  asm
    .rsh(R2, Math.log2(SYN))
    .and(R2, 1)
    .add32(R1, R2)
    .toBe(R1, 32)
    .store('u32', R10, tcp + 8, R1);
  asm.store('u8', R10, tcp + 13, RST | ACK);
  asm.place(numbered);

  emitSwappedIpAddresses(emission, ip);
  asm.mov(R1, family === 'ipv4' ? HEADER_SIZE.ipv4 + TCP_HEADER : TCP_HEADER);
  emitIpHeader(emission, ip, TCP, false);
  const addresses = ip + ADDRESSES[family];
  const pseudo = 2 * ADDRESS_SIZE[family];
  const partial = asm.label('reset_unfinished');
  const summed = asm.label('reset_summed');
  answering.unfinished(emission, partial);
  asm.mov(R5, PSEUDO_HEADER);
  emitFrameSum(emission, addresses, pseudo + TCP_HEADER);
  emitChecksum(emission);
  asm.goto(summed).place(partial);
  // The device adds the segment to what stands in the field, from where the received segment began.
  asm.load('u32', R1, R10, transport).jump('!=', R1, HEADER_SIZE[family], no);
  asm.mov(R5, PSEUDO_HEADER);
  emitFrameSum(emission, addresses, pseudo);
  emitFold(emission);
  asm.place(summed).store('u16', R10, tcp + 16, R0);
  answering.reshape(emission, 0, HEADER_SIZE[family] + TCP_HEADER, no);
  answering.send(emission, block, HEADER_SIZE[family] + TCP_HEADER, no);
}
