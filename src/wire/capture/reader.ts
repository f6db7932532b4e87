/**
 * Reads captures of either format from chunks of any size. Pure: the caller brings the chunks and takes the packets.
 *
 * Memory is bounded: no more is kept than one record or block and the chunk that completed it; records that claim
 * absurd lengths are refused before they are waited for.
 */
import { InputBuffer } from './buffer.ts';
import { type CapturedPacket, CaptureError, type CaptureInterface } from './model.ts';
import { PcapParser, pcapVariant } from './pcap.ts';
import { isPcapng, PcapngParser } from './pcapng.ts';

/** What each format provides. */
export interface FormatParser {
  readonly interfaces: readonly CaptureInterface[];
  /** A packet, `more` when the next thing is not complete, `again` when something other than a packet was read. */
  next(input: InputBuffer): CapturedPacket | 'more' | 'again';
  /** Names what the waiting bytes are the beginning of. */
  describeRest(): string;
}

/**
 * Incremental reader.
 *
 * ```ts
 * const reader = new CaptureReader();
 * for await (const chunk of stream) for (const packet of reader.push(chunk)) use(packet);
 * for (const packet of reader.finish()) use(packet);
 * if (reader.error) report(reader.error);
 * ```
 */
export class CaptureReader {
  readonly #input: InputBuffer = new InputBuffer();
  #parser: FormatParser | undefined;
  #error: CaptureError | undefined;

  /** What ended reading early; packets given before it are good. */
  get error(): CaptureError | undefined {
    return this.#error;
  }

  /** Interfaces met so far; of a pcapng file with several sections, those of the current one. */
  get interfaces(): readonly CaptureInterface[] {
    return this.#parser?.interfaces ?? [];
  }

  /** Packets that became complete with this chunk. After an error there are none any more. */
  *push(chunk: Uint8Array): Generator<CapturedPacket, void, undefined> {
    if (this.#error !== undefined) return;
    this.#input.append(chunk);
    yield* this.#drain();
  }

  /** Says that there are no more chunks: what still waits is an error. */
  *finish(): Generator<CapturedPacket, void, undefined> {
    if (this.#error !== undefined) return;
    yield* this.#drain();
    if (this.#error !== undefined) return;
    const waiting = this.#input.available;
    if (waiting === 0 && this.#parser !== undefined && this.#parser.interfaces.length > 0) return;
    if (waiting === 0 && this.#parser instanceof PcapngParser) return;
    this.#error = this.#truncated(waiting);
  }

  #truncated(waiting: number): CaptureError {
    const position = this.#input.position;
    if (position === 0 && waiting === 0) {
      return new CaptureError('CAPTURE_TRUNCATED', 0, 'the file is empty', 'give a pcap or pcapng file');
    }
    const what = this.#parser?.describeRest() ?? 'the file header';
    const reason = `the file ends ${waiting} bytes into ${what}`;
    return new CaptureError('CAPTURE_TRUNCATED', position, reason, 'what came before it was read');
  }

  *#drain(): Generator<CapturedPacket, void, undefined> {
    for (;;) {
      let result: CapturedPacket | 'more' | 'again';
      try {
        this.#parser ??= this.#recognize();
        if (this.#parser === undefined) return;
        result = this.#parser.next(this.#input);
      } catch (error) {
        if (!(error instanceof CaptureError)) throw error;
        this.#error = error;
        return;
      }
      if (result === 'more') return;
      if (result !== 'again') yield result;
    }
  }

  #recognize(): FormatParser | undefined {
    if (this.#input.available < 4) return undefined;
    const magic = this.#input.peek(4);
    if (isPcapng(magic)) return new PcapngParser();
    const variant = pcapVariant(magic);
    if (variant !== undefined) return new PcapParser(variant);
    const hint =
      magic[0] === 0x1f && magic[1] === 0x8b
        ? 'it is compressed with gzip: decompress it first'
        : 'give a pcap or pcapng file';
    throw new CaptureError('CAPTURE_FORMAT', 0, 'the file is no capture that is known', hint);
  }
}

/** A whole capture in memory: what was readable, and what ended it early. */
export interface CaptureContents {
  readonly packets: readonly CapturedPacket[];
  readonly interfaces: readonly CaptureInterface[];
  readonly error: CaptureError | undefined;
}

/** Reads a whole capture at once. */
export function readCapture(bytes: Uint8Array): CaptureContents {
  const reader = new CaptureReader();
  const packets = [...reader.push(bytes), ...reader.finish()];
  return { packets, interfaces: reader.interfaces, error: reader.error };
}
