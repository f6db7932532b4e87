/** A namespace with the generated world's devices and addresses, whose rules and counters are the kernel's own. */
import type { Fd } from '../../src/kernel/index.ts';
import type { Family } from '../../src/net/index.ts';
import {
  builtinChains,
  type EvaluationHost,
  type PacketInput,
  type TableName,
} from '../../src/rules/index.ts';
import { buildPacket, type Shape } from './generate/shape.ts';
import { ADDRESSES, DEFAULT_DEVICE, DEVICES } from './generate/world.ts';
import { LiveTable, tableSocket } from './live-table.ts';
import type { Host } from './netns.ts';
import { Tap } from './tap.ts';

/** "filter INPUT 3" or "filter INPUT policy", with packets and bytes: "filter INPUT 3 1:60". */
export type CounterLine = string;

/** The policy that drops what the host answers (unreachables, resets, redirects). */
const ANSWERS = 'raw OUTPUT policy';

/** The tables that generated rulesets may have. */
const GENERATED_TABLES: readonly TableName[] = ['raw', 'mangle', 'filter'];

export class LiveFirewall {
  readonly #host: Host;
  readonly #taps: ReadonlyMap<string, Tap>;
  readonly #sockets: Readonly<Record<Family, Fd>>;
  #tables: readonly LiveTable[] = [];
  #injected = 0;

  /** Builds the world of both families in a fresh namespace. */
  constructor(host: Host) {
    this.#host = host;
    host.sysctl('net/ipv4/ip_forward', 1);
    host.sysctl('net/ipv6/conf/all/forwarding', 1);
    const addressesOf = (device: string): string[] =>
      [...ADDRESSES.ipv4, ...ADDRESSES.ipv6]
        .filter((own) => own.device === device)
        .map(({ address }) => address);
    this.#taps = new Map(DEVICES.map((device) => [device, Tap.open(host, device, ...addressesOf(device))]));
    for (const name of ['all', 'default', ...DEVICES]) host.sysctl(`net/ipv4/conf/${name}/rp_filter`, 0);
    host.exec('ip', ['route', 'add', 'default', 'dev', DEFAULT_DEVICE]);
    host.exec('ip', ['-6', 'route', 'add', 'default', 'dev', DEFAULT_DEVICE]);
    this.#sockets = { ipv4: tableSocket(host, 'ipv4'), ipv6: tableSocket(host, 'ipv6') };
  }

  /** Replaces all rules; counters start at zero. @throws {Error} with what iptables-restore said */
  load(family: Family, text: string): void {
    // What an earlier ruleset tracked must not be known to this one.
    this.#host.exec('conntrack', ['-F'], { allowFailure: true });
    const absent = GENERATED_TABLES.filter((name) => !text.includes(`*${name}\n`));
    const restore = family === 'ipv4' ? 'iptables-legacy-restore' : 'ip6tables-legacy-restore';
    this.#host.exec(restore, ['-w'], { input: absent.map(emptyTable).join('') + text });
    this.#tables = GENERATED_TABLES.filter((name) => !absent.includes(name)).map(
      (name) => new LiveTable(this.#sockets[family], family, name),
    );
  }

  /** Sends one packet in; returns it as the evaluator wants it. */
  inject(shape: Shape): PacketInput {
    const tap = this.#taps.get(shape.inDevice)!;
    this.#injected++;
    // One identification for each packet: fragments of different tests must not become a datagram.
    const bytes = buildPacket(shape.family === 'ipv4' ? { ...shape, id: this.#injected } : shape);
    const destination = shape.destinationMac;
    const ethernet = tap.inject(bytes, {
      source: shape.sourceMac,
      ...(destination === undefined ? {} : { destination }),
    });
    if (this.#injected % 100 === 0) for (const own of this.#taps.values()) own.drain();
    return { bytes, inDevice: shape.inDevice, ethernet, packetType: packetTypeOf(destination) };
  }

  /** Sends a whole Ethernet frame in, as it is. */
  injectFrame(inDevice: string, frame: Uint8Array): void {
    const tap = this.#taps.get(inDevice)!;
    tap.inject(frame.subarray(14), { destination: frame.subarray(0, 6), source: frame.subarray(6, 12) });
  }

  /** Every counter of the loaded tables, sorted, without what the host's own answers move. */
  counters(): readonly CounterLine[] {
    return this.#tables
      .flatMap((table) =>
        table
          .read()
          .map(({ chain, rule, packets, bytes }) => `${table.name} ${chain} ${rule} ${packets}:${bytes}`),
      )
      .filter((line) => !line.startsWith(ANSWERS))
      .sort();
  }
}

/** PACKET_HOST, BROADCAST or MULTICAST, as eth_type_trans() tells them. */
function packetTypeOf(destination: Uint8Array | undefined): number {
  if (destination === undefined) return 0;
  if (destination.every((byte) => byte === 0xff)) return 1;
  return (destination[0]! & 1) === 1 ? 2 : 3;
}

function emptyTable(name: TableName): string {
  return `*${name}\n${builtinChains(name)
    .map((chain) => `:${chain} ACCEPT [0:0]\n`)
    .join('')}COMMIT\n`;
}

/** The evaluator's counters in the same words. */
export function evaluatedCounters(host: EvaluationHost): readonly CounterLine[] {
  const lines: CounterLine[] = [];
  for (const table of host.tables.values()) {
    for (const chain of table.chains.values()) {
      for (const { number, counters } of chain.rules) {
        lines.push(`${table.name} ${chain.name} ${number} ${counters.packets}:${counters.bytes}`);
      }
      if (chain.policy === undefined) continue;
      const { packets, bytes } = chain.policyCounters;
      lines.push(`${table.name} ${chain.name} policy ${packets}:${bytes}`);
    }
  }
  return lines.filter((line) => !line.startsWith(ANSWERS)).sort();
}
