/** `-m srh`: net/ipv6/netfilter/ip6t_srh.c, revision 1; RFC 8754. */
import { formatAddressBytes, lengthOfMask } from '../../../net/index.ts';
import { defineMatch, type MatchExtension, type OptionSpec } from '../../extension.ts';
import { boundedNumber } from '../../text/bounded.ts';
import { type HostMask, parseHostMask } from '../../text/host.ts';
import { refuse } from '../../uapi/errno.ts';
import { type AbiForm, readBytes, writeBytes } from '../../uapi/payload.ts';

/** Fields of the header; conditions on the same field have one value between them, as in struct ip6t_srh. */
type Field = 'nextHeader' | 'headerLength' | 'segmentsLeft' | 'lastEntry' | 'tag';
type Segment = 'srh-psid' | 'srh-nsid' | 'srh-lsid';

interface SrhState {
  readonly values: Record<Field, number>;
  /** Options that were given, and whether they are negated. */
  readonly conditions: Map<string, boolean>;
  readonly segments: Map<Segment, HostMask>;
}

/** In the order of printing. */
const NUMBERS: readonly (readonly [option: string, field: Field, max: number, summary: string])[] = [
  ['srh-next-hdr', 'nextHeader', 0xff, 'Next header'],
  ['srh-hdr-len-eq', 'headerLength', 0xff, 'Length of the header equals the number'],
  ['srh-hdr-len-gt', 'headerLength', 0xff, 'Length of the header is greater'],
  ['srh-hdr-len-lt', 'headerLength', 0xff, 'Length of the header is less'],
  ['srh-segs-left-eq', 'segmentsLeft', 0xff, 'Segments left equal the number'],
  ['srh-segs-left-gt', 'segmentsLeft', 0xff, 'Segments left are more'],
  ['srh-segs-left-lt', 'segmentsLeft', 0xff, 'Segments left are less'],
  ['srh-last-entry-eq', 'lastEntry', 0xff, 'Last entry equals the number'],
  ['srh-last-entry-gt', 'lastEntry', 0xff, 'Last entry is greater'],
  ['srh-last-entry-lt', 'lastEntry', 0xff, 'Last entry is less'],
  ['srh-tag', 'tag', 0xffff, 'Tag'],
];

const SEGMENTS: readonly (readonly [option: Segment, summary: string])[] = [
  ['srh-psid', 'The segment before the active one'],
  ['srh-nsid', 'The segment after the active one'],
  ['srh-lsid', 'The last segment'],
];

/** Of each field: struct ip6t_srh1, which begins as struct ip6t_srh does. */
const FIELDS: readonly (readonly [field: Field, at: number])[] = [
  ['nextHeader', 0],
  ['headerLength', 1],
  ['segmentsLeft', 2],
  ['lastEntry', 3],
];
const TAG_AT = 4;
const SEGMENTS_AT = 8;
const ADDRESS_BYTES = 16;
/** IP6T_SRH_*, a bit each in this order. */
const CONDITIONS: readonly string[] = [...NUMBERS, ...SEGMENTS].map(([option]) => option);

/** A revision whose flags and inverted flags stand at `flagsAt`; without segments in the first one. */
function form(revision: number, size: number, flagsAt: number, segments: typeof SEGMENTS): AbiForm<SrhState> {
  const masksAt = SEGMENTS_AT + SEGMENTS.length * ADDRESS_BYTES;
  return {
    name: 'srh',
    revision,
    size,
    decode(view) {
      const [flags, invert] = [view.getUint16(flagsAt, true), view.getUint16(flagsAt + 2, true)];
      const known = 2 ** CONDITIONS.length - 1;
      if (((flags | invert) & ~known) !== 0) refuse('srh has unknown flags');
      const values = { nextHeader: 0, headerLength: 0, segmentsLeft: 0, lastEntry: 0, tag: 0 };
      for (const [field, at] of FIELDS) values[field] = view.getUint8(at);
      values.tag = view.getUint16(TAG_AT, true);
      const conditions = new Map<string, boolean>();
      for (const [bit, option] of CONDITIONS.entries())
        if ((flags & (1 << bit)) !== 0) conditions.set(option, (invert & (1 << bit)) !== 0);
      const given = new Map<Segment, HostMask>();
      for (const [index, [option]] of segments.entries()) {
        const at = index * ADDRESS_BYTES;
        if (conditions.has(option))
          given.set(option, {
            address: readBytes(view, SEGMENTS_AT + at, ADDRESS_BYTES),
            mask: readBytes(view, masksAt + at, ADDRESS_BYTES),
          });
      }
      return { values, conditions, segments: given };
    },
    encode({ values, conditions, segments: given }, view) {
      for (const [field, at] of FIELDS) view.setUint8(at, values[field]);
      view.setUint16(TAG_AT, values.tag, true);
      let [flags, invert] = [0, 0];
      for (const [bit, option] of CONDITIONS.entries()) {
        if (conditions.has(option)) flags |= 1 << bit;
        if (conditions.get(option) === true) invert |= 1 << bit;
      }
      for (const [index, [option]] of segments.entries()) {
        const segment = given.get(option);
        if (segment === undefined) continue;
        writeBytes(view, SEGMENTS_AT + index * ADDRESS_BYTES, segment.address);
        writeBytes(view, masksAt + index * ADDRESS_BYTES, segment.mask);
      }
      view.setUint16(flagsAt, flags, true);
      view.setUint16(flagsAt + 2, invert, true);
    },
  };
}

export const srh: MatchExtension = defineMatch<SrhState>({
  name: 'srh',
  families: ['ipv6'],
  summary: 'Fields of the segment routing header',
  options: [
    ...NUMBERS.map(
      ([option, field, max, summary]): OptionSpec<SrhState> => ({
        name: option,
        arguments: 1,
        negatable: true,
        syntax: 'number',
        summary,
        apply(state, [value], negated) {
          state.values[field] = boundedNumber(value!, 0, max);
          state.conditions.set(option, negated);
        },
      }),
    ),
    ...SEGMENTS.map(
      ([option, summary]): OptionSpec<SrhState> => ({
        name: option,
        arguments: 1,
        negatable: true,
        syntax: 'address[/mask]',
        summary,
        apply(state, [value], negated, { family }) {
          state.segments.set(option, parseHostMask(value!, family));
          state.conditions.set(option, negated);
        },
      }),
    ),
  ],
  initial: () => ({
    values: { nextHeader: 0, headerLength: 0, segmentsLeft: 0, lastEntry: 0, tag: 0 },
    conditions: new Map(),
    segments: new Map(),
  }),
  print({ values, conditions, segments }) {
    let text = '';
    const add = (option: string, value: string): void => {
      const negated = conditions.get(option);
      if (negated !== undefined) text += `${negated ? ' !' : ''} --${option} ${value}`;
    };
    for (const [option, field] of NUMBERS) add(option, `${values[field]}`);
    for (const [option] of SEGMENTS) {
      const segment = segments.get(option);
      if (segment !== undefined)
        add(option, `${formatAddressBytes(segment.address)}/${lengthOfMask(segment.mask)}`);
    }
    return text;
  },
  abi: [form(1, 108, 104, SEGMENTS), form(0, 10, 6, [])],
});
