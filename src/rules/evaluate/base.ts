/** The conditions every rule has: ip_packet_match() and ip6_packet_match(). */
import { formatAddressBytes, matchesMask } from '../../net/index.ts';
import type { BaseMatch, DeviceName, MaskedAddress } from '../model.ts';
import { formatProtocol } from '../names/protocols.ts';
import { formatMaskedAddress } from '../text/address.ts';
import type { EvaluationPacket } from './packet.ts';

/** The condition that failed, in the kernel's order of looking; `undefined` when all hold. */
export type BaseFailure =
  | 'source'
  | 'destination'
  | 'inDevice'
  | 'outDevice'
  | 'protocol'
  | 'fragment'
  /** IPv6 with `-p`, and the extension chain has no transport header: the packet is dropped at once. */
  | 'hotdrop';

export function sourceOf(packet: EvaluationPacket): Uint8Array {
  return packet.family === 'ipv4' ? packet.bytes.subarray(12, 16) : packet.bytes.subarray(8, 24);
}

export function destinationOf(packet: EvaluationPacket): Uint8Array {
  return packet.family === 'ipv4' ? packet.bytes.subarray(16, 20) : packet.bytes.subarray(24, 40);
}

/** `undefined` when the packet meets all base conditions. */
export function failingBase(base: BaseMatch, packet: EvaluationPacket): BaseFailure | undefined {
  if (base.source !== undefined && !addressHolds(base.source, sourceOf(packet))) return 'source';
  if (base.destination !== undefined && !addressHolds(base.destination, destinationOf(packet))) {
    return 'destination';
  }
  if (base.inDevice !== undefined && !deviceHolds(base.inDevice, packet.inDevice)) return 'inDevice';
  if (base.outDevice !== undefined && !deviceHolds(base.outDevice, packet.outDevice)) return 'outDevice';
  if (base.protocol !== undefined) {
    // A later fragment that hides its protocol behind an extension header counts as offset 0 here: dropped, too.
    if (packet.protocol < 0) return 'hotdrop';
    if ((packet.protocol === base.protocol.number) === base.protocol.negate) return 'protocol';
  }
  if (base.fragment !== undefined && (packet.fragmentOffset !== 0) === base.fragment.negate)
    return 'fragment';
  return undefined;
}

function addressHolds(wanted: MaskedAddress, address: Uint8Array): boolean {
  return matchesMask(address, wanted.address, wanted.mask) !== wanted.negate;
}

function deviceHolds(wanted: DeviceName, name: string): boolean {
  const equal = wanted.wildcard ? name.startsWith(wanted.name) : name === wanted.name;
  return equal !== wanted.negate;
}

/** "source 10.0.0.1 is not in 192.168.0.0/16": the condition with the packet's value. */
export function describeBaseFailure(failure: BaseFailure, base: BaseMatch, packet: EvaluationPacket): string {
  switch (failure) {
    case 'source':
      return describeAddress('source', base.source!, sourceOf(packet));
    case 'destination':
      return describeAddress('destination', base.destination!, destinationOf(packet));
    case 'inDevice':
      return describeDevice('input device', base.inDevice!, packet.inDevice);
    case 'outDevice':
      return describeDevice('output device', base.outDevice!, packet.outDevice);
    case 'protocol': {
      const { number, negate } = base.protocol!;
      return `protocol ${formatProtocol(packet.protocol)} is ${negate ? '' : 'not '}${formatProtocol(number)}`;
    }
    case 'fragment':
      return base.fragment!.negate
        ? 'the packet is a second or later fragment'
        : 'the packet is not a second or later fragment';
    case 'hotdrop':
      return 'the extension headers end without a transport header, so the packet is dropped';
  }
}

function describeAddress(what: string, wanted: MaskedAddress, address: Uint8Array): string {
  const relation = wanted.negate ? 'is in' : 'is not in';
  return `${what} ${formatAddressBytes(address)} ${relation} ${formatMaskedAddress(wanted.address, wanted.mask)}`;
}

function describeDevice(what: string, wanted: DeviceName, name: string): string {
  const shown = name === '' ? '(none)' : name;
  return `${what} ${shown} is ${wanted.negate ? '' : 'not '}${wanted.name}${wanted.wildcard ? '+' : ''}`;
}
