/** `-m sctp`: net/netfilter/xt_sctp.c. Unlike tcp, ports that were given are printed and compared even when they are all. */
import type { Predicate } from '../../../ir/index.ts';
import { ALL_PORTS, type PortRange } from '../../../net/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, type MatchOutcome, OptionError } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { formatPortRange, parsePortRange } from '../../names/services.ts';
import { didYouMean } from '../../suggestion.ts';
import { refuse, unwritten } from '../../uapi/errno.ts';
import { writeBytes } from '../../uapi/payload.ts';
import { fieldIn, hasBytes, inRange, readUint16 } from '../header.ts';
import { listSide } from '../ports.ts';

type ChunkMatch = 'all' | 'any' | 'only';

interface ChunkFlags {
  readonly chunk: number;
  readonly mask: number;
  readonly value: number;
}

interface Chunks {
  readonly match: ChunkMatch;
  readonly types: ReadonlySet<number>;
  readonly flags: readonly ChunkFlags[];
  readonly negate: boolean;
}

interface Ports {
  readonly range: PortRange;
  readonly negate: boolean;
}

interface SctpState {
  source: Ports | undefined;
  destination: Ports | undefined;
  chunks: Chunks | undefined;
}

const HEADER_BYTES = 12;
const CHUNK_HEAD_BYTES = 4;
const CHUNK_TYPES = 256;
const I_DATA = 64;
/** XT_NUM_SCTP_FLAGS. */
const MAXIMUM_FLAGS = 4;

/** Chunk name, type, and the letters of its flags from bit 7 to bit 0, "-" where a bit has none. */
const CHUNKS: readonly (readonly [name: string, type: number, flags: string])[] = [
  ['DATA', 0, '----IUBE'],
  ['INIT', 1, '--------'],
  ['INIT_ACK', 2, '--------'],
  ['SACK', 3, '--------'],
  ['HEARTBEAT', 4, '--------'],
  ['HEARTBEAT_ACK', 5, '--------'],
  ['ABORT', 6, '-------T'],
  ['SHUTDOWN', 7, '--------'],
  ['SHUTDOWN_ACK', 8, '--------'],
  ['ERROR', 9, '--------'],
  ['COOKIE_ECHO', 10, '--------'],
  ['COOKIE_ACK', 11, '--------'],
  ['ECN_ECNE', 12, '--------'],
  ['ECN_CWR', 13, '--------'],
  ['SHUTDOWN_COMPLETE', 14, '-------T'],
  ['I_DATA', I_DATA, '----IUBE'],
  ['RE_CONFIG', 130, '--------'],
  ['PAD', 132, '--------'],
  ['ASCONF', 193, '--------'],
  ['ASCONF_ACK', 128, '--------'],
  ['FORWARD_TSN', 192, '--------'],
  ['I_FORWARD_TSN', 194, '--------'],
];

function parseFlags(chunk: (typeof CHUNKS)[number], letters: string): ChunkFlags {
  const [name, type, valid] = chunk;
  let mask = 0;
  let value = 0;
  for (const letter of letters) {
    const place = letter === '-' ? -1 : valid.indexOf(letter.toUpperCase());
    if (place < 0) {
      const known = valid.replaceAll('-', '');
      throw new OptionError(`chunk ${name} has no flag "${letter}"`, {
        argument: 1,
        hint: known === '' ? 'it has no flags at all' : `its flags are ${known}; lower case means not set`,
      });
    }
    mask |= 0x80 >> place;
    if (letter === letter.toUpperCase()) value |= 0x80 >> place;
  }
  return { chunk: type, mask, value };
}

function parseChunks(matchText: string, text: string, negate: boolean): Chunks {
  const match = matchText.toLowerCase();
  if (match !== 'all' && match !== 'any' && match !== 'only')
    throw new OptionError(`"${matchText}" is not all, any or only`);
  const types = new Set<number>();
  const flags: ChunkFlags[] = [];
  for (const part of text.split(',')) {
    if (part === '') continue;
    if (part.toUpperCase() === 'ALL') {
      for (let type = 0; type < CHUNK_TYPES; type++) types.add(type);
      continue;
    }
    if (part.toUpperCase() === 'NONE') {
      types.clear();
      continue;
    }
    const colon = part.indexOf(':');
    const name = (colon < 0 ? part : part.slice(0, colon)).toUpperCase();
    const chunk = CHUNKS.find(([known]) => known === name);
    if (chunk === undefined) {
      const hint = didYouMean(
        name,
        CHUNKS.map(([known]) => known),
      );
      throw new OptionError(`unknown SCTP chunk "${part}"`, {
        argument: 1,
        ...(hint === undefined ? {} : { hint }),
      });
    }
    types.add(chunk[1]);
    if (colon < 0 || colon + 1 === part.length) continue;
    const wanted = parseFlags(chunk, part.slice(colon + 1));
    // libxt_sctp hands flags of I_DATA to the kernel under a number no chunk has: they have no effect.
    if (wanted.chunk !== I_DATA) flags.push(wanted);
  }
  if (flags.length > MAXIMUM_FLAGS)
    throw new OptionError(`flags of at most ${MAXIMUM_FLAGS} chunks fit`, { argument: 1 });
  return { match, types, flags, negate };
}

function formatChunk([name, type, letters]: (typeof CHUNKS)[number], flags: readonly ChunkFlags[]): string {
  const wanted = flags.find(({ chunk }) => chunk === type);
  if (wanted === undefined) return name;
  let text = `${name}:`;
  for (let place = 0; place < 8; place++) {
    const bit = 0x80 >> place;
    if ((wanted.mask & bit) === 0) continue;
    text += (wanted.value & bit) !== 0 ? letters[place]! : letters[place]!.toLowerCase();
  }
  return text;
}

function formatChunks({ match, types, flags }: Chunks): string {
  if (types.size === CHUNK_TYPES) return `${match} ALL`;
  if (types.size === 0) return `${match} NONE`;
  const known = [...CHUNKS].sort((a, b) => a[1] - b[1]).filter(([, type]) => types.has(type));
  return `${match} ${known.map((chunk) => formatChunk(chunk, flags)).join(',')}`;
}

/** The chunks by number, as `iptables -L -n` shows them. */
function listChunks(chunks: Chunks): string {
  const numbers = new Map(
    CHUNKS.map(([name, type]) => [name, `0x${type.toString(16).toUpperCase().padStart(4, '0')}`]),
  );
  return formatChunks(chunks).replaceAll(/[A-Z_]+/g, (word) => numbers.get(word) ?? word);
}

/** match_packet: walks the chunks that follow the common header. */
function chunksMatch({ match, types, flags }: Chunks, packet: EvaluationPacket): MatchOutcome {
  const left = new Set(types);
  const flagsHold = (type: number, byte: number): boolean => {
    const wanted = flags.find(({ chunk }) => chunk === type);
    return wanted === undefined || (byte & wanted.mask) === wanted.value;
  };
  let offset = packet.transportOffset + HEADER_BYTES;
  do {
    if (!hasBytes(packet, offset, CHUNK_HEAD_BYTES)) return 'hotdrop';
    const type = packet.bytes[offset]!;
    const length = readUint16(packet, offset + 2);
    if (length === 0) return 'hotdrop';
    const holds = types.has(type) && flagsHold(type, packet.bytes[offset + 1]!);
    if (match === 'any' && holds) return true;
    if (match === 'all' && holds) left.delete(type);
    if (match === 'only' && !holds) return false;
    offset += (length + 3) & ~3;
  } while (offset < packet.bytes.length);
  return match === 'only' || (match === 'all' && left.size === 0);
}

/** XT_SCTP_*: the same bits in flags and invflags. */
const SctpFlag = { SOURCE_PORTS: 1, DESTINATION_PORTS: 2, CHUNK_TYPES: 4, ALL: 7 } as const;
/** SCTP_CHUNK_MATCH_*, numbered from 1. */
const CHUNK_MATCHES = ['any', 'all', 'only'] as const;

function decodeChunks(view: DataView, invert: number): Chunks {
  const match = CHUNK_MATCHES[[1, 2, 4].indexOf(view.getUint32(264, true))];
  if ((view.getUint32(264, true) & 7) === 0) refuse('sctp has an unknown way to match chunks');
  const types = new Set<number>();
  for (let type = 0; type < CHUNK_TYPES; type++)
    if (((view.getUint32(8 + 4 * (type >> 5), true) >>> (type & 31)) & 1) !== 0) types.add(type);
  const count = view.getInt32(280, true);
  if (count < 0 || count > MAXIMUM_FLAGS) refuse('sctp has flags of too many chunks');
  if (match === undefined) unwritten('sctp matches chunks in several ways');
  const flags: ChunkFlags[] = [];
  for (let index = 0; index < count; index++)
    flags.push({
      chunk: view.getUint8(268 + 3 * index),
      value: view.getUint8(269 + 3 * index),
      mask: view.getUint8(270 + 3 * index),
    });
  return { match, types, flags, negate: (invert & SctpFlag.CHUNK_TYPES) !== 0 };
}

function encodeChunks(view: DataView, { match, types, flags }: Chunks): void {
  // The map has a whole word for every four types, of which the first eight are used; "ALL" fills the rest, too.
  if (types.size === CHUNK_TYPES) writeBytes(view, 8, new Uint8Array(CHUNK_TYPES).fill(0xff));
  for (const type of types) {
    const offset = 8 + 4 * (type >> 5);
    view.setUint32(offset, (view.getUint32(offset, true) | (1 << (type & 31))) >>> 0, true);
  }
  view.setUint32(264, 1 << CHUNK_MATCHES.indexOf(match), true);
  for (const [index, { chunk, value, mask }] of flags.entries()) {
    view.setUint8(268 + 3 * index, chunk);
    view.setUint8(269 + 3 * index, value);
    view.setUint8(270 + 3 * index, mask);
  }
  view.setInt32(280, flags.length, true);
}

function portsHold(ports: Ports | undefined, port: number): boolean {
  return ports === undefined || inRange(port, ports.range, ports.negate);
}

function evaluate(state: SctpState, packet: EvaluationPacket): MatchOutcome {
  if (packet.fragmentOffset !== 0) return false;
  const offset = packet.transportOffset;
  if (!hasBytes(packet, offset, HEADER_BYTES)) return 'hotdrop';
  if (!portsHold(state.source, readUint16(packet, offset))) return false;
  if (!portsHold(state.destination, readUint16(packet, offset + 2))) return false;
  if (state.chunks === undefined) return true;
  const outcome = chunksMatch(state.chunks, packet);
  // The kernel turns the outcome round even when it has just given up on the packet.
  if (outcome === 'hotdrop') return state.chunks.negate ? 'counted-hotdrop' : 'hotdrop';
  return outcome !== state.chunks.negate;
}

function lower(state: SctpState): Predicate[] {
  const predicates: Predicate[] = [
    { kind: 'transport', minimumBytes: HEADER_BYTES, dropOffsetOne: false, onShort: 'hotdrop' },
  ];
  for (const [field, ports] of [
    ['l4.sourcePort', state.source],
    ['l4.destinationPort', state.destination],
  ] as const) {
    if (ports !== undefined)
      predicates.push(fieldIn(field, [[ports.range.min, ports.range.max]], ports.negate));
  }
  if (state.chunks !== undefined) {
    const chunkMap = new Uint8Array(CHUNK_TYPES / 8);
    for (const type of state.chunks.types) chunkMap[type >> 3]! |= 1 << (type & 7);
    const { match, flags, negate } = state.chunks;
    predicates.push({ kind: 'sctp-chunks', match, chunkMap, flags, negate });
  }
  return predicates;
}

function printPorts(option: string, ports: Ports | undefined): string {
  return ports === undefined ? '' : `${ports.negate ? ' !' : ''} --${option} ${formatPortRange(ports.range)}`;
}

export const sctp: MatchExtension = defineMatch<SctpState>({
  name: 'sctp',
  families: ['ipv4', 'ipv6'],
  summary: 'Ports and chunks of SCTP; never matches later fragments',
  where: { protocols: [Protocol.SCTP] },
  options: [
    {
      name: 'source-port',
      aliases: ['sport'],
      arguments: 1,
      negatable: true,
      syntax: 'port[:port]',
      summary: 'Source port or range',
      apply(state, [value], negate) {
        state.source = { range: parsePortRange(value!, 'sctp'), negate };
      },
    },
    {
      name: 'destination-port',
      aliases: ['dport'],
      arguments: 1,
      negatable: true,
      syntax: 'port[:port]',
      summary: 'Destination port or range',
      apply(state, [value], negate) {
        state.destination = { range: parsePortRange(value!, 'sctp'), negate };
      },
    },
    {
      name: 'chunk-types',
      arguments: 2,
      negatable: true,
      syntax: 'all|any|only chunk[:flags][,…]',
      summary:
        'All, any or only these chunks are in the packet; flags in upper case are set, in lower case not',
      apply(state, [match, chunks], negate) {
        state.chunks = parseChunks(match!, chunks!, negate);
      },
    },
  ],
  initial: () => ({ source: undefined, destination: undefined, chunks: undefined }),
  list({ source, destination, chunks }) {
    const ports = (name: string, wanted: Ports | undefined): string =>
      wanted === undefined ? '' : listSide(name, wanted.range, wanted.negate);
    const types = chunks === undefined ? '' : `${chunks.negate ? ' !' : ''} ${listChunks(chunks)}`;
    return ` sctp${ports('spt', source)}${ports('dpt', destination)}${types}`;
  },
  print(state) {
    const chunks = state.chunks;
    const printed =
      chunks === undefined ? '' : `${chunks.negate ? ' !' : ''} --chunk-types ${formatChunks(chunks)}`;
    return printPorts('sport', state.source) + printPorts('dport', state.destination) + printed;
  },
  // struct xt_sctp_info
  abi: [
    {
      name: 'sctp',
      revision: 0,
      size: 292,
      decode(view) {
        const flags = view.getUint32(284, true);
        const invert = view.getUint32(288, true);
        if ((flags & ~SctpFlag.ALL) !== 0 || (invert & ~flags) !== 0) refuse('sctp has unknown flags');
        const ports = (flag: number, offset: number): Ports | undefined =>
          (flags & flag) === 0
            ? undefined
            : {
                range: { min: view.getUint16(offset, true), max: view.getUint16(offset + 2, true) },
                negate: (invert & flag) !== 0,
              };
        return {
          source: ports(SctpFlag.SOURCE_PORTS, 4),
          destination: ports(SctpFlag.DESTINATION_PORTS, 0),
          chunks: (flags & SctpFlag.CHUNK_TYPES) === 0 ? undefined : decodeChunks(view, invert),
        };
      },
      encode(state, view) {
        let flags = 0;
        let invert = 0;
        const set = (flag: number, negate: boolean): void => {
          flags |= flag;
          if (negate) invert |= flag;
        };
        // Ports that were not asked for, and flags that no chunk uses, stand as libxt_sctp leaves them.
        for (let index = 0; index < MAXIMUM_FLAGS; index++) view.setUint8(268 + 3 * index, 0xff);
        for (const [ports, flag, offset] of [
          [state.source, SctpFlag.SOURCE_PORTS, 4],
          [state.destination, SctpFlag.DESTINATION_PORTS, 0],
        ] as const) {
          if (ports === undefined) continue;
          view.setUint16(offset, ports.range.min, true);
          view.setUint16(offset + 2, ports.range.max, true);
          set(flag, ports.negate);
        }
        if (state.chunks !== undefined) {
          encodeChunks(view, state.chunks);
          set(SctpFlag.CHUNK_TYPES, state.chunks.negate);
        }
        view.setUint32(284, flags, true);
        view.setUint32(288, invert, true);
      },
    },
  ],
  semantics: {
    evaluate,
    lower,
    explain(state, packet) {
      if (packet.fragmentOffset !== 0) return 'a later fragment has no SCTP header';
      const offset = packet.transportOffset;
      if (!hasBytes(packet, offset, HEADER_BYTES)) return 'the SCTP header is cut short';
      for (const [name, ports, at] of [
        ['sport', state.source, offset],
        ['dport', state.destination, offset + 2],
      ] as const) {
        const port = readUint16(packet, at);
        if (!portsHold(ports, port))
          return `${name} ${port} is ${ports!.negate ? '' : 'not '}${formatPortRange(ports!.range ?? ALL_PORTS)}`;
      }
      return `the chunks are ${state.chunks!.negate ? '' : 'not '}${formatChunks(state.chunks!)}`;
    },
  },
});
