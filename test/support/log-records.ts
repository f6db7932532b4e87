/** Records of LOG rules in the user-space machine's ring buffer, against what the evaluator logged. */
import { LOGS_MAP, LogRecord } from '../../src/compile/actions/log.ts';
import { type AttachPoint, entryIndex } from '../../src/compile/index.ts';
import type { PolicyMachine } from '../../src/host/replay/machine.ts';
import type { Family } from '../../src/net/index.ts';
import type { LogEntry } from '../../src/rules/index.ts';
import type { RingBufferMap } from '../../src/vm/maps/ring-buffer.ts';

const CAPTURE = 192;
const LINK_CAPTURE = 32;
const ARPHRD_ETHER = 1;
const ARPHRD_INFINIBAND = 32;
const ETH_HLEN = 14;
const ETHER_TYPES = { ipv4: 0x0800, ipv6: 0x86dd } as const;

/** What surrounds a packet that is logged. */
export interface LoggedPacket {
  readonly ethernet: Uint8Array | undefined;
  /** Of an Infiniband device. */
  readonly link?: Uint8Array;
  readonly family: Family;
  readonly tags?: readonly { readonly protocol: number; readonly tci: number }[];
}

/** Every field of a record, in the order of the record. */
export function expectedLogs(
  logs: readonly LogEntry[],
  point: AttachPoint,
  packet: LoggedPacket,
  nowMs: number,
): object[] {
  const { ethernet, family, tags = [] } = packet;
  const etherType = ETHER_TYPES[family];
  const inFrame = point.flavour === 'xdp';
  const [outer] = tags;
  const carried = (inFrame ? outer?.protocol : undefined) ?? etherType;
  const own = packet.link?.subarray(0, LINK_CAPTURE) ?? [];
  const link = ethernet === undefined ? own : [...ethernet.subarray(0, 12), carried >> 8, carried & 0xff];
  return logs.map(({ level, flags, prefix, inDevice, outDevice, bytes, mark }) => ({
    time: BigInt(nowMs) * 1_000_000n,
    generation: 1,
    level,
    flags,
    prefix,
    mark: inFrame ? 0 : mark,
    length: bytes.length,
    entry: entryIndex(point),
    inDevice,
    outDevice,
    deviceType: packet.link === undefined ? ARPHRD_ETHER : ARPHRD_INFINIBAND,
    macLength:
      ethernet === undefined ? (packet.link?.length ?? 0) : ETH_HLEN + (inFrame ? 4 * tags.length : 0),
    vlanProtocol: inFrame ? 0 : (outer?.protocol ?? 0),
    vlanTci: inFrame ? 0 : (outer?.tci ?? 0),
    owned: 0,
    link: Buffer.from(link).toString('hex'),
    captured: Math.min(bytes.length, CAPTURE),
    packet: Buffer.from(bytes.subarray(0, CAPTURE)).toString('hex'),
  }));
}

/** The first record since the last look that is not as it must be. */
export function logDifference(
  { machine, policy }: PolicyMachine,
  expected: readonly object[],
): string | undefined {
  const records = policy.maps.some(({ name }) => name === LOGS_MAP)
    ? [...(machine.map(LOGS_MAP) as RingBufferMap).drain()].map((bytes) => readRecord(bytes, policy))
    : [];
  const text = (value: unknown): string =>
    JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? `${one}` : one));
  return text(records) === text(expected) ? undefined : `logs ${text(records)} for ${text(expected)}`;
}

function readRecord(bytes: Uint8Array, { logs }: PolicyMachine['policy']): object {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const u32 = (at: number): number => view.getUint32(at, true);
  const name = (at: number): string =>
    Buffer.from(bytes.subarray(at, at + 16))
      .toString('latin1')
      .replace(/\0+$/, '');
  const part = (at: number, length: number): string =>
    Buffer.from(bytes.subarray(at, at + length)).toString('hex');
  const point = logs[u32(LogRecord.point)];
  return {
    time: view.getBigUint64(LogRecord.time, true),
    generation: u32(LogRecord.generation),
    level: point?.level,
    flags: point?.flags,
    prefix: point?.prefix,
    mark: u32(LogRecord.mark),
    length: u32(LogRecord.length),
    entry: u32(LogRecord.entry),
    inDevice: name(LogRecord.inDevice),
    outDevice: name(LogRecord.outDevice),
    deviceType: u32(LogRecord.deviceType),
    macLength: u32(LogRecord.macLength),
    vlanProtocol: view.getUint16(LogRecord.vlanProtocolBe),
    vlanTci: view.getUint16(LogRecord.vlanTci, true),
    owned: u32(LogRecord.owned),
    link: part(LogRecord.link, u32(LogRecord.linkLength)),
    captured: u32(LogRecord.captured),
    packet: part(LogRecord.packet, u32(LogRecord.captured)),
  };
}
