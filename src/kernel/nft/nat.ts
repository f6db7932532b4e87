/**
 * Address translation expressions, for chains of type `nat`: they see the first packet of a connection, conntrack
 * applies the result to the rest. net/netfilter/nft_nat.c, nft_masq.c, nft_redir.c.
 */
import { attribute, nested, u32BeAttribute } from '../netlink/message.ts';
import { KernelArgumentError } from '../sys/error.ts';
import { expression, type NftExpression } from './expression.ts';

const NFT_REG_1 = 1;
const NFT_REG_2 = 2;
const NFT_REG_3 = 3;
const NFT_REG_4 = 4;
const NF_NAT_RANGE_PROTO_RANDOM = 1 << 2;
const NF_NAT_RANGE_PERSISTENT = 1 << 3;
const NF_NAT_RANGE_PROTO_RANDOM_FULLY = 1 << 4;

export interface NatOptions {
  /** Range of ports, both included. */
  readonly ports?: readonly [first: number, last: number];
  /** Choose ports at random; `fully` without regard to the original one. */
  readonly random?: boolean | 'fully';
  /** The same client gets the same address of a range. */
  readonly persistent?: boolean;
}

export interface NatTarget extends NatOptions {
  /** Range of addresses, both included, 4 or 16 bytes each; absent: the address stays, only ports change. */
  readonly addresses?: readonly [first: Uint8Array, last: Uint8Array];
}

/** Loads bytes into a register. */
function immediate(register: number, value: Uint8Array): NftExpression {
  const [dreg, data, dataValue] = [1, 2, 1];
  return expression('immediate', u32BeAttribute(dreg, register), nested(data, attribute(dataValue, value)));
}

function port(value: number): Uint8Array {
  if (!Number.isInteger(value) || value < 1 || value > 0xffff) {
    throw new KernelArgumentError(`${value} is no port to translate to`, 'give 1 to 65535');
  }
  return Uint8Array.of(value >> 8, value & 0xff);
}

function flagsOf({ random = false, persistent = false }: NatOptions): number {
  const choice =
    random === 'fully' ? NF_NAT_RANGE_PROTO_RANDOM_FULLY : random ? NF_NAT_RANGE_PROTO_RANDOM : 0;
  return choice | (persistent ? NF_NAT_RANGE_PERSISTENT : 0);
}

/** The registers of a port range, loaded, and the attributes that name them. */
function portRange(
  { ports }: NatOptions,
  [minAttribute, maxAttribute]: readonly [number, number],
): { readonly loads: NftExpression[]; readonly attributes: Uint8Array[] } {
  if (ports === undefined) return { loads: [], attributes: [] };
  return {
    loads: [immediate(NFT_REG_3, port(ports[0])), immediate(NFT_REG_4, port(ports[1]))],
    attributes: [u32BeAttribute(minAttribute, NFT_REG_3), u32BeAttribute(maxAttribute, NFT_REG_4)],
  };
}

function flagAttributes(type: number, options: NatOptions): Uint8Array[] {
  const flags = flagsOf(options);
  return flags === 0 ? [] : [u32BeAttribute(type, flags)];
}

/** Translates the source (`snat`: POST_ROUTING, LOCAL_IN) or the destination (`dnat`: PRE_ROUTING, LOCAL_OUT). */
export function translate(
  kind: 'snat' | 'dnat',
  family: 'ipv4' | 'ipv6',
  target: NatTarget,
): NftExpression[] {
  const [type, familyAttribute, addressMin, addressMax, portMin, portMax, flags] = [1, 2, 3, 4, 5, 6, 7];
  const { addresses } = target;
  const ports = portRange(target, [portMin, portMax]);
  const loads =
    addresses === undefined ? [] : [immediate(NFT_REG_1, addresses[0]), immediate(NFT_REG_2, addresses[1])];
  const registers =
    addresses === undefined
      ? []
      : [u32BeAttribute(addressMin, NFT_REG_1), u32BeAttribute(addressMax, NFT_REG_2)];
  return [
    ...loads,
    ...ports.loads,
    expression(
      'nat',
      u32BeAttribute(type, kind === 'snat' ? 0 : 1),
      u32BeAttribute(familyAttribute, family === 'ipv4' ? 2 : 10),
      ...registers,
      ...ports.attributes,
      ...flagAttributes(flags, target),
    ),
  ];
}

/** Translates the source to the address of the device that the packet leaves by. POST_ROUTING only. */
export function masquerade(options: NatOptions = {}): NftExpression[] {
  const [flags, portMin, portMax] = [1, 2, 3];
  const ports = portRange(options, [portMin, portMax]);
  return [...ports.loads, expression('masq', ...flagAttributes(flags, options), ...ports.attributes)];
}

/** Translates the destination to this machine itself. PRE_ROUTING and LOCAL_OUT. */
export function redirect(options: NatOptions = {}): NftExpression[] {
  const [portMin, portMax, flags] = [1, 2, 3];
  const ports = portRange(options, [portMin, portMax]);
  return [...ports.loads, expression('redir', ...ports.attributes, ...flagAttributes(flags, options))];
}
