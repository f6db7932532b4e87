/**
 * Counters of the kernel's tables, read over the socket ABI of iptables: IPT_SO_GET_INFO 64 and IPT_SO_GET_ENTRIES 65
 * at level 0, the same at level 41 for IPv6 (uapi/linux/netfilter_ipv4/ip_tables.h). A read takes microseconds, so
 * counters can be compared after each packet.
 */

import { HOOK_CHAINS } from '../../src/ir/index.ts';
import type { Fd } from '../../src/kernel/index.ts';
import { AF_INET, AF_INET6, openSocket, SOCK_RAW } from '../../src/kernel/sys/socket.ts';
import { syscall } from '../../src/kernel/sys/syscall.ts';
import type { Family } from '../../src/net/index.ts';
import { builtinHook, TABLE_HOOKS, type TableName } from '../../src/rules/index.ts';
import type { Host } from './netns.ts';

const IPPROTO_RAW = 255;
const GET_INFO = 64;
const GET_ENTRIES = 65;
const INFO_BYTES = 84;
const ENTRIES_AT = 40;

/** Offsets in struct ipt_entry and struct ip6t_entry (x86_64). */
const LAYOUT = {
  ipv4: { level: 0, targetOffset: 88, nextOffset: 90, counters: 96 },
  ipv6: { level: 41, targetOffset: 140, nextOffset: 142, counters: 152 },
} as const;
/** In struct xt_entry_target: name, and the chain name of an ERROR target. */
const TARGET_NAME = 2;
const ERROR_NAME = 32;

/** What a counter belongs to: a rule by number from 1, or the policy of a base chain. */
export interface CounterPlace {
  readonly chain: string;
  readonly rule: number | 'policy';
}

export interface PlacedCounter extends CounterPlace {
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** A socket over which tables of the family are asked for; it belongs to the host's namespace and is closed with it. */
export function tableSocket(host: Host, family: Family): Fd {
  const domain = family === 'ipv4' ? AF_INET : AF_INET6;
  return host.keep(host.run(() => openSocket(domain, SOCK_RAW, IPPROTO_RAW, 'a raw socket')));
}

/** One table of one family in a namespace, whose rules must not change while it is in use. */
export class LiveTable {
  readonly name: TableName;
  readonly #level: number;
  readonly #socket: Fd;
  readonly #reply: Uint8Array;
  readonly #size: Uint32Array = new Uint32Array(1);
  /** Offset in the reply of each counter pair. */
  readonly #counters: readonly (CounterPlace & { readonly at: number })[];

  /** The socket is of {@link tableSocket}. @throws {SyscallError} ENOENT when the kernel has no such table */
  constructor(socket: Fd, family: Family, name: TableName) {
    this.name = name;
    const { level } = LAYOUT[family];
    this.#level = level;
    this.#socket = socket;
    const info = new Uint8Array(INFO_BYTES);
    info.set(new TextEncoder().encode(name));
    this.#get(GET_INFO, info);
    const view = new DataView(info.buffer);
    const entriesBytes = view.getUint32(80, true);
    const hookEntries = TABLE_HOOKS[name].map((hook) => ({
      chain: HOOK_CHAINS[hook]!,
      at: view.getUint32(36 + hook * 4, true),
    }));
    this.#reply = new Uint8Array(ENTRIES_AT + entriesBytes);
    this.#reply.set(new TextEncoder().encode(name));
    new DataView(this.#reply.buffer).setUint32(32, entriesBytes, true);
    this.#get(GET_ENTRIES, this.#reply);
    this.#counters = placeCounters(this.#reply, family, name, hookEntries);
  }

  /** All counters now, in the order of the table. */
  read(): PlacedCounter[] {
    this.#get(GET_ENTRIES, this.#reply);
    const view = new DataView(this.#reply.buffer);
    return this.#counters.map(({ chain, rule, at }) => ({
      chain,
      rule,
      packets: view.getBigUint64(at, true),
      bytes: view.getBigUint64(at + 8, true),
    }));
  }

  #get(option: number, buffer: Uint8Array): void {
    this.#size[0] = buffer.length;
    syscall('getsockopt', this.#socket.number, this.#level, option, buffer, this.#size);
  }
}

/** Each chain is its rules and one last entry: the policy of a base chain, the RETURN at the end of a user chain. */
function placeCounters(
  reply: Uint8Array,
  family: Family,
  table: TableName,
  hookEntries: readonly { readonly chain: string; readonly at: number }[],
): (CounterPlace & { readonly at: number })[] {
  const layout = LAYOUT[family];
  const view = new DataView(reply.buffer);
  const places: (CounterPlace & { at: number })[] = [];
  let chain = '';
  let chainStart = 0;
  const closeChain = (): void => {
    const last = places.at(-1);
    if (last === undefined || places.length === chainStart) return;
    if (builtinHook(table, chain) === undefined) places.pop();
    else places[places.length - 1] = { ...last, rule: 'policy' };
  };
  const openChain = (name: string): void => {
    closeChain();
    chain = name;
    chainStart = places.length;
  };
  for (let at = ENTRIES_AT; at < reply.length; at += view.getUint16(at + layout.nextOffset, true)) {
    const base = hookEntries.find((entry) => entry.at === at - ENTRIES_AT);
    if (base !== undefined) openChain(base.chain);
    const target = at + view.getUint16(at + layout.targetOffset, true);
    if (textAt(reply, target + TARGET_NAME) === 'ERROR') {
      openChain(textAt(reply, target + ERROR_NAME));
      continue;
    }
    places.push({ chain, rule: places.length - chainStart + 1, at: at + layout.counters });
  }
  closeChain();
  return places;
}

function textAt(bytes: Uint8Array, at: number): string {
  return new TextDecoder().decode(bytes.subarray(at, bytes.indexOf(0, at)));
}
