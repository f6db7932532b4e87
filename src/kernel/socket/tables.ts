/**
 * The tables of iptables-legacy in the calling thread's namespace, as bytes: getsockopt(2) IPT_SO_GET_INFO and
 * IPT_SO_GET_ENTRIES on a raw socket (include/uapi/linux/netfilter_ipv4/ip_tables.h), which iptables itself uses.
 */
import { readFileSync } from 'node:fs';
import { Errno } from '../sys/errno.ts';
import { SyscallError } from '../sys/error.ts';
import type { Fd } from '../sys/fd.ts';
import { AF_INET, AF_INET6, openSocket, SOCK_RAW } from '../sys/socket.ts';
import { trySyscall } from '../sys/syscall.ts';

const IPPROTO_RAW = 255;
const GET_INFO = 64;
const GET_ENTRIES = 65;
const INFO_BYTES = 84;
const INFO_SIZE_OFFSET = 80;
const ENTRIES_BYTES = 40;
const ENTRIES_SIZE_OFFSET = 32;
/** A table that others change between the two calls is asked for again. */
const ATTEMPTS = 10;

const FAMILIES = {
  ipv4: { domain: AF_INET, level: 0, names: 'ip_tables_names' },
  ipv6: { domain: AF_INET6, level: 41, names: 'ip6_tables_names' },
} as const;

export interface LegacyTable {
  /** struct ipt_getinfo */
  readonly info: Uint8Array;
  /** struct ipt_get_entries with its entries */
  readonly entries: Uint8Array;
}

/** Names of the tables that exist; asking for another would make it. */
export function listLegacyTables(family: 'ipv4' | 'ipv6'): string[] {
  try {
    const text = readFileSync(`/proc/thread-self/net/${FAMILIES[family].names}`, 'utf8');
    return text.split('\n').filter(Boolean);
  } catch {
    // The kernel has none, or another process has.
    return [];
  }
}

/** Reads a table whole, counters included. @throws {SyscallError} EPERM without CAP_NET_ADMIN */
export function readLegacyTable(family: 'ipv4' | 'ipv6', name: string): LegacyTable {
  const { domain, level } = FAMILIES[family];
  const socket = openSocket(domain, SOCK_RAW, IPPROTO_RAW, `a socket for the ${family} tables`);
  try {
    for (let attempt = 1; ; attempt++) {
      const info = new Uint8Array(INFO_BYTES);
      info.set(new TextEncoder().encode(name));
      ask(socket, level, GET_INFO, info, name);
      const size = new DataView(info.buffer).getUint32(INFO_SIZE_OFFSET, true);
      const entries = new Uint8Array(ENTRIES_BYTES + size);
      entries.set(new TextEncoder().encode(name));
      new DataView(entries.buffer).setUint32(ENTRIES_SIZE_OFFSET, size, true);
      if (ask(socket, level, GET_ENTRIES, entries, name, attempt < ATTEMPTS)) return { info, entries };
    }
  } finally {
    socket.close();
  }
}

/** False when the table changed meanwhile and that is `allowed`. */
function ask(
  socket: Fd,
  level: number,
  option: number,
  value: Uint8Array,
  name: string,
  allowed = false,
): boolean {
  const length = Uint32Array.of(value.length);
  const result = trySyscall('getsockopt', socket.number, level, option, value, length);
  if (allowed && result === -Errno.EAGAIN) return false;
  if (result < 0) throw new SyscallError('getsockopt', -result, `reading table ${name}`);
  return true;
}
