/** The evaluator stays within formally derived bounds of what real rulesets accept, for new connections. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Hook } from '../../src/ir/index.ts';
import { type Prefix, parsePrefix, prefixContainsBytes } from '../../src/net/index.ts';
import {
  type EvaluatedTable,
  type EvaluationPacket,
  evaluateTable,
  parseRuleset,
  prepareTable,
  type Table,
  UnsupportedReachedError,
} from '../../src/rules/index.ts';
import { boundAccepts, parseBound, type SimplePacket, type SimpleRule } from '../support/bounds.ts';
import { DEFAULT_SOURCE_MAC } from '../support/generate/packets.ts';
import { TCP } from '../support/generate/protocol-pieces.ts';
import { buildPacket, type Shape, type Transport } from '../support/generate/shape.ts';
import { readSharedText, sharedDataExists, sharedDataFiles } from '../support/shared-data.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 100 : 1;
const PACKETS = 400 * SOAK;

/** The ruleset of each bound, under `rulesets/iptables-semantics`; the others are not among the shared rulesets. */
const RULESETS: Readonly<Record<string, string>> = {
  'IPPartEval__TUM_Net__iptables-save-2015-09-03_15-56-50':
    'IPPartEval__TUM_Net__iptables-save-2015-09-03_15-56-50',
  'IPPartEval__TUM_Net__iptables_20.10.2013': 'IPPartEval__TUM_Net__iptables_20.10.2013',
  'IPPartEval__TUM_Net__iptables_25.07.2014': 'IPPartEval__TUM_Net__iptables_25.07.2014',
  IPPartEval__config_home_user__typical_home_user:
    'IPPartEval__config_home_user__typical_home_user_iptables-save',
  IPPartEval__config_random_srv__iptables: 'IPPartEval__config_random_srv__iptables-save',
  'IPPartEval__configs_sqrl_shorewall__2014_sep_iptables-saveakachan':
    'IPPartEval__configs_sqrl_shorewall__2014_sep_iptables-saveakachan',
  'IPPartEval__configs_sqrl_shorewall__2015_aug_iptables-save-spoofing-protection':
    'SQRL_Shorewall__2015_aug_iptables-save-spoofing-protection',
  'IPPartEval__configs_srvs_ufw__server2-iptables-save':
    'IPPartEval__configs_srvs_ufw__server2-iptables-save',
  'IPPartEval__configs_synology_diskstation_ds414__iptables-save_jun_2015_legacyifacerules':
    'IPPartEval__configs_synology_diskstation_ds414__iptables-save_jun_2015_legacyifacerules',
  IPPartEval__configs_ugent__iptables: 'IPPartEval__configs_ugent__iptables-save.v1.4.21',
  'IPPartEval__docker_topos__iptables-save': 'IPPartEval__docker_topos__iptables-save.topos4.1',
  'IPPartEval__gopherproxy.meulie.net__iptables-save': 'IPPartEval__gopherproxy.meulie.net__iptables-save',
  'IPPartEval__linux.gda.pl__firewallp.txt': 'IPPartEval__linux.gda.pl__firewallp.txt',
  'IPPartEval__medium-sized-company__iptables-save': 'IPPartEval__medium-sized-company__iptables-save',
  'IPPartEval__openwrt.org__iptables-save-AA.txt_fixed_newline':
    'IPPartEval__openwrt.org__iptables-save-AA.txt_fixed_newline',
  'IPPartEval__sargon__iptables-save.txt': 'IPPartEval__sargon__iptables-save.txt',
};

/** Which sources come by which device: the bounds take it for granted, loopback always, others where it was told. */
const LOOPBACK = { device: 'lo', prefix: parsePrefix('127.0.0.0/8')! };
const ASSIGNED: Readonly<Record<string, readonly { readonly device: string; readonly prefix: Prefix }[]>> = {
  'IPPartEval__medium-sized-company__iptables-save': [
    { device: 'eth0', prefix: parsePrefix('172.16.2.0/24')! },
  ],
};

interface Bound {
  readonly file: string;
  readonly kind: 'lower' | 'upper';
  readonly hook: Hook;
  readonly rules: readonly SimpleRule[];
  readonly filter: Table;
  readonly assigned: readonly { readonly device: string; readonly prefix: Prefix }[];
}

function boundOf(file: string): Bound | undefined {
  const [, name, chain, kind] = /^(.*?)(?:\.Ln)?\.(FWD|INP)(?:\.Ln)?\.(lower|upper)$/.exec(file) ?? [];
  const source = name === undefined ? undefined : RULESETS[name];
  if (source === undefined || !sharedDataExists('rulesets', 'iptables-semantics', source)) return undefined;
  const text = readSharedText('rulesets', 'iptables-semantics', source);
  const { ruleset } = parseRuleset(text, { file: source, family: 'ipv4', acceptOldNegation: true });
  const rules = parseBound(readSharedText('fffuu-golden', file));
  return {
    file,
    kind: kind as Bound['kind'],
    hook: chain === 'FWD' ? Hook.FORWARD : Hook.LOCAL_IN,
    rules,
    filter: ruleset.tables.find((table) => table.name === 'filter')!,
    assigned: [LOOPBACK, ...(ASSIGNED[name!] ?? [])],
  };
}

/** An address of a prefix: its ends, or somewhere inside. */
function addressIn(prefix: Prefix): fc.Arbitrary<Uint8Array> {
  const host = 32 - prefix.length;
  const base = new DataView(prefix.address.bytes.slice().buffer).getUint32(0);
  const network = host === 32 ? 0 : (base & (-1 << host)) >>> 0;
  const size = 2 ** host;
  return fc.oneof(fc.constantFrom(0, size - 1), fc.nat(size - 1)).map((offset) => {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, (network + offset) >>> 0);
    return bytes;
  });
}

/** Packets at the edges of a bound's rules: addresses from one rule, protocol and ports from another or the same. */
function packetNear(rules: readonly SimpleRule[]): fc.Arbitrary<SimplePacket> {
  const rule = fc.constantFrom(...rules);
  const port = ([min, max]: readonly [number, number]): fc.Arbitrary<number> =>
    fc.constantFrom(min, max, Math.max(0, min - 1), Math.min(65_535, max + 1), 40_000);
  return fc.tuple(rule, rule, fc.boolean()).chain(([first, second, same]) => {
    const other = same ? first : second;
    return fc.record({
      protocol: fc.constantFrom(other.protocol ?? 6, other.protocol ?? 17, 1, 47),
      source: addressIn(first.source),
      destination: addressIn(other.destination),
      sourcePort: port(other.sourcePorts),
      destinationPort: port(other.destinationPorts),
    });
  });
}

function transportOf(packet: SimplePacket): Transport {
  const { protocol, sourcePort, destinationPort } = packet;
  // A new TCP connection begins with a SYN; the bounds hold for nothing else.
  if (protocol === 6) return { ...TCP, kind: 'tcp', sourcePort, destinationPort, flags: 2 } as Transport;
  if (protocol === 17) return { kind: 'ports', protocol, sourcePort, destinationPort };
  if (protocol === 1) return { kind: 'icmp', type: 8, code: 0, id: 1 };
  return { kind: 'raw', protocol };
}

/** Devices that the rules name and that no sources are assigned to, and one more. */
function devicesOf({ filter, assigned }: Bound): readonly string[] {
  const names = filter.chains
    .flatMap(({ rules }) => rules)
    .flatMap(({ base }) => [base.inDevice?.name, base.outDevice?.name])
    .filter((name): name is string => name !== undefined && name !== '')
    .filter((name) => assigned.every(({ device }) => device !== name));
  return [...new Set(names), 'other0'];
}

/** A match without semantics may be either: the bounds must hold whatever it says. */
function guessing(table: Table, guess: boolean): Table {
  return {
    ...table,
    chains: table.chains.map((chain) => ({
      ...chain,
      rules: chain.rules.map((rule) => ({
        ...rule,
        matches: rule.matches.map((use) =>
          use.extension.semantics === undefined
            ? {
                ...use,
                extension: { ...use.extension, semantics: { evaluate: () => guess, lower: () => [] } },
              }
            : use,
        ),
      })),
    })),
  };
}

function newPacket(
  bound: Bound,
  packet: SimplePacket,
  inDevice: string,
  outDevice: string,
): EvaluationPacket {
  const shape: Shape = {
    family: 'ipv4',
    source: packet.source,
    destination: packet.destination,
    tos: 0,
    ttl: 64,
    id: 1,
    dontFragment: true,
    ipOptions: new Uint8Array(0),
    extensions: [],
    transport: transportOf(packet),
    payloadBytes: 16,
    inDevice,
    sourceMac: DEFAULT_SOURCE_MAC,
  };
  const bytes = buildPacket(shape);
  const tuple = { ...packet, protocol: packet.protocol };
  return {
    family: 'ipv4',
    bytes,
    length: bytes.length,
    hook: bound.hook,
    inDevice,
    outDevice: bound.hook === Hook.FORWARD ? outDevice : '',
    protocol: packet.protocol,
    transportOffset: 20,
    fragmentOffset: 0,
    ethernet: undefined,
    packetType: 0,
    mark: 0,
    conntrack: {
      state: 'NEW',
      direction: 'original',
      status: 0,
      mark: 0,
      zone: 0,
      accounting: { original: { packets: 1, bytes: 40 }, reply: { packets: 0, bytes: 0 } },
      expiresSec: 30,
      original: tuple,
      reply: { ...tuple, source: packet.destination, destination: packet.source },
    },
    world: { nowMs: () => 0, random32: () => 0, addressType: () => 1, outputDevice: () => undefined },
    log: () => undefined,
  };
}

const bounds = sharedDataFiles('fffuu-golden')
  .map(boundOf)
  .filter((bound) => bound !== undefined);

describe.skipIf(bounds.length === 0)(`bounds of ${bounds.length} rulesets`, () => {
  test.each(bounds)('$file holds for random new connections', (bound) => {
    const devices = devicesOf(bound);
    const tables = [true, false].map((guess) => prepareTable(guessing(bound.filter, guess), 'ipv4', 0));
    let decided = 0;
    const property = fc.property(
      packetNear(bound.rules),
      fc.constantFrom(...devices),
      fc.constantFrom(...devices),
      fc.constantFrom(...tables),
      (simple, device, outDevice, table) => {
        const own = bound.assigned.find(({ prefix }) => prefixContainsBytes(prefix, simple.source));
        const accepted = verdictOf(table, newPacket(bound, simple, own?.device ?? device, outDevice));
        if (accepted === undefined) return;
        decided++;
        const within = boundAccepts(bound.rules, simple);
        if (bound.kind === 'lower') expect(within === true && !accepted).toBe(false);
        else expect(accepted && within !== true).toBe(false);
      },
    );
    fc.assert(property, { numRuns: PACKETS });
    expect(decided).toBeGreaterThan(PACKETS / 20);
  });

  test('as many bounds as there are shared rulesets for', () => {
    expect(bounds.length).toBeGreaterThanOrEqual(24);
  });
});

/** `undefined` when the way meets a rule without semantics. */
function verdictOf(table: EvaluatedTable, packet: EvaluationPacket): boolean | undefined {
  try {
    return evaluateTable(table, packet)?.verdict === 'ACCEPT';
  } catch (error) {
    if (error instanceof UnsupportedReachedError) return undefined;
    throw error;
  }
}
