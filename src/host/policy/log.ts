/** LOG records from the ring buffers of live policies. */
import { LOGS_MAP, type LogPoint, LogRecord } from '../../compile/index.ts';
import { findBpffs, RingBuffer } from '../../kernel/index.ts';
import { type LinkHeader, logText } from './logtext.ts';
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
  readonly link: LinkHeader;
  /** Of the socket that sends the packet, when the rule asks (--log-uid) and there is one. */
  readonly owner?: { readonly uid: number; readonly gid: number };
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
  const u32 = (at: number): number => view.getUint32(at, true);
  const number = u32(LogRecord.generation);
  const document = store.documentOf(number);
  const captured = u32(LogRecord.captured);
  const vlan = {
    protocol: view.getUint16(LogRecord.vlanProtocolBe),
    tci: view.getUint16(LogRecord.vlanTci, true),
  };
  return {
    policy: store.name,
    cookie: BigInt(document?.members.find((member) => member.number === number)?.cookie ?? 0),
    timeNs: view.getBigUint64(LogRecord.time, true),
    point: document?.logs[u32(LogRecord.point)],
    mark: u32(LogRecord.mark),
    length: u32(LogRecord.length),
    inDevice: text(LogRecord.inDevice),
    outDevice: text(LogRecord.outDevice),
    link: {
      deviceType: u32(LogRecord.deviceType),
      macLength: u32(LogRecord.macLength),
      bytes: bytes.subarray(LogRecord.link, LogRecord.link + u32(LogRecord.linkLength)),
      ...(vlan.protocol === 0 ? {} : { vlan }),
    },
    ...(u32(LogRecord.owned) === 0 ? {} : { owner: { uid: u32(LogRecord.uid), gid: u32(LogRecord.gid) } }),
    packet: bytes.subarray(LogRecord.packet, LogRecord.packet + captured),
  };
}

/** One line, as the kernel's log has it behind the time. */
export function logLine(event: LogEvent): string {
  return logText({ ...event, prefix: event.point?.prefix ?? '', flags: event.point?.flags ?? 0 });
}
