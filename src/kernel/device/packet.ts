/** Packet sockets: whole frames to and from a device, past the protocol stack. packet(7). */
import { Errno } from '../sys/errno.ts';
import { SyscallError } from '../sys/error.ts';
import type { Fd } from '../sys/fd.ts';
import { keepAlive } from '../sys/keepalive.ts';
import { AF_PACKET, openSocket, SOCK_RAW, setSocketOption, waitFor } from '../sys/socket.ts';
import { decodeStruct, encodeStruct } from '../sys/struct.ts';
import { trySyscall } from '../sys/syscall.ts';

const ETH_P_ALL = 3;
const SOL_PACKET = 263;
const PACKET_AUXDATA = 8;
const PACKET_IGNORE_OUTGOING = 23;
const TP_STATUS_VLAN_VALID = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID = 1 << 6;
const POLLIN = 1;
const MSG_DONTWAIT = 0x40;
/** struct sockaddr_ll; protocol in network order. */
const linkAddress = {
  size: 20,
  fields: { family: [0, 'u16'], protocol: [2, 'u16be'], ifindex: [4, 's32'], packetType: [10, 'u8'] },
} as const;
const iovec = { size: 16, fields: { base: [0, 'ptr'], length: [8, 'u64'] } } as const;
const msghdr = {
  size: 56,
  fields: {
    name: [0, 'ptr'],
    nameLength: [8, 'u32'],
    vector: [16, 'ptr'],
    vectorLength: [24, 'u64'],
    control: [32, 'ptr'],
    controlLength: [40, 'u64'],
  },
} as const;
/** struct tpacket_auxdata behind a cmsghdr of 16 bytes. */
const auxdata = {
  size: 36,
  fields: { status: [16, 'u32'], vlanTag: [32, 'u16'], vlanProtocol: [34, 'u16'] },
} as const;

/** How a frame came by: to us, to all, to a group, to somebody else, sent by us. */
export type PacketType = 'host' | 'broadcast' | 'multicast' | 'otherhost' | 'outgoing' | 'other';
const PACKET_TYPES: readonly PacketType[] = ['host', 'broadcast', 'multicast', 'otherhost', 'outgoing'];

export interface CapturedFrame {
  /** The frame with its VLAN tag, if it had one. */
  readonly data: Uint8Array;
  readonly ifindex: number;
  readonly packetType: PacketType;
}

export interface PacketSocketOptions {
  /** Device of the calling thread's namespace. */
  readonly ifindex: number;
  /** See frames that this machine sends, too. */
  readonly outgoing?: boolean;
}

export class PacketSocket {
  readonly fd: Fd;
  readonly #buffer = new Uint8Array(1 << 17);
  readonly #name = new Uint8Array(linkAddress.size);
  readonly #control = new Uint8Array(64);
  readonly #vector: Uint8Array;

  /** @throws {SyscallError} EPERM without CAP_NET_RAW, ENODEV */
  constructor({ ifindex, outgoing = false }: PacketSocketOptions) {
    // Protocol 0 receives nothing until the socket is bound, so no frame of another device slips in.
    this.fd = openSocket(AF_PACKET, SOCK_RAW, 0, 'a packet socket');
    this.#vector = encodeStruct(iovec, { base: this.#buffer, length: this.#buffer.length });
    try {
      setSocketOption(this.fd, SOL_PACKET, PACKET_AUXDATA, Uint8Array.of(1, 0, 0, 0));
      if (!outgoing) setSocketOption(this.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, Uint8Array.of(1, 0, 0, 0));
      const name = encodeStruct(linkAddress, { family: AF_PACKET, protocol: ETH_P_ALL, ifindex });
      const result = trySyscall('bind', this.fd.number, name, name.length);
      if (result < 0) throw new SyscallError('bind', -result, `a packet socket on device ${ifindex}`);
    } catch (error) {
      this.fd.close();
      throw error;
    }
  }

  /** Sends a whole frame out of the device. */
  send(frame: Uint8Array): void {
    const result = trySyscall('sendto', this.fd.number, frame, frame.length, 0, null, 0);
    if (result < 0) throw new SyscallError('sendto', -result, 'sending a frame');
  }

  /** The next frame; `undefined` when none comes within `timeoutMs`. Blocks the thread that long. */
  receive(timeoutMs = 0): CapturedFrame | undefined {
    if (!waitFor(this.fd, POLLIN, timeoutMs)) return undefined;
    this.#control.fill(0);
    const message = encodeStruct(msghdr, {
      name: this.#name,
      nameLength: this.#name.length,
      vector: this.#vector,
      vectorLength: 1,
      control: this.#control,
      controlLength: this.#control.length,
    });
    const length = trySyscall('recvmsg', this.fd.number, message, MSG_DONTWAIT);
    keepAlive(this);
    if (length === -Errno.EAGAIN) return undefined;
    if (length < 0) throw new SyscallError('recvmsg', -length, 'receiving a frame');
    const { ifindex, packetType } = decodeStruct(linkAddress, this.#name);
    const data = this.#buffer.slice(0, length);
    return { data: this.#withTag(data), ifindex, packetType: PACKET_TYPES[packetType] ?? 'other' };
  }

  /** The kernel takes an outer VLAN tag off before packet sockets see the frame and tells it beside: put it back. */
  #withTag(frame: Uint8Array): Uint8Array {
    const { status, vlanTag, vlanProtocol } = decodeStruct(auxdata, this.#control);
    if ((status & TP_STATUS_VLAN_VALID) === 0 || frame.length < 14) return frame;
    const protocol = (status & TP_STATUS_VLAN_TPID_VALID) === 0 ? 0x8100 : vlanProtocol;
    const tagged = new Uint8Array(frame.length + 4);
    tagged.set(frame.subarray(0, 12));
    new DataView(tagged.buffer).setUint32(12, protocol * 65536 + vlanTag);
    tagged.set(frame.subarray(12), 16);
    return tagged;
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
