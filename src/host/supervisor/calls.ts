/** The system calls that a supervised command hands over: numbers and constants of the ABI on both sides of the filter. */
import { type CallFilter, Errno, type NotifiedCall } from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import { SO_IP_SET, TableOption } from '../../rules/index.ts';

/** SOL_IP and SOL_IPV6. */
export const LEVELS: Readonly<Record<Family, number>> = { ipv4: 0, ipv6: 41 };

const AF_NETLINK = 16;
const NETLINK_NETFILTER = 12;
/** AT_FDCWD as the low 32 bits of an argument. */
const CURRENT_FOLDER = 0xffff_ff9c;
/**
 * How programs open a file to read it: O_RDONLY, with O_CLOEXEC (iptables-save) and O_LARGEFILE (musl) or without. A
 * filter cannot look at the path, so all such opens are handed over, and go on after a look at their path.
 */
const READ_FLAGS = [0, 0x8000, 0x8_0000, 0x8_8000];

function optionsOf(family: Family): readonly NotifiedCall[] {
  const gets = [
    TableOption.GET_INFO,
    TableOption.GET_ENTRIES,
    TableOption.GET_REVISION_MATCH[family],
    TableOption.GET_REVISION_TARGET[family],
    ...(family === 'ipv4' ? [SO_IP_SET] : []),
  ];
  const sets = [TableOption.SET_REPLACE, TableOption.SET_ADD_COUNTERS];
  const level = { index: 1, values: [LEVELS[family]] };
  return [
    { name: 'getsockopt', arguments: [level, { index: 2, values: gets }] },
    { name: 'setsockopt', arguments: [level, { index: 2, values: sets }] },
  ];
}

/** Netlink to nf_tables, ipset and conntrack would change the host behind the policy's back. */
const NETFILTER_SOCKET: NotifiedCall = {
  name: 'socket',
  arguments: [
    { index: 0, values: [AF_NETLINK] },
    { index: 2, values: [NETLINK_NETFILTER] },
  ],
};

/** open(2) of x86_64; other architectures never had it. */
export const OPEN_NUMBER: number | undefined = process.arch === 'x64' ? 2 : undefined;

const OPEN_TO_READ: readonly NotifiedCall[] = [
  {
    name: 'openat',
    arguments: [
      { index: 0, values: [CURRENT_FOLDER] },
      { index: 2, values: READ_FLAGS },
    ],
  },
  // The flags are in memory, which a filter cannot read either.
  { name: 'openat2', arguments: [{ index: 0, values: [CURRENT_FOLDER] }] },
  ...(OPEN_NUMBER === undefined
    ? []
    : [{ name: OPEN_NUMBER, arguments: [{ index: 1, values: READ_FLAGS }] }]),
];

/** A ring makes calls that no filter sees; programs take EPERM for a host where it is switched off. */
const RING = (['io_uring_setup', 'io_uring_enter', 'io_uring_register'] as const).map((name) => ({
  name,
  errno: Errno.EPERM,
}));

export function supervisedCalls(allowNetlink: boolean): CallFilter {
  return {
    notified: [
      ...optionsOf('ipv4'),
      ...optionsOf('ipv6'),
      ...OPEN_TO_READ,
      ...(allowNetlink ? [] : [NETFILTER_SOCKET]),
    ],
    refused: RING,
  };
}
