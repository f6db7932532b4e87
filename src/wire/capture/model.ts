/** What capture files hold, whatever their format: interfaces, packets, and how a file can be broken. */

/** One capture interface; classic pcap files have exactly one. */
export interface CaptureInterface {
  readonly linkType: number;
  /** Most bytes kept of a packet; 0 for no limit. */
  readonly snapLength: number;
  /** Timestamp units a second: 1,000,000, 1,000,000,000, or what if_tsresol says. */
  readonly ticksPerSecond: bigint;
  /** Seconds added to every timestamp (if_tsoffset). */
  readonly offsetSec: bigint;
  readonly name: string | undefined;
}

/** One packet. `data` is its own copy, so that readers need not keep the file's bytes. */
export interface CapturedPacket {
  /** Counts from 1, as other tools do. */
  readonly number: number;
  readonly interfaceIndex: number;
  readonly linkType: number;
  /** Nanoseconds since 1970; `undefined` for pcapng simple packets, which have no time. */
  readonly timestampNs: bigint | undefined;
  /** Length on the wire; `data` may be shorter. */
  readonly originalLength: number;
  readonly data: Uint8Array;
}

/**
 * - `CAPTURE_FORMAT` neither pcap nor pcapng
 * - `CAPTURE_VERSION` a version that is not known
 * - `CAPTURE_TRUNCATED` the file ends inside a header or record
 * - `CAPTURE_CORRUPT` a length or field contradicts the format
 * - `CAPTURE_TOO_LARGE` a record is longer than any packet or block can sensibly be
 */
export type CaptureErrorCode =
  | 'CAPTURE_FORMAT'
  | 'CAPTURE_VERSION'
  | 'CAPTURE_TRUNCATED'
  | 'CAPTURE_CORRUPT'
  | 'CAPTURE_TOO_LARGE';

/** Where and why a capture cannot be read on. What came before it stays good. */
export class CaptureError extends Error {
  readonly code: CaptureErrorCode;
  readonly hint: string;
  /** Byte offset in the file of the header or record at fault. */
  readonly offset: number;
  constructor(code: CaptureErrorCode, offset: number, reason: string, hint: string) {
    super(`${reason} (at byte ${offset})`);
    this.name = 'CaptureError';
    this.code = code;
    this.offset = offset;
    this.hint = hint;
  }
}

/** Longest packet taken from a record: libpcap's MAXIMUM_SNAPLEN for ordinary link types. */
export const MAXIMUM_PACKET_LENGTH = 262_144;
/** Longest pcapng block; libpcap's INITIAL_MAX_BLOCKSIZE for options, keys and statistics included. */
export const MAXIMUM_BLOCK_LENGTH = 16_777_216;
/** Most interfaces of one pcapng section. */
export const MAXIMUM_INTERFACES = 65_536;

/** Ticks of an interface to nanoseconds since 1970, rounded down. */
export function ticksToNs(ticks: bigint, captureInterface: CaptureInterface): bigint {
  return (
    (ticks * 1_000_000_000n) / captureInterface.ticksPerSecond + captureInterface.offsetSec * 1_000_000_000n
  );
}
