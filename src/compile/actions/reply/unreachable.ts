/**
 * ICMP and ICMPv6 "destination unreachable" (RFC 792, RFC 4443), as icmp_send and icmp6_send make them: the packet is quoted
 * as far as the answer stays within 576 (IPv4) or 1280 bytes (IPv6).
 */
import { type Label, R0, R1, R2, R5, R10 } from '../../../isa/index.ts';
import { emitCopy } from '../../emit/copy.ts';
import type { Emission } from '../../emit/emission.ts';
import { ANSWER_IP, type Answering } from '../../hooks/answer.ts';
import { emitAnswerSource, ROUTE, Route } from '../../hooks/route.ts';
import { emitChecksum, emitFrameSum, emitPacketSum } from './checksum.ts';
import { ADDRESS_SIZE, ADDRESSES, emitIpHeader, emitSwappedIpAddresses, HEADER_SIZE } from './header.ts';
import { UNREACHABLE_CODES } from './refusals.ts';

const ICMP_HEADER = 8;
const PROTOCOL = { ipv4: 1, ipv6: 58 } as const;
const TYPE = { ipv4: 3, ipv6: 1 } as const;
const LARGEST = { ipv4: 576, ipv6: 1280 } as const;
/** ICMP types that are no errors: 0, 8 and 13 (timestamp) to 18 (address mask reply); of ICMPv6, those from 128 on. */
const ECHO_REPLY = 0;
const ECHO = 8;
const FIRST_QUERY = 13;
const LAST_QUERY = 18;
const FIRST_INFORMATIONAL = 0x80;
/** Where the checksum lies in the transport headers that a device can finish. */
const CHECKSUM_AT = [
  [6, 16],
  [17, 6],
] as const;

/** Answers with the code for the word `kind` and ends the program, or goes to `no`. Uses r0..r5. */
export function emitUnreachable(
  emission: Emission,
  answering: Answering,
  block: number,
  kind: number,
  no: Label,
): void {
  const { asm, facts, family, frame } = emission;
  const ip = block + ANSWER_IP;
  const icmp = ip + HEADER_SIZE[family];
  const room = HEADER_SIZE[family] + ICMP_HEADER;
  const quoted = frame.word('quoted');
  const sum = frame.word('sum');
  emitEligible(emission, no);

  emitSwappedIpAddresses(emission, ip);
  const source = asm.label('answer_source');
  asm.load('u32', R1, R10, frame.word(ROUTE)).jump('!=', R1, Route.forward, source);
  emitAnswerSource(emission, ip + ADDRESSES[family], no);
  asm.place(source);

  const whole = asm.label('quote_whole');
  asm.load('u32', R1, R10, facts.offset('length')).jump('<=', R1, LARGEST[family] - room, whole);
  asm.mov(R1, LARGEST[family] - room);
  asm.place(whole).store('u32', R10, quoted, R1);
  emitQuoteSum(emission, answering, quoted, sum, no);

  for (let at = 0; at < ICMP_HEADER; at += 4) asm.store('u32', R10, icmp + at, 0);
  asm.store('u8', R10, icmp, TYPE[family]);
  const coded = asm.label('answer_coded');
  asm.load('u32', R1, R10, kind);
  for (const [reject, code] of UNREACHABLE_CODES[family]) {
    const other = asm.label('other_code');
    asm
      .jump('!=', R1, reject, other)
      .store('u8', R10, icmp + 1, code)
      .goto(coded);
    asm.place(other);
  }
  asm.goto(no).place(coded);
  asm.load('u32', R5, R10, sum);
  if (family === 'ipv4') {
    emitFrameSum(emission, icmp, ICMP_HEADER);
  } else {
    asm
      .load('u32', R1, R10, quoted)
      .add(R1, ICMP_HEADER)
      .toBe(R1, 16)
      .add(R5, R1)
      .add(R5, PROTOCOL.ipv6 << 8);
    emitFrameSum(emission, ip + ADDRESSES.ipv6, 2 * ADDRESS_SIZE.ipv6 + ICMP_HEADER);
  }
  emitChecksum(emission);
  asm.store('u16', R10, icmp + 2, R0);
  asm.load('u32', R1, R10, quoted).add(R1, family === 'ipv4' ? room : ICMP_HEADER);
  emitIpHeader(emission, ip, PROTOCOL[family], true);
  answering.reshape(emission, room, { word: quoted }, no);
  answering.send(emission, block, room, no);
}

/**
 * Never an error for an error, nor for an ICMP type that nobody knows (icmp_pointers in net/ipv4/icmp.c; RFC 4443, 2.4);
 * IPv6 without a transport header is not answered either. Uses r1.
 */
function emitEligible(emission: Emission, no: Label): void {
  const { asm, facts, family } = emission;
  const other = asm.label('not_icmp');
  if (family === 'ipv6') asm.load('u32', R1, R10, facts.offset('transportLength')).jump('==', R1, 0, no);
  asm.load('u32', R1, R10, facts.offset('protocol')).jump('!=', R1, PROTOCOL[family], other);
  asm.load('u32', R1, R10, facts.offset('transportLength')).jump('==', R1, 0, no);
  asm.load('u32', R1, R10, facts.offset('icmpType'));
  if (family === 'ipv4') {
    asm.jump('==', R1, ECHO_REPLY, other).jump('==', R1, ECHO, other);
    asm.jump('<', R1, FIRST_QUERY, no).jump('>', R1, LAST_QUERY, no);
  } else {
    asm.jump('<', R1, FIRST_INFORMATIONAL, no);
  }
  asm.place(other);
}

/**
 * The sum of what is quoted, in the word `sum`. Where the device is to finish the quoted transport checksum it will add up to
 * the complement of what its field has now, whatever is behind it. Uses r0..r5.
 */
function emitQuoteSum(
  emission: Emission,
  answering: Answering,
  quoted: number,
  sum: number,
  no: Label,
): void {
  const { asm, facts, frame } = emission;
  const end = frame.word('sumEnd');
  const partial = asm.label('quote_unfinished');
  const finish = frame.word('sumFinish');
  asm.store('u32', R10, finish, 0);
  asm.load('u32', R1, R10, quoted).store('u32', R10, end, R1);
  const begin = asm.label('sum_begin');
  answering.unfinished(emission, partial);
  asm.goto(begin);
  asm.place(partial);
  asm.load('u32', R1, R10, facts.offset('transportOffset')).store('u32', R10, end, R1);
  const field = frame.block('scratch', 40);
  const known = asm.label('field_known');
  for (const [protocol, at] of CHECKSUM_AT) {
    const other = asm.label('other_transport');
    asm.load('u32', R1, R10, facts.offset('protocol')).jump('!=', R1, protocol, other);
    emitCopy(emission, field, { constant: at, word: facts.offset('transportOffset') }, 2, no);
    asm.goto(known).place(other);
  }
  asm.goto(no).place(known);
  asm.load('u16', R1, R10, field).xor(R1, 0xffff).store('u32', R10, finish, R1);
  asm.place(begin);
  emitPacketSum(emission, end, sum, no);
  asm.load('u32', R1, R10, sum).load('u32', R2, R10, finish).add(R1, R2).store('u32', R10, sum, R1);
}
