/** The body of `SNPT` and `DNPT`: net/ipv6/netfilter/ip6t_NPT.c; RFC 6296. */
import type { Hook } from '../../ir/index.ts';
import { formatAddressBytes, lengthOfMask, maskOfLength } from '../../net/index.ts';
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../extension.ts';
import { type HostMask, parseHostMask } from '../text/host.ts';
import { requireAll } from '../text/requirement.ts';
import { refuse } from '../uapi/errno.ts';
import { readBytes, writeBytes } from '../uapi/payload.ts';

/** Longer prefixes leave no room for the adjustment of the checksum. */
const LONGEST_PREFIX = 64;

interface PrefixTranslation {
  source: HostMask | undefined;
  destination: HostMask | undefined;
}

function prefix(name: string, key: keyof PrefixTranslation, summary: string): OptionSpec<PrefixTranslation> {
  return {
    name,
    arguments: 1,
    syntax: 'prefix/length',
    summary,
    apply(state, [value], _negated, { family }) {
      state[key] = parseHostMask(value!, family);
    },
  };
}

function format({ address, mask }: HostMask): string {
  return `${formatAddressBytes(address)}/${lengthOfMask(mask)}`;
}

/** The target for one of the two directions. */
export function definePrefixTranslation(
  name: 'SNPT' | 'DNPT',
  direction: 'source' | 'destination',
  hooks: readonly Hook[],
): TargetExtension {
  return defineTarget<PrefixTranslation>({
    name,
    families: ['ipv6'],
    summary: `Replaces the prefix of the ${direction} address, without keeping state`,
    where: { tables: ['mangle'], hooks },
    options: [
      prefix('src-pfx', 'source', 'The prefix to replace'),
      prefix('dst-pfx', 'destination', 'The prefix in its place'),
    ],
    initial: () => ({ source: undefined, destination: undefined }),
    finish({ source, destination }) {
      requireAll(name, { 'src-pfx': source !== undefined, 'dst-pfx': destination !== undefined });
    },
    admit({ source, destination }) {
      for (const one of [source!, destination!]) {
        if (lengthOfMask(one.mask)! > LONGEST_PREFIX)
          throw new OptionError(`${format(one)} is longer than ${LONGEST_PREFIX} bits`, { argument: -1 });
        if (hasHostBits(one))
          throw new OptionError(`${format(one)} has bits beyond its prefix`, { argument: -1 });
      }
    },
    print: ({ source, destination }) => ` --src-pfx ${format(source!)} --dst-pfx ${format(destination!)}`,
    // struct ip6t_npt_tginfo
    abi: [
      {
        name,
        revision: 0,
        size: 36,
        userSize: 34,
        decode(view) {
          const prefixAt = (at: number, lengthAt: number): HostMask => {
            const bits = view.getUint8(lengthAt);
            if (bits > LONGEST_PREFIX) refuse(`${name}: a prefix is longer than ${LONGEST_PREFIX} bits`);
            return { address: readBytes(view, at, 16), mask: maskOfLength('ipv6', bits) };
          };
          return { source: prefixAt(0, 32), destination: prefixAt(16, 33) };
        },
        encode({ source, destination }, view) {
          writeBytes(view, 0, source!.address);
          writeBytes(view, 16, destination!.address);
          view.setUint8(32, lengthOfMask(source!.mask)!);
          view.setUint8(33, lengthOfMask(destination!.mask)!);
        },
      },
    ],
  });
}

function hasHostBits({ address, mask }: HostMask): boolean {
  return address.some((byte, index) => (byte & ~mask[index]!) !== 0);
}
