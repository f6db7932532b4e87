/** REPLACE requests that are nearly right: those of real tables with a few fields changed. */
import fc from 'fast-check';
import type { Family } from '../../../src/net/index.ts';
import {
  ENTRY_LAYOUTS,
  type EncodedTable,
  encodeReplaceHeader,
  encodeTable,
  parseRuleset,
  REPLACE_BYTES,
  type TableName,
} from '../../../src/rules/index.ts';

/** One change to the bytes of a request. */
export interface Mutation {
  /** Which field: a header field, a field of an entry, or any byte; taken modulo how many there are. */
  readonly place: number;
  readonly width: 1 | 2 | 4;
  readonly value: number;
}

const INTERESTING = [
  0, 1, 2, 3, 4, 5, 6, 8, 17, 31, 32, 40, 58, 84, 96, 111, 112, 144, 152, 168, 176, 200, 208, 255,
];

/** Values that fields have, and values near them. */
const value: fc.Arbitrary<number> = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...INTERESTING) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(-1, -2, -3, -4, -5, -6, 0x7fff_ffff, -0x8000_0000, 0xffff, 0x8000),
  },
  { weight: 1, arbitrary: fc.integer() },
);

export const mutations: fc.Arbitrary<readonly Mutation[]> = fc.array(
  fc.record({ place: fc.nat(1_000_000), width: fc.constantFrom(1, 2, 4), value }),
  { minLength: 1, maxLength: 3 },
);

/** A request for this table, with room for as many old counters. */
export function replaceRequest(
  name: TableName,
  encoded: EncodedTable,
  counterCount: number,
): Uint8Array<ArrayBuffer> {
  const header = encodeReplaceHeader({
    table: name,
    ...encoded.shape,
    entryCount: encoded.entryCount,
    size: encoded.blob.length,
    counterCount,
    countersAddress: 0n,
  });
  const request = new Uint8Array(header.length + encoded.blob.length);
  request.set(header);
  request.set(encoded.blob, header.length);
  return request;
}

/** A table from text, as bytes. */
export function tableOf(text: string, family: Family): { name: TableName; encoded: EncodedTable } {
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'table', family });
  const problem = diagnostics.find(({ severity }) => severity === 'error');
  if (problem !== undefined) throw new Error(problem.message);
  const table = ruleset.tables[0]!;
  return { name: table.name, encoded: encodeTable(table, family) };
}

/** Offsets worth changing: header fields, and of each entry its sizes, flags, names, revisions and verdicts. */
export function fieldsOf(request: Uint8Array, family: Family): number[] {
  const layout = ENTRY_LAYOUTS[family];
  const view = new DataView(request.buffer);
  const fields = [0, 1, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76, 80];
  for (let at = REPLACE_BYTES; at < request.length; at += view.getUint16(at + layout.nextOffset, true)) {
    fields.push(at + layout.targetOffset, at + layout.nextOffset, at + layout.flags, at + layout.invertFlags);
    fields.push(at + layout.protocol, at + layout.source);
    const target = at + view.getUint16(at + layout.targetOffset, true);
    for (let piece = at + layout.bytes; piece <= target; piece += view.getUint16(piece, true)) {
      fields.push(piece, piece + 2, piece + 3, piece + 31);
      for (let payload = piece + 32; payload < piece + 44; payload += 1) fields.push(payload);
    }
  }
  return fields.filter((field) => field + 4 <= request.length);
}

/** The request with the changes. */
export function mutate(
  request: Uint8Array,
  fields: readonly number[],
  changes: readonly Mutation[],
): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(request);
  const view = new DataView(copy.buffer);
  for (const { place, width, value: wanted } of changes) {
    const at = fields[place % fields.length]!;
    if (width === 1) view.setUint8(at, wanted & 0xff);
    else if (width === 2) view.setUint16(at, wanted & 0xffff, true);
    else view.setInt32(at, wanted, true);
  }
  return copy;
}

/** A table with every kind of piece that requests have. */
export const SAMPLES: Readonly<Record<Family, string>> = {
  ipv4: `*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:one - [0:0]
:two - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -m limit --limit 5/min -j one
-A INPUT -p udp -m multiport --dports 53,1000:2000 -g two
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -p icmp -m icmp --icmp-type 8
-A FORWARD -m addrtype --dst-type LOCAL --limit-iface-in -j MARK --set-xmark 0x1/0xff
-A one -p tcp -j REJECT --reject-with tcp-reset
-A one -m statistic --mode nth --every 3 --packet 1 -j RETURN
-A two -j LOG --log-prefix "two: "
-A two -m mac --mac-source 00:11:22:33:44:55 -m comment --comment "text" -j DROP
COMMIT
`,
  ipv6: `*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:one - [0:0]
-A INPUT -p tcp -m tcp --dport 22 -m mark --mark 0x1 -j one
-A INPUT -m frag --fragmore -j DROP
-A INPUT -m iprange --src-range ::1-::5 -g one
-A FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 128 -m hl --hl-lt 3 -j ACCEPT
-A one -m length --length 100:200 -j REJECT --reject-with icmp6-port-unreachable
COMMIT
`,
};
