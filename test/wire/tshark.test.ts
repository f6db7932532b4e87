/**
 * Every packet of every shared capture against tshark: protocols, addresses, ports, lengths, fragment fields,
 * checksum status. All packets go to one tshark run, in one file of ours with an interface per link type.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  type CapturedPacket,
  type CaptureFormat,
  concatenate,
  Frame,
  isSupportedLinkType,
  LinkType,
  loadFrame,
  pcapngHeader,
  pcapngInterface,
  pcapngPacket,
  readCapture,
} from '../../src/wire/index.ts';
import { capturePaths, findTshark, readCaptureBytes, storedTsharkSize } from './captures.ts';
import { excuse, FIELDS, factsOf, hasNetworkPacket, tsharkFacts } from './tshark-facts.ts';

const FORMAT: CaptureFormat = { littleEndian: true, resolution: 'ns' };
const OPTIONS = [
  'ip.defragment:FALSE',
  'ip.check_checksum:TRUE',
  'ip.tso_support:FALSE',
  'ipv6.defragment:FALSE',
  'tcp.check_checksum:TRUE',
  'tcp.desegment_tcp_streams:FALSE',
  'udp.check_checksum:TRUE',
  'udplite.ignore_checksum_coverage:FALSE',
  'dccp.check_checksum:TRUE',
  'sctp.checksum:CRC-32C',
];

const captures = capturePaths();
const tshark = findTshark();

/** Fields that may differ for the reasons in `excuse`; tshark 4.0 on all captures. It does not grow. */
const MOST_EXCUSED = 439;

/** Packets of all captures on supported links, each with where it came from. */
function* allPackets(): Generator<{ readonly path: string; readonly packet: CapturedPacket }> {
  for (const path of captures) {
    for (const packet of readCapture(readCaptureBytes(path)).packets) {
      if (isSupportedLinkType(packet.linkType)) yield { path, packet };
    }
  }
}

/** One answer a line, columns as FIELDS. */
function askTshark(program: string, file: Uint8Array): string[][] {
  const folder = mkdtempSync(join(tmpdir(), `slc-${process.pid}-`));
  try {
    const path = join(folder, 'all.pcapng');
    writeFileSync(path, file);
    const output = execFileSync(
      program,
      [
        ...['-n', '-r', path, '-T', 'fields', '-E', 'occurrence=a', '-E', 'aggregator=,'],
        ...OPTIONS.flatMap((option) => ['-o', option]),
        ...FIELDS.flatMap((field) => ['-e', field]),
      ],
      { encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'ignore'] },
    );
    return output.split('\n').map((line) => line.split('\t'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('captures against tshark', () => {
  it('stored answers', (context) => {
    context.skip(captures.length === 0, 'the shared captures are absent');
    const filled = captures.filter((path) => storedTsharkSize(path) > 0);
    context.skip(filled.length === 0, `all ${captures.length} stored tshark answers are empty files`);
    expect.fail(
      `${filled.length} stored tshark answers have content that nothing here compares: ${filled[0]}`,
    );
  });

  it('agrees on every packet, as far as tshark looks at the same headers', (context) => {
    context.skip(captures.length === 0, 'the shared captures are absent');
    if (tshark === undefined) return context.skip('no tshark: install it, or name it in SLUICE_TSHARK');
    const linkTypes = Object.values(LinkType);
    const parts = [
      pcapngHeader(FORMAT),
      ...linkTypes.map((linkType) => pcapngInterface({ linkType }, FORMAT)),
    ];
    for (const { packet } of allPackets()) {
      const { data, originalLength } = packet;
      const timestampNs = packet.timestampNs ?? 0n;
      const index = (linkTypes as readonly number[]).indexOf(packet.linkType);
      parts.push(pcapngPacket({ timestampNs, data, originalLength }, index, FORMAT));
    }
    const answers = askTshark(tshark, concatenate(...parts));

    const frame = new Frame();
    const differences: string[] = [];
    const excused = new Map<string, number>();
    let total = 0;
    let ip = 0;
    let compared = 0;
    for (const { path, packet } of allPackets()) {
      const answer = answers[total++] ?? [];
      loadFrame(frame, packet.data, packet.linkType);
      if (hasNetworkPacket(frame)) ip++;
      const theirs = tsharkFacts(answer);
      for (const [field, ours] of Object.entries(factsOf(frame, packet))) {
        compared++;
        if (theirs[field] === ours) continue;
        const reason = excuse(field, frame, packet, ours, theirs[field], answer);
        if (reason === undefined) {
          const shown = `${path} #${packet.number} ${field}: ours ${ours}, tshark ${theirs[field]} (${answer[2]})`;
          differences.push(shown);
        } else excused.set(reason, (excused.get(reason) ?? 0) + 1);
      }
    }
    console.log(
      `tshark: ${compared} fields of ${total} packets (${ip} IP) in ${captures.length} captures agree, but for`,
    );
    for (const [reason, count] of excused) console.log(`  ${count} × ${reason}`);
    const byField = new Map<string, number>();
    for (const difference of differences) {
      const field = /#\d+ ([^:]+)/.exec(difference)![1]!;
      byField.set(field, (byField.get(field) ?? 0) + 1);
    }
    expect(differences.slice(0, 40), JSON.stringify(Object.fromEntries(byField))).toEqual([]);
    expect([...excused.values()].reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(MOST_EXCUSED);
    expect(total).toBe(answers.length - 1);
    expect(ip).toBeGreaterThan(30_000);
  });
});
