/** `-m hashlimit`: net/netfilter/xt_hashlimit.c, revision 3. */
import { addressLength, maskOfLength } from '../../../net/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import {
  defineMatch,
  type MatchExtension,
  OptionError,
  type OptionSpec,
  shareMemory,
} from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { parsePrefixLength } from '../../text/host.ts';
import { checkProcName } from '../../text/proc-name.ts';
import { requireAll, requireOne } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { refuse } from '../../uapi/errno.ts';
import { type AbiForm, readText, writeText } from '../../uapi/payload.ts';
import {
  BYTE_EXPIRE_BURST_SEC,
  BYTE_EXPIRE_SEC,
  burstInCosts,
  costFitsKernel,
  formatByteRate,
  formatRate,
  parseBurst,
  parseRate,
  type Rate,
  rateFitsKernel,
} from '../hashlimit-rate.ts';
import { HashlimitTable } from '../hashlimit-table.ts';
import { addressOf, hasBytes, readUint16 } from '../header.ts';
import { skipExtensionHeaders } from '../ipv6-chain.ts';
import { jiffies } from '../jiffies.ts';

/** In the order of printing: XT_HASHLIMIT_HASH_SIP, SPT, DIP, DPT. */
const KEYS = ['srcip', 'srcport', 'dstip', 'dstport'] as const;

const DEFAULT_BURST = 5n;
const MAXIMUM_BURST = 1_000_000n;
const DEFAULT_GC_INTERVAL_MS = 1000;
/** NAME_MAX - 1 of struct xt_hashlimit_mtinfo3. */
const NAME_BYTES = 254;
/** HASHLIMIT_MAX_SIZE: larger tables become so large. */
const MAXIMUM_TABLE = 1_048_576;

/** XT_HASHLIMIT_* */
const Mode = {
  dstip: 0x01,
  dstport: 0x02,
  srcip: 0x04,
  srcport: 0x08,
  INVERT: 0x10,
  BYTES: 0x20,
  RATE_MATCH: 0x40,
} as const;

type RateOption = 'hashlimit-upto' | 'hashlimit-above';

interface HashlimitState {
  readonly given: Set<RateOption>;
  /** Matches what goes beyond the rate, else what keeps to it. */
  above: boolean;
  rate: Rate | undefined;
  /** Packets; for rates in bytes first bytes, then, once the rule is complete, costs; 0 for the default there. */
  burst: bigint | undefined;
  readonly keys: Set<(typeof KEYS)[number]>;
  sourceBits: number;
  destinationBits: number;
  name: string | undefined;
  /** 0: chosen by the kernel. */
  size: number;
  maximum: number;
  gcIntervalMs: number;
  expireMs: number | undefined;
  rateMatch: boolean;
  /** 0: not given. */
  rateIntervalSec: number;
}

function rateOption(
  name: RateOption,
  summary: string,
  aliases: readonly string[] = [],
): OptionSpec<HashlimitState> {
  return {
    name,
    aliases,
    arguments: 1,
    negatable: true,
    syntax: 'n[/second|/minute|/hour|/day] or n[k|m]b/s',
    summary,
    apply(state, [value], negated) {
      state.rate = parseRate(value!);
      state.given.add(name);
      // XT_HASHLIMIT_INVERT is set, never cleared.
      if ((name === 'hashlimit-above') !== negated) state.above = true;
    },
  };
}

function numberOption(
  name: string,
  syntax: string,
  summary: string,
  set: (state: HashlimitState, value: number) => void,
): OptionSpec<HashlimitState> {
  return {
    name,
    arguments: 1,
    syntax,
    summary,
    apply(state, [value]) {
      set(state, boundedNumber(value!, 0, UINT32_MAX));
    },
  };
}

/** Rates by the second of a match on the rate alone: the interval takes the place of the unit. */
function settleRateMatch(state: HashlimitState, rate: Rate): void {
  if (rate.unit === 'packets') rate.cost /= BigInt(rate.seconds);
  if (state.rateIntervalSec === 0) state.rateIntervalSec = rate.unit === 'bytes' ? 1 : rate.seconds;
}

function settleBurst(state: HashlimitState, rate: Rate): void {
  if (rate.unit === 'packets') {
    state.burst ??= DEFAULT_BURST;
    if (state.burst > MAXIMUM_BURST)
      throw new OptionError(`a burst has 1 to ${MAXIMUM_BURST} packets`, { argument: -1 });
    return;
  }
  if (state.burst !== undefined) {
    state.burst = burstInCosts(state.burst, rate.cost);
    state.expireMs ??= BYTE_EXPIRE_BURST_SEC * 1000;
  }
  state.burst ??= 0n;
}

function printTail(state: HashlimitState, allBits: number): string {
  let text = '';
  if (state.sourceBits !== allBits) text += ` --hashlimit-srcmask ${state.sourceBits}`;
  if (state.destinationBits !== allBits) text += ` --hashlimit-dstmask ${state.destinationBits}`;
  if (!state.rateMatch) return text;
  text += ' --hashlimit-rate-match';
  return state.rateIntervalSec === 1 ? text : `${text} --hashlimit-rate-interval ${state.rateIntervalSec}`;
}

/** Where four bytes of a header count as ports (proto_ports_offset): of AH it is the SPI. */
const PORTS_AT: ReadonlyMap<number, number> = new Map([
  [Protocol.TCP, 0],
  [Protocol.UDP, 0],
  [Protocol.UDPLITE, 0],
  [Protocol.SCTP, 0],
  [Protocol.DCCP, 0],
  [Protocol.ESP, 0],
  [Protocol.AH, 4],
]);

/** Ports of the packet, 0 where its protocol has none; `undefined` when they cannot be read. */
function portsOf(packet: EvaluationPacket): readonly [source: number, destination: number] | undefined {
  const transport =
    packet.family === 'ipv4'
      ? { protocol: packet.protocol, offset: packet.transportOffset }
      : skipExtensionHeaders(packet);
  if (transport === undefined) return undefined;
  const at = PORTS_AT.get(transport.protocol);
  if (at === undefined) return [0, 0];
  const start = transport.offset + at;
  return hasBytes(packet, start, 4) ? [readUint16(packet, start), readUint16(packet, start + 2)] : undefined;
}

/** What has a rate of its own (hashlimit_init_dst); `undefined` when the ports cannot be read. */
function bucketKey(state: HashlimitState, packet: EvaluationPacket): string | undefined {
  const { keys } = state;
  const words: string[] = [];
  const masked = (side: 'source' | 'destination', bits: number): string => {
    const mask = maskOfLength(packet.family, bits);
    return addressOf(packet, side)
      .map((byte, index) => byte & mask[index]!)
      .join('.');
  };
  if (keys.has('srcip')) words.push(masked('source', state.sourceBits));
  if (keys.has('dstip')) words.push(masked('destination', state.destinationBits));
  if (!keys.has('srcport') && !keys.has('dstport')) return words.join(' ');
  const ports = portsOf(packet);
  if (ports === undefined) return undefined;
  if (keys.has('srcport')) words.push(String(ports[0]));
  if (keys.has('dstport')) words.push(String(ports[1]));
  return words.join(' ');
}

/** struct xt_hashlimit_mtinfo1, 2 and 3: where their fields stand, and how many bytes the name, a cost and a burst have. */
const LAYOUTS = {
  1: {
    size: 56,
    userSize: 48,
    name: 16,
    mode: 16,
    cost: 20,
    burst: 24,
    sizes: 28,
    interval: undefined,
    masks: 44,
  },
  2: {
    size: 304,
    userSize: 296,
    name: 255,
    mode: 272,
    cost: 256,
    burst: 264,
    sizes: 276,
    interval: undefined,
    masks: 292,
  },
  3: {
    size: 312,
    userSize: 304,
    name: 255,
    mode: 272,
    cost: 256,
    burst: 264,
    sizes: 276,
    interval: 292,
    masks: 296,
  },
} as const;
/** Costs of packets are in ten-thousandths of a second in the first of them: XT_HASHLIMIT_SCALE, XT_HASHLIMIT_SCALE_v2. */
const FINER = 100n;

function form(revision: keyof typeof LAYOUTS): AbiForm<HashlimitState> {
  const at = LAYOUTS[revision];
  const scale = (unit: Rate['unit']): bigint => (revision === 1 && unit === 'packets' ? FINER : 1n);
  const read = (view: DataView, offset: number): bigint =>
    revision === 1 ? BigInt(view.getUint32(offset, true)) : view.getBigUint64(offset, true);
  const write = (view: DataView, offset: number, value: bigint): void => {
    if (revision === 1) view.setUint32(offset, Number(BigInt.asUintN(32, value)), true);
    else view.setBigUint64(offset, value, true);
  };
  return {
    name: 'hashlimit',
    revision,
    size: at.size,
    userSize: at.userSize,
    decode(view, { family }) {
      const mode = view.getUint32(at.mode, true);
      const known = at.interval === undefined ? Mode.RATE_MATCH : 2 * Mode.RATE_MATCH;
      if (mode >= known) refuse('hashlimit has unknown flags');
      const rateMatch = (mode & Mode.RATE_MATCH) !== 0;
      const above = (mode & Mode.INVERT) !== 0;
      const [sourceBits, destinationBits] = [view.getUint8(at.masks), view.getUint8(at.masks + 1)];
      const most = addressLength(family) * 8;
      if (sourceBits > most || destinationBits > most) refuse('a mask of hashlimit is too long');
      const unit = (mode & Mode.BYTES) === 0 ? 'packets' : 'bytes';
      return {
        given: new Set([above ? 'hashlimit-above' : 'hashlimit-upto'] as const),
        above,
        rate: { unit, cost: read(view, at.cost) * scale(unit), seconds: 1 },
        burst: read(view, at.burst),
        keys: new Set(KEYS.filter((key) => (mode & Mode[key]) !== 0)),
        sourceBits,
        destinationBits,
        name: readText(view, 0, at.name),
        size: view.getUint32(at.sizes, true),
        maximum: view.getUint32(at.sizes + 4, true),
        gcIntervalMs: view.getUint32(at.sizes + 8, true),
        expireMs: view.getUint32(at.sizes + 12, true),
        rateMatch,
        rateIntervalSec: at.interval === undefined ? 0 : view.getUint32(at.interval, true),
      };
    },
    encode(state, view) {
      const rate = state.rate!;
      let mode = rate.unit === 'bytes' ? Mode.BYTES : 0;
      if (state.above) mode |= Mode.INVERT;
      if (state.rateMatch) mode |= Mode.RATE_MATCH;
      for (const key of state.keys) mode |= Mode[key];
      writeText(view, 0, at.name, state.name!);
      write(view, at.cost, rate.cost / scale(rate.unit));
      write(view, at.burst, state.burst!);
      view.setUint32(at.mode, mode, true);
      view.setUint32(at.sizes, state.size, true);
      view.setUint32(at.sizes + 4, state.maximum, true);
      view.setUint32(at.sizes + 8, state.gcIntervalMs, true);
      view.setUint32(at.sizes + 12, state.expireMs!, true);
      if (at.interval !== undefined) view.setUint32(at.interval, state.rateIntervalSec, true);
      view.setUint8(at.masks, state.sourceBits);
      view.setUint8(at.masks + 1, state.destinationBits);
    },
  };
}

export const hashlimit: MatchExtension = defineMatch<HashlimitState>({
  name: 'hashlimit',
  families: ['ipv4', 'ipv6'],
  summary: 'Rate of packets or bytes, for each host, network or port on its own',
  options: [
    rateOption('hashlimit-upto', 'Matches while the rate is kept', ['hashlimit']),
    rateOption('hashlimit-above', 'Matches what goes beyond the rate'),
    {
      name: 'hashlimit-burst',
      arguments: 1,
      syntax: 'n[k|m][b]',
      summary: 'How much may come at once; 5 packets when not given',
      apply(state, [value]) {
        state.burst = parseBurst(value!, MAXIMUM_BURST);
      },
    },
    {
      name: 'hashlimit-mode',
      arguments: 1,
      syntax: 'srcip|srcport|dstip|dstport[,…]',
      summary: 'What has a rate of its own; one rate for all when not given',
      apply(state, [value]) {
        for (const word of value!.split(/[,|]/)) {
          const key = KEYS.find((known) => known === word);
          if (key !== undefined) state.keys.add(key);
          else if (word !== '')
            throw new OptionError(`"${word}" cannot have a rate of its own`, {
              hint: `write some of ${KEYS.join(', ')}`,
            });
        }
      },
    },
    {
      name: 'hashlimit-srcmask',
      arguments: 1,
      syntax: 'prefix length',
      summary: 'Source addresses count together under this prefix',
      apply(state, [value], _negated, { family }) {
        state.sourceBits = parsePrefixLength(value!, family);
      },
    },
    {
      name: 'hashlimit-dstmask',
      arguments: 1,
      syntax: 'prefix length',
      summary: 'Destination addresses count together under this prefix',
      apply(state, [value], _negated, { family }) {
        state.destinationBits = parsePrefixLength(value!, family);
      },
    },
    {
      name: 'hashlimit-name',
      arguments: 1,
      syntax: 'name',
      summary: 'The table of rates; rules with the same name share it',
      apply(state, [value]) {
        if (value === '') throw new OptionError('the name is empty');
        state.name = cutToBytes(value!, NAME_BYTES);
      },
    },
    numberOption('hashlimit-htable-size', 'buckets', 'Buckets of the table', (state, value) => {
      state.size = Math.min(value, MAXIMUM_TABLE);
    }),
    numberOption('hashlimit-htable-max', 'entries', 'Most entries of the table', (state, value) => {
      state.maximum = Math.min(value, MAXIMUM_TABLE);
    }),
    numberOption(
      'hashlimit-htable-gcinterval',
      'ms',
      'How often old entries are looked for',
      (state, value) => {
        state.gcIntervalMs = value;
      },
    ),
    numberOption('hashlimit-htable-expire', 'ms', 'How long an idle entry is kept', (state, value) => {
      state.expireMs = value;
    }),
    {
      name: 'hashlimit-rate-match',
      arguments: 0,
      summary: 'Matches on the rate as measured, without limiting it',
      apply(state) {
        state.rateMatch = true;
      },
    },
    {
      name: 'hashlimit-rate-interval',
      arguments: 1,
      syntax: 'seconds',
      summary: 'How long the rate is measured (with --hashlimit-rate-match)',
      apply(state, [value]) {
        state.rateIntervalSec = boundedNumber(value!, 1, 0x7fff_ffff);
      },
    },
  ],
  initial: ({ family }) => ({
    given: new Set(),
    above: false,
    rate: undefined,
    burst: undefined,
    keys: new Set(),
    sourceBits: addressLength(family) * 8,
    destinationBits: addressLength(family) * 8,
    name: undefined,
    size: 0,
    maximum: 0,
    gcIntervalMs: DEFAULT_GC_INTERVAL_MS,
    expireMs: undefined,
    rateMatch: false,
    rateIntervalSec: 0,
  }),
  finish(state) {
    requireOne('hashlimit', {
      'hashlimit-upto': state.given.has('hashlimit-upto'),
      'hashlimit-above': state.given.has('hashlimit-above'),
    });
    requireAll('hashlimit', { 'hashlimit-name': state.name !== undefined });
    const rate = state.rate!;
    settleBurst(state, rate);
    state.expireMs ??= (rate.unit === 'bytes' ? BYTE_EXPIRE_SEC : rate.seconds) * 1000;
    if (state.rateMatch) settleRateMatch(state, rate);
  },
  admit(state) {
    const refuse = (message: string): never => {
      throw new OptionError(message, { argument: -1 });
    };
    if (state.gcIntervalMs === 0) refuse('--hashlimit-htable-gcinterval is at least 1');
    if (state.expireMs === 0) refuse('--hashlimit-htable-expire is at least 1');
    if (state.sourceBits < 0 || state.destinationBits < 0) refuse('the mask is not contiguous');
    checkProcName(state.name!);
    const { unit, cost } = state.rate!;
    if (state.rateMatch ? !rateFitsKernel(cost) : !costFitsKernel(unit, cost, state.burst!))
      refuse('the kernel cannot count this rate and burst');
  },
  print(state, { family }) {
    const rate = state.rate!;
    let text = ` --hashlimit-${state.above ? 'above' : 'upto'}`;
    let usualExpireMs: number;
    if (rate.unit === 'bytes') {
      const { rateText, burstText } = formatByteRate(rate.cost, state.burst!);
      text += ` ${rateText}${burstText === undefined ? '' : ` --hashlimit-burst ${burstText}`}`;
      usualExpireMs = (burstText === undefined ? BYTE_EXPIRE_SEC : BYTE_EXPIRE_BURST_SEC) * 1000;
    } else {
      const { rateText, seconds } = formatRate(rate.cost);
      text += ` ${rateText} --hashlimit-burst ${state.burst}`;
      usualExpireMs = seconds * 1000;
    }
    const keys = KEYS.filter((key) => state.keys.has(key));
    if (keys.length > 0) text += ` --hashlimit-mode ${keys.join(',')}`;
    text += ` --hashlimit-name ${state.name}`;
    if (state.size !== 0) text += ` --hashlimit-htable-size ${state.size}`;
    if (state.maximum !== 0) text += ` --hashlimit-htable-max ${state.maximum}`;
    if (state.gcIntervalMs !== DEFAULT_GC_INTERVAL_MS)
      text += ` --hashlimit-htable-gcinterval ${state.gcIntervalMs}`;
    if (state.expireMs !== usualExpireMs) text += ` --hashlimit-htable-expire ${state.expireMs}`;
    return text + printTail(state, addressLength(family) * 8);
  },
  abi: [form(3), form(2), form(1)],
  // A program has no table of buckets that are made, filled up and forgotten like these.
  semantics: {
    memory: (state, nowMs, shared) =>
      shareMemory(shared, `hashlimit ${state.name}`, () => {
        const { unit, cost } = state.rate!;
        const settings = { ...state, unit, cost, burst: state.burst!, expireMs: state.expireMs! };
        return new HashlimitTable(settings, jiffies(nowMs));
      }),
    evaluate(state, packet, memory) {
      const key = bucketKey(state, packet);
      const now = jiffies(packet.world.nowMs());
      const within = key === undefined ? undefined : (memory as HashlimitTable).take(key, packet.length, now);
      return within === undefined ? 'hotdrop' : within !== state.above;
    },
    explain: (state) =>
      `its part of ${state.name} ${state.above ? 'keeps to the rate' : 'goes beyond the rate'}`,
  },
});
