/** The netstack as the host around a rule: what targets like DNAT, REJECT or CONNMARK do to a packet in it. */
import {
  duplicatePacket,
  findProxySocket,
  mapNetwork,
  masquerade,
  type NetworkStack,
  NF_ACCEPT,
  type NfHookState,
  redirect,
  rejectPacket,
  type SkBuff,
  Tracking,
  translateTo,
} from '../../netstack/index.ts';
import type { EvaluationPacket, PacketHost, Translation } from '../../rules/index.ts';

/** One packet at one hook. Its `packet` is set once the evaluation has been made ready. */
export class StackPacketHost implements PacketHost {
  packet: EvaluationPacket | undefined;
  readonly #stack: NetworkStack;
  readonly #skb: SkBuff;
  readonly #state: NfHookState;

  constructor(stack: NetworkStack, skb: SkBuff, state: NfHookState) {
    this.#stack = stack;
    this.#skb = skb;
    this.#state = state;
  }

  replace(bytes: Uint8Array): void {
    this.#skb.data = bytes;
    if (this.packet === undefined) return;
    this.packet.bytes = bytes;
    this.packet.length = bytes.length;
  }

  translate(translation: Translation): 'accept' | 'drop' {
    const { nat } = this.#stack;
    const entry = this.#tracking?.connection;
    // Targets of the nat table are asked about tracked connections only.
    if (nat === undefined || entry === undefined) return 'accept';
    const skb = this.#skb;
    const state = this.#state;
    const { addresses } = this.#stack;
    const verdict = ((): number => {
      switch (translation.kind) {
        case 'range':
          return translateTo(nat, entry, translation.range, state);
        case 'masquerade':
          return masquerade(nat, entry, translation.range, skb, state, addresses);
        case 'redirect':
          return redirect(nat, entry, translation.range, state, addresses);
        case 'network':
          return mapNetwork(nat, entry, translation.address, translation.mask, skb, state);
      }
    })();
    return verdict === NF_ACCEPT ? 'accept' : 'drop';
  }

  untrack(): void {
    if (this.#skb.nfct === undefined) this.#skb.untracked = true;
  }

  setZone(zone: number): void {
    if (this.#skb.nfct === undefined && !this.#skb.untracked) this.#skb.zoneId = zone;
  }

  get connectionMark(): number | undefined {
    return this.#tracking?.connection?.mark;
  }

  set connectionMark(mark: number | undefined) {
    const entry = this.#tracking?.connection;
    if (entry !== undefined && mark !== undefined) entry.mark = mark;
  }

  refuse(kind: number): void {
    rejectPacket(this.#stack, this.#skb, kind);
  }

  setPriority(priority: number): void {
    this.#skb.priority = priority;
  }

  duplicate(gateway: Uint8Array, device: string): void {
    duplicatePacket(this.#stack, this.#skb, this.#state.hook, gateway, device);
  }

  redirectToSocket(address: Uint8Array | undefined, port: number): boolean {
    const { sockets } = this.#stack;
    if (sockets === undefined || this.packet === undefined) return false;
    const { family, bytes } = this.packet;
    const device = this.#state.in;
    const [at, length] = family === 'ipv4' ? [16, 4] : [24, 16];
    const destination = bytes.subarray(at, at + length);
    const own = this.#stack.addresses.ownAddress(family, device?.name ?? '', destination);
    const packet = { family, bytes, ingressIfindex: device?.ifindex ?? 0 };
    this.#skb.socket = findProxySocket(sockets, packet, address ?? own ?? destination, port);
    return this.#skb.socket !== undefined;
  }

  pathMtu(): number {
    const { data } = this.#skb;
    const [family, source] =
      data.length >= 40 && data[0]! >> 4 === 6
        ? (['ipv6', data.subarray(8, 24)] as const)
        : (['ipv4', data.subarray(12, 16)] as const);
    const back = this.#stack.fib(family)?.output(source);
    const backMtu = back === undefined ? undefined : this.#stack.deviceByName(back)?.mtu;
    const { out } = this.#state;
    return Math.min(out?.mtu ?? 0xffff, backMtu ?? 0xffff);
  }

  get #tracking(): Tracking | undefined {
    return this.#skb.nfct instanceof Tracking ? this.#skb.nfct : undefined;
  }
}
