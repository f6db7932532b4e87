/**
 * LOG: a record in the ring buffer `logs`, then the walk goes on. User space writes it in the kernel's LOG format.
 * A full ring loses the record, counted; it never holds up the packet.
 */
import { R0, R1, R2, R3, R4, R7, R10, type Register } from '../../isa/index.ts';
import { Generation, SystemCounter } from '../arena/layout.ts';
import { emitTick } from '../emit/counter.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';

export const LOGS_MAP = 'logs';
export const LOGS_BYTES: number = 1 << 20;

/** A record of {@link LOG_RECORD_SIZE} bytes, little endian. */
export const LogRecord = {
  /** u64 bpf_ktime_get_ns */
  time: 0,
  /** u32 low half of the generation's number: whose list of log points, and which namespace */
  generation: 8,
  /** u32 number of the log point */
  point: 12,
  /** u32 skb->mark at the rule; 0 where there is none */
  mark: 16,
  /** u32 length of the IP packet */
  length: 20,
  /** u32 bytes at `packet` */
  captured: 24,
  /** u32 attach point: entryIndex */
  entry: 28,
  /** 16 bytes each, zero where there is none */
  inDevice: 32,
  outDevice: 48,
  /** u32 bytes at `link`: hard_header_len of the device, when the packet has a link-layer header */
  linkLength: 64,
  /** u32 ARPHRD_* of the packet's device */
  deviceType: 68,
  /** u32 bytes from the link-layer header to the IP header; 0 where there is none */
  macLength: 72,
  /** u16 tag that the device took out of the frame: ethertype in network order, and TCI; both 0 for none */
  vlanProtocolBe: 76,
  vlanTci: 78,
  /** u32 1 when `uid` and `gid` are those of the socket's owner (--log-uid) */
  owned: 80,
  uid: 84,
  gid: 88,
  /** The first {@link LINK_CAPTURE} bytes of the link-layer header. */
  link: 96,
  /** From the IP header on. */
  packet: 128,
} as const;
/** Devices have no longer link-layer headers than this. */
export const LINK_CAPTURE = 32;
/** XT_LOG_UID */
const LOG_UID = 8;
export const LOG_CAPTURE = 192;
export const LOG_RECORD_SIZE: number = LogRecord.packet + LOG_CAPTURE;

/** Devices, and the mark where the hook knows one (`hasMark`). */
export function logNeeds(hasMark: boolean): readonly Fact[] {
  return hasMark ? ['inDevice', 'outDevice', 'mark'] : ['inDevice', 'outDevice'];
}

/** `point` is the log point's number, or the frame offset of a word that has it; `flags` XT_LOG_*. Uses r0..r5. */
export function emitLog(emission: Emission, point: number | { readonly word: number }, flags: number): void {
  const { asm, facts, frame, hook } = emission;
  const lost = asm.label('log_lost');
  const done = asm.label('log_done');
  const whole = asm.label('log_whole');
  const cut = asm.label('log_cut');
  const record = frame.slot('logRecord');
  asm.loadMap(R1, LOGS_MAP).mov(R2, LOG_RECORD_SIZE).mov(R3, 0).call('bpf_ringbuf_reserve');
  asm.jump('==', R0, 0, lost).store('u64', R10, record, R0);
  asm.call('bpf_ktime_get_ns').load('u64', R4, R10, record);
  asm.store('u64', R4, LogRecord.time, R0);
  asm.load('u32', R1, R7, Generation.number).store('u32', R4, LogRecord.generation, R1);
  if (typeof point === 'number') asm.store('u32', R4, LogRecord.point, point);
  else asm.load('u32', R1, R10, point.word).store('u32', R4, LogRecord.point, R1);
  if (facts.has('mark')) asm.load('u32', R1, R10, facts.offset('mark')).store('u32', R4, LogRecord.mark, R1);
  else asm.store('u32', R4, LogRecord.mark, 0);
  asm.load('u32', R1, R10, facts.offset('length')).store('u32', R4, LogRecord.length, R1);
  hook.place(asm, R1);
  asm.store('u32', R4, LogRecord.entry, R1);
  for (const [fact, at] of [
    ['inDevice', LogRecord.inDevice],
    ['outDevice', LogRecord.outDevice],
  ] as const) {
    for (let word = 0; word < 4; word++) {
      asm.load('u32', R2, R10, facts.offset(fact, word)).store('u32', R4, at + word * 4, R2);
    }
  }
  for (let at: number = LogRecord.linkLength; at < LOG_RECORD_SIZE; at += 8) asm.store('u64', R4, at, 0);
  hook.logLink(emission, record);
  if ((flags & LOG_UID) !== 0) hook.logOwner?.(emission, record);
  asm.load('u64', R4, R10, record).load('u32', R1, R10, facts.offset('length'));
  asm.jump('<=', R1, LOG_CAPTURE, whole).mov(R1, LOG_CAPTURE);
  asm.place(whole).store('u32', R4, LogRecord.captured, R1).jump('==', R1, 0, cut);
  const place = (register: Register): void => {
    asm.load('u64', register, R10, record).add(register, LogRecord.packet);
  };
  hook.read(emission, R1, place, { constant: 0 }, cut);
  asm.place(cut);
  asm.load('u64', R1, R10, record).mov(R2, 0).call('bpf_ringbuf_submit').goto(done);
  asm.place(lost);
  emitTick(emission, SystemCounter.logsLost);
  asm.place(done);
}
