/** Base conditions of rules, as text with aims: addresses, devices, protocol, fragments. */
import fc from 'fast-check';
import { applyMask, type Family, formatAddressBytes, maskOfLength } from '../../../src/net/index.ts';
import { type Aim, neighbour, type Piece } from './aim.ts';
import { DEVICES, INTERESTING } from './world.ts';

/** "! " now and then. */
export const negation: fc.Arbitrary<string> = fc.constantFrom('', '', '', '! ');

export function address(family: Family): fc.Arbitrary<Uint8Array> {
  const length = family === 'ipv4' ? 4 : 16;
  return fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...INTERESTING[family]) },
    {
      weight: 1,
      arbitrary: fc.uint8Array({ minLength: length, maxLength: length }).map((bytes) => {
        // Unicast: a source of any other kind is dropped before rules see it.
        const unicast = bytes.slice();
        unicast[0] = family === 'ipv4' ? 11 + (bytes[0]! % 80) : 0x20;
        return unicast;
      }),
    },
  );
}

interface Masked {
  readonly text: string;
  /** Inside at both ends, outside at both ends. */
  readonly examples: readonly Uint8Array[];
}

function masked(family: Family): fc.Arbitrary<Masked> {
  const bits = family === 'ipv4' ? 32 : 128;
  const length = fc.oneof(
    fc.constant(bits),
    fc.constantFrom(0, 1, 8, 12, 24, bits - 1, bits - 4),
    fc.nat(bits),
  );
  const prefixes = fc.tuple(address(family), length).map(([own, prefixLength]) => {
    const mask = maskOfLength(family, prefixLength);
    return { network: applyMask(own, mask), mask, suffix: `/${prefixLength}` };
  });
  // A mask need not be a prefix: every second bit counts as well as any.
  const scattered = fc
    .tuple(address(family), fc.uint8Array({ minLength: bits / 8, maxLength: bits / 8 }))
    .map(([own, mask]) => ({ network: applyMask(own, mask), mask, suffix: `/${formatAddressBytes(mask)}` }));
  return fc
    .oneof({ weight: 5, arbitrary: prefixes }, { weight: 1, arbitrary: scattered })
    .map(({ network, mask, suffix }) => {
      const last = network.map((byte, index) => byte | (~mask[index]! & 0xff));
      const examples = [network, last, neighbour(network, -1), neighbour(last, 1)];
      return { text: `${formatAddressBytes(network)}${suffix}`, examples };
    });
}

export function sourcePiece(family: Family): fc.Arbitrary<Piece> {
  return fc.tuple(negation, masked(family)).map(([not, { text, examples }]) => ({
    text: `${not}-s ${text}`,
    aims: examples.map((source) => ({ source })),
  }));
}

export function destinationPiece(family: Family): fc.Arbitrary<Piece> {
  return fc.tuple(negation, masked(family)).map(([not, { text, examples }]) => ({
    text: `${not}-d ${text}`,
    aims: examples.map((destination) => ({ destination })),
  }));
}

const deviceName = fc.constantFrom<string>(...DEVICES, 'eth+', 'eth0+', 'e+', 'eth', 'lo', 'eth00', '+');

export const inDevicePiece: fc.Arbitrary<Piece> = fc
  .tuple(negation, deviceName)
  .filter(([not, name]) => !(not !== '' && name === '+'))
  .map(([not, name]) => ({ text: `${not}-i ${name}`, aims: DEVICES.map((inDevice) => ({ inDevice })) }));

export function outDevicePiece(family: Family): fc.Arbitrary<Piece> {
  // A neighbour behind each device.
  const neighbours =
    family === 'ipv4'
      ? [INTERESTING.ipv4[1]!, INTERESTING.ipv4[5]!]
      : [INTERESTING.ipv6[1]!, INTERESTING.ipv6[4]!];
  return fc
    .tuple(negation, deviceName)
    .filter(([not, name]) => !(not !== '' && name === '+'))
    .map(([not, name]) => ({
      text: `${not}-o ${name}`,
      aims: neighbours.map((destination) => ({ destination })),
    }));
}

/** `-f`, IPv4 only: whole packets, first and later fragments. */
export const fragmentPiece: fc.Arbitrary<Piece> = negation.map((not) => ({
  text: `${not}-f`,
  aims: [{}, ...fragments],
}));

export const fragments: readonly Aim[] = [
  { fragment: { offset: 0, more: true, reserved: 0 } },
  { fragment: { offset: 1, more: true, reserved: 0 } },
  { fragment: { offset: 2, more: false, reserved: 0 } },
  { fragment: { offset: 0x1fff - 200, more: false, reserved: 0 } },
];
