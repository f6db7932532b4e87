/** The kernel's own answers over the socket ABI of iptables, in a scratch namespace. */
import type { Fd } from '../../src/kernel/index.ts';
import { AF_INET, AF_INET6, openSocket, SOCK_RAW } from '../../src/kernel/sys/socket.ts';
import { trySyscall } from '../../src/kernel/sys/syscall.ts';
import type { Family } from '../../src/net/index.ts';
import {
  type DecodedTable,
  GET_ENTRIES_BYTES,
  INFO_BYTES,
  type SetNumbers,
  type TableName,
  TableOption,
  type TableShape,
} from '../../src/rules/index.ts';
import type { Host } from './netns.ts';

const IPPROTO_RAW = 255;
const SO_IP_SET = 83;
const GET_BY_NAME = 6;
const GET_BY_INDEX = 7;
/** IPSET_PROTOCOL, struct ip_set_req_get_set, IPSET_INVALID_ID. */
const SET_PROTOCOL = 7;
const SET_REQUEST_BYTES = 40;
const NO_SET = 0xffff;
const LEVEL = { ipv4: 0, ipv6: 41 } as const;

/** A table as the kernel shows it. */
export interface ShownTable {
  readonly shape: TableShape;
  readonly entryCount: number;
  readonly blob: Uint8Array<ArrayBuffer>;
}

export class KernelTables {
  readonly family: Family;
  readonly #socket: Fd;
  /** Sets are asked for at the level of IPv4 only. */
  readonly #setSocket: Fd;

  constructor(host: Host, family: Family) {
    this.family = family;
    const raw = (domain: number): Fd =>
      host.keep(host.run(() => openSocket(domain, SOCK_RAW, IPPROTO_RAW, 'a raw socket')));
    this.#socket = raw(family === 'ipv4' ? AF_INET : AF_INET6);
    this.#setSocket = family === 'ipv4' ? this.#socket : raw(AF_INET);
  }

  /** 0 or minus errno. `length` is what the call claims; the buffer must be as long. */
  get(option: number, buffer: Uint8Array, length: number = buffer.length): number {
    const size = Uint32Array.of(length);
    return trySyscall('getsockopt', this.#socket.number, LEVEL[this.family], option, buffer, size);
  }

  set(option: number, buffer: Uint8Array, length: number = buffer.length): number {
    return trySyscall('setsockopt', this.#socket.number, LEVEL[this.family], option, buffer, length);
  }

  /** The numbers of IP sets, as ipset(8) and iptables ask for them. */
  sets(): SetNumbers {
    const ask = (operation: number, fill: (request: DataView) => void): DataView | undefined => {
      const request = new Uint8Array(SET_REQUEST_BYTES);
      const view = new DataView(request.buffer);
      view.setUint32(0, operation, true);
      view.setUint32(4, SET_PROTOCOL, true);
      fill(view);
      const size = Uint32Array.of(request.length);
      const result = trySyscall('getsockopt', this.#setSocket.number, LEVEL.ipv4, SO_IP_SET, request, size);
      return result === 0 ? view : undefined;
    };
    return {
      numberOf(name) {
        const answer = ask(GET_BY_NAME, (view) => {
          new TextEncoder().encodeInto(name, new Uint8Array(view.buffer, 8));
        });
        const number = answer?.getUint16(8, true);
        return number === NO_SET ? undefined : number;
      },
      nameOf(number) {
        const answer = ask(GET_BY_INDEX, (view) => view.setUint16(8, number, true));
        const bytes = answer === undefined ? undefined : new Uint8Array(answer.buffer, 8);
        const name = bytes && new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
        return name === '' ? undefined : name;
      },
    };
  }

  read(table: TableName): ShownTable {
    const info = new Uint8Array(INFO_BYTES);
    info.set(new TextEncoder().encode(table));
    const result = this.get(TableOption.GET_INFO, info);
    if (result !== 0) throw new Error(`GET_INFO ${table}: errno ${-result}`);
    const view = new DataView(info.buffer);
    const words = (offset: number): number[] =>
      Array.from({ length: 5 }, (_, hook) => view.getUint32(offset + 4 * hook, true));
    const size = view.getUint32(80, true);
    const reply = new Uint8Array(GET_ENTRIES_BYTES + size);
    reply.set(new TextEncoder().encode(table));
    new DataView(reply.buffer).setUint32(32, size, true);
    const entries = this.get(TableOption.GET_ENTRIES, reply);
    if (entries !== 0) throw new Error(`GET_ENTRIES ${table}: errno ${-entries}`);
    return {
      shape: { validHooks: view.getUint32(32, true), hookEntries: words(36), underflows: words(56) },
      entryCount: view.getUint32(76, true),
      blob: reply.slice(GET_ENTRIES_BYTES),
    };
  }
}

/** A copy of the blob with all counters zero. */
export function withoutCounters(
  blob: Uint8Array,
  offsets: DecodedTable['offsets'],
  family: Family,
): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(blob);
  const at = family === 'ipv4' ? 96 : 152;
  for (const offset of offsets) copy.fill(0, offset + at, offset + at + 16);
  return copy;
}
