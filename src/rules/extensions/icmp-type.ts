/** `--icmp-type` and `--icmpv6-type`: names or numbers with a range of codes (libxt_icmp.h of iptables; xt_tcpudp.c type_code_in_range). */
import type { Predicate } from '../../ir/index.ts';
import type { EvaluationPacket } from '../evaluate/packet.ts';
import { type MatchOutcome, OptionError } from '../extension.ts';
import type { NamedType } from '../names/icmp-types.ts';
import { didYouMean } from '../suggestion.ts';
import { boundedNumber } from '../text/bounded.ts';
import { splitNumber } from '../text/number.ts';
import { type AbiForm, readFlags } from '../uapi/payload.ts';
import { fieldIn, fieldIs, hasBytes, inRange } from './header.ts';

export interface IcmpTypeState {
  /** -1 until the option was seen. */
  type: number;
  codeMin: number;
  codeMax: number;
  negate: boolean;
}

const HEADER_BYTES = 8;

export function noIcmpType(): IcmpTypeState {
  return { type: -1, codeMin: 0, codeMax: 255, negate: false };
}

/** The whole of iptables' parse_icmp: an unambiguous beginning of a name, or `type[/code]`. @throws {OptionError} */
export function setIcmpType(
  state: IcmpTypeState,
  text: string,
  negate: boolean,
  names: readonly NamedType[],
): void {
  const lower = text.toLowerCase();
  const fitting = names.filter(([name]) => name.toLowerCase().startsWith(lower));
  if (fitting.length > 1)
    throw new OptionError(`ICMP type "${text}" is ambiguous`, {
      hint: `it could be ${fitting.map(([name]) => name).join(', ')}`,
    });
  state.negate = negate;
  if (fitting.length === 1) {
    [, state.type, state.codeMin, state.codeMax] = fitting[0]!;
    return;
  }
  const number = splitNumber(text);
  if (number === undefined || (number.rest !== '' && number.rest[0] !== '/')) {
    const hint = didYouMean(
      text,
      names.map(([name]) => name),
    );
    throw new OptionError(`unknown ICMP type "${text}"`, {
      hint: hint ?? 'type or type/code, by name or number',
    });
  }
  if (number.value > 255n)
    throw new OptionError(`"${text}" is not an ICMP type`, { hint: 'types are 0 to 255' });
  state.type = Number(number.value);
  if (number.rest === '') return;
  state.codeMin = boundedNumber(number.rest.slice(1), 0, 255);
  state.codeMax = state.codeMin;
}

/** "type", or "type/code" where one code is meant. */
export function formatIcmpType(state: IcmpTypeState): string {
  return state.codeMin === 0 && state.codeMax === 255 ? `${state.type}` : `${state.type}/${state.codeMin}`;
}

/** As `iptables -L -n` shows it, behind the protocol's name. */
export function listIcmpType({ type, codeMin, codeMax, negate }: IcmpTypeState): string {
  const codes =
    codeMin === codeMax
      ? ` code ${codeMin}`
      : codeMin !== 0 || codeMax !== 255
        ? ` codes ${codeMin}-${codeMax}`
        : '';
  return `${negate ? ' !' : ''}type ${type}${codes}`;
}

/** `any` says whether type 255 stands for all types, as in ICMP but not in ICMPv6. */
export function icmpTypeMatches(state: IcmpTypeState, packet: EvaluationPacket, any: boolean): MatchOutcome {
  if (packet.fragmentOffset !== 0) return false;
  const offset = packet.transportOffset;
  if (!hasBytes(packet, offset, HEADER_BYTES)) return 'hotdrop';
  const codes = { min: state.codeMin, max: state.codeMax };
  const found =
    (any && state.type === 255) ||
    (packet.bytes[offset] === state.type && inRange(packet.bytes[offset + 1]!, codes, false));
  return found !== state.negate;
}

export function lowerIcmpType(state: IcmpTypeState, any: boolean): Predicate[] {
  const header: Predicate = {
    kind: 'transport',
    minimumBytes: HEADER_BYTES,
    dropOffsetOne: false,
    onShort: 'hotdrop',
  };
  if (any && state.type === 255) return state.negate ? [header, { kind: 'any', of: [] }] : [header];
  const type = fieldIs('icmp.type', state.type);
  if (state.codeMin === 0 && state.codeMax === 255) return [header, { ...type, negate: state.negate }];
  const both: Predicate = {
    kind: 'all',
    of: [type, fieldIn('icmp.code', [[state.codeMin, state.codeMax]])],
  };
  return [header, state.negate ? { kind: 'not', of: both } : both];
}

export function explainIcmpType(state: IcmpTypeState, packet: EvaluationPacket): string {
  if (packet.fragmentOffset !== 0) return 'a later fragment has no ICMP header';
  const offset = packet.transportOffset;
  if (!hasBytes(packet, offset, HEADER_BYTES)) return 'the ICMP header is cut short';
  return `ICMP type ${packet.bytes[offset]}/${packet.bytes[offset + 1]} is ${state.negate ? '' : 'not '}${formatIcmpType(state)}`;
}

/** struct ipt_icmp, struct ip6t_icmp: both have one layout. */
export function icmpForm(name: 'icmp' | 'icmp6'): AbiForm<IcmpTypeState> {
  return {
    name,
    revision: 0,
    size: 4,
    decode: (view) => ({
      negate: readFlags(view, 3, 1, name) !== 0,
      type: view.getUint8(0),
      codeMin: view.getUint8(1),
      codeMax: view.getUint8(2),
    }),
    encode(state, view) {
      view.setUint8(0, state.type);
      view.setUint8(1, state.codeMin);
      view.setUint8(2, state.codeMax);
      view.setUint8(3, state.negate ? 1 : 0);
    },
  };
}
