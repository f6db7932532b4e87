/**
 * LOG records in the kernel's own words (net/netfilter/nf_log_syslog.c), from the ring buffers of live policies. The
 * link-layer header is not in a record: `MAC=` stays empty.
 */
import { LOGS_MAP, type LogPoint, LogRecord } from '../../compile/index.ts';
import { findBpffs, RingBuffer } from '../../kernel/index.ts';
import { formatAddressBytes } from '../../net/index.ts';
import { PolicyStore } from './store.ts';

export interface LogEvent {
  readonly policy: string;
  /** Netns cookie; 0n for a generation that has gone. */
  readonly cookie: bigint;
  /** bpf_ktime_get_ns. */
  readonly timeNs: bigint;
  readonly point: LogPoint | undefined;
  readonly mark: number;
  readonly length: number;
  readonly inDevice: string;
  readonly outDevice: string;
  /** From the IP header on, as much as was captured. */
  readonly packet: Uint8Array;
}

/** Reads the LOG records of policies. One reader at a time: a record is handed out once. */
export class LogReader {
  readonly #sources: { store: PolicyStore; ring: RingBuffer }[] = [];

  /** Opens the ring buffers of these policies; those without LOG rules have none. */
  constructor(policies: readonly string[]) {
    const bpffs = findBpffs();
    for (const name of bpffs === undefined ? [] : policies) {
      const store = PolicyStore.open(bpffs!, name);
      const map = store?.map(LOGS_MAP);
      if (store === undefined) continue;
      if (map === undefined) store.close();
      else this.#sources.push({ store, ring: new RingBuffer(map) });
    }
  }

  get sources(): number {
    return this.#sources.length;
  }

  /** Waits for records and hands them out; returns how many there were before `timeoutMs` passed. */
  async read(consume: (event: LogEvent) => void, timeoutMs: number): Promise<number> {
    if (this.#sources.length > 0) await Promise.race(this.#sources.map(({ ring }) => ring.wait(timeoutMs)));
    let count = 0;
    for (const { store, ring } of this.#sources) {
      count += ring.drain((bytes) => consume(readEvent(store, bytes.slice())));
    }
    return count;
  }

  close(): void {
    for (const { store, ring } of this.#sources.splice(0)) {
      ring.close();
      store.close();
    }
  }
}

function readEvent(store: PolicyStore, bytes: Uint8Array): LogEvent {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const text = (at: number): string => {
    const name = bytes.subarray(at, at + 16);
    const end = name.indexOf(0);
    return new TextDecoder('latin1').decode(end < 0 ? name : name.subarray(0, end));
  };
  const number = view.getUint32(LogRecord.generation, true);
  const document = store.document(String(number));
  const captured = view.getUint32(LogRecord.captured, true);
  return {
    policy: store.name,
    cookie: BigInt(document?.members.find((member) => member.number === number)?.cookie ?? 0),
    timeNs: view.getBigUint64(LogRecord.time, true),
    point: document?.logs[view.getUint32(LogRecord.point, true)],
    mark: view.getUint32(LogRecord.mark, true),
    length: view.getUint32(LogRecord.length, true),
    inDevice: text(LogRecord.inDevice),
    outDevice: text(LogRecord.outDevice),
    packet: bytes.subarray(LogRecord.packet, LogRecord.packet + captured),
  };
}

const LOG_TCPSEQ = 1;
const TCP_FLAGS = ['CWR', 'ECE', 'URG', 'ACK', 'PSH', 'RST', 'SYN', 'FIN'] as const;

/** One line, as the kernel's log has it behind the time. */
export function logLine(event: LogEvent): string {
  const { packet, point } = event;
  const version = (packet[0] ?? 0) >> 4;
  const flags = point?.flags ?? 0;
  const mac = event.inDevice === '' ? '' : 'MAC= ';
  const head = `${point?.prefix ?? ''}IN=${event.inDevice} OUT=${event.outDevice} ${mac}`;
  const body =
    version === 4 ? ipv4Text(packet, flags, 0) : version === 6 ? ipv6Text(packet, flags) : 'TRUNCATED ';
  const mark = event.mark === 0 ? '' : `MARK=0x${event.mark.toString(16)} `;
  return `${head}${body}${mark}`;
}

function ipv4Text(packet: Uint8Array, flags: number, depth: number): string {
  if (packet.length < 20) return 'TRUNCATED';
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const tos = packet[1]!;
  const fragment = view.getUint16(6);
  const offset = fragment & 0x1fff;
  const address = (at: number): string => formatAddressBytes(packet.subarray(at, at + 4));
  const text =
    `SRC=${address(12)} DST=${address(16)} LEN=${view.getUint16(2)} TOS=0x${hex(tos & 0x1e, 2)} ` +
    `PREC=0x${hex(tos & 0xe0, 2)} TTL=${packet[8]} ID=${view.getUint16(4)} ` +
    `${fragment & 0x8000 ? 'CE ' : ''}${fragment & 0x4000 ? 'DF ' : ''}${fragment & 0x2000 ? 'MF ' : ''}` +
    `${offset > 0 ? `FRAG:${offset} ` : ''}`;
  return text + transportText(packet.subarray((packet[0]! & 0xf) * 4), packet[9]!, offset > 0, flags, depth);
}

/** Extension headers that are skipped on the way to the transport header: next header, length in 8 bytes after the first. */
const EXTENSIONS: ReadonlySet<number> = new Set([0, 43, 60]);
const FRAGMENT_HEADER = 44;

function ipv6Text(packet: Uint8Array, flags: number): string {
  if (packet.length < 40) return 'TRUNCATED';
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const address = (at: number): string =>
    Array.from({ length: 8 }, (_, group) => hex(view.getUint16(at + group * 2), 4).toLowerCase()).join(':');
  const first = view.getUint32(0);
  const text =
    `SRC=${address(8)} DST=${address(24)} LEN=${view.getUint16(4) + 40} TC=${(first >> 20) & 0xff} ` +
    `HOPLIMIT=${packet[7]} FLOWLBL=${first & 0xfffff} `;
  let next = packet[6]!;
  let at = 40;
  let offset = 0;
  while ((EXTENSIONS.has(next) || next === FRAGMENT_HEADER) && at + 8 <= packet.length) {
    if (next === FRAGMENT_HEADER) offset = view.getUint16(at + 2) & 0xfff8;
    const length = next === FRAGMENT_HEADER ? 8 : (packet[at + 1]! + 1) * 8;
    next = packet[at]!;
    at += length;
  }
  return (
    text +
    (offset > 0 ? `FRAG:${offset} ` : '') +
    transportText(packet.subarray(at), next, offset > 0, flags, 0)
  );
}

function transportText(
  bytes: Uint8Array,
  protocol: number,
  later: boolean,
  flags: number,
  depth: number,
): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const incomplete = (name: string): string => `PROTO=${name} INCOMPLETE [${bytes.length} bytes] `;
  switch (protocol) {
    case 6: {
      if (later) return 'PROTO=TCP ';
      if (bytes.length < 20) return incomplete('TCP');
      const bits = bytes[13]!;
      const set = TCP_FLAGS.filter((_, index) => (bits & (0x80 >> index)) !== 0).map((flag) => `${flag} `);
      const sequence = flags & LOG_TCPSEQ ? `SEQ=${view.getUint32(4)} ACK=${view.getUint32(8)} ` : '';
      return (
        `PROTO=TCP SPT=${view.getUint16(0)} DPT=${view.getUint16(2)} ${sequence}WINDOW=${view.getUint16(14)} ` +
        `RES=0x${hex((bytes[12]! & 0xf) << 2, 2)} ${set.join('')}URGP=${view.getUint16(18)} `
      );
    }
    case 17:
    case 136: {
      const name = protocol === 17 ? 'UDP' : 'UDPLITE';
      if (later) return `PROTO=${name} `;
      if (bytes.length < 8) return incomplete(name);
      return `PROTO=${name} SPT=${view.getUint16(0)} DPT=${view.getUint16(2)} LEN=${view.getUint16(4)} `;
    }
    case 1:
    case 58: {
      const name = protocol === 1 ? 'ICMP' : 'ICMPv6';
      if (later) return `PROTO=${name} `;
      if (bytes.length < 8) return incomplete(name);
      const [type, code] = [bytes[0]!, bytes[1]!];
      const text = `PROTO=${name} TYPE=${type} CODE=${code} `;
      const echo = protocol === 1 ? type === 8 || type === 0 : type === 128 || type === 129;
      if (echo) return `${text}ID=${view.getUint16(4)} SEQ=${view.getUint16(6)} `;
      const quotes = protocol === 1 && [3, 4, 5, 11, 12].includes(type) && depth === 0;
      return quotes ? `${text}[${ipv4Text(bytes.subarray(8), flags, 1)}] ` : text;
    }
    default:
      return `PROTO=${protocol} `;
  }
}

function hex(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, '0');
}
