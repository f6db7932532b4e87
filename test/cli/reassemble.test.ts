/** `sluice reassemble`: lines, counters, the file it writes, and what it refuses. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { internetChecksum, LinkType, pcapHeader, pcapRecord, readCapture } from '../../src/wire/index.ts';
import { sluice } from '../support/cli.ts';

/** One fragment of a UDP datagram from 192.0.2.1 to 192.0.2.2; offset in bytes. */
function fragment(id: number, offset: number, more: boolean, payload: Uint8Array): Uint8Array {
  const packet = new Uint8Array(20 + payload.length);
  const view = new DataView(packet.buffer);
  packet.set([0x45, 0]);
  view.setUint16(2, packet.length);
  view.setUint16(4, id);
  view.setUint16(6, (more ? 0x2000 : 0) | (offset >> 3));
  packet.set([64, 17], 8);
  packet.set([192, 0, 2, 1, 192, 0, 2, 2], 12);
  view.setUint16(10, internetChecksum(packet.subarray(0, 20)));
  packet.set(payload, 20);
  return packet;
}

function capture(packets: readonly Uint8Array[]): Uint8Array {
  const records = packets.map((data, index) =>
    pcapRecord({ timestampNs: 1_000_000_000n + BigInt(index), data }),
  );
  return Buffer.concat([pcapHeader(LinkType.RAW), ...records]);
}

const payload = Uint8Array.from({ length: 40 }, (_, index) => index);
const whole = fragment(7, 0, false, payload);
const complete = capture([
  fragment(7, 24, false, payload.subarray(24)),
  fragment(8, 0, true, payload.subarray(0, 16)),
  fragment(7, 0, true, payload.subarray(0, 24)),
]);

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'slc-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('sluice reassemble', () => {
  it('tells what was put together and what was not, then the counters', async () => {
    const { code, stdout } = await sluice(['reassemble', '-'], { stdin: complete });
    const hash = createHash('sha256').update(whole).digest('hex');
    expect(code).toBe(0);
    expect(stdout.split('\n')).toEqual([
      `    3  UDP  60 bytes  2 fragments  ${hash}`,
      '    -  dropped: incomplete (1 fragment)',
      '3 packets, 3 fragments: 1 delivered, 1 dropped',
      'IpInReceives 3',
      'IpReasmReqds 3',
      'IpReasmOKs 1',
      '',
    ]);
  });

  it.each(['host', 'netfilter'])('gives the same as JSON with the %s model', async (model) => {
    const { stdout } = await sluice(['reassemble', '-', '--json', '--model', model], { stdin: complete });
    const [first, second, last] = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(first).toMatchObject({
      delivered: { packet: 3, family: 'ipv4', protocol: 17, length: 60, fragments: 2 },
    });
    expect(second).toEqual({ dropped: { reason: 'incomplete', fragments: 1 } });
    expect(last).toMatchObject({ summary: { version: 1, model, packets: 3, delivered: 1, dropped: 1 } });
  });

  it('writes the datagrams, and with --all what came whole, at the time they were complete', async () => {
    const out = join(directory, 'out.pcap');
    const stdin = capture([
      whole,
      fragment(9, 0, true, payload.subarray(0, 24)),
      fragment(9, 24, false, payload.subarray(24)),
    ]);
    expect((await sluice(['reassemble', '-', '-a', '-w', out], { stdin })).code).toBe(0);
    const { packets, error } = readCapture(readFileSync(out));
    expect(error).toBeUndefined();
    expect(packets.map(({ data }) => [...data])).toEqual([[...whole], [...fragment(9, 0, false, payload)]]);
    expect(packets.map(({ timestampNs, linkType }) => [timestampNs, linkType])).toEqual([
      [1_000_000_000n, LinkType.RAW],
      [1_000_000_000n, LinkType.RAW],
    ]);
  });

  it('keeps what was good of a broken capture and fails', async () => {
    const broken = complete.subarray(0, complete.length - 3);
    const { code, stdout, stderr } = await sluice(['reassemble', '-'], { stdin: broken });
    expect(code).toBe(1);
    expect(stdout).toContain('2 packets, 2 fragments');
    expect(stderr).toContain('the file ends');
  });

  it('refuses another model, and standard output as a file', async () => {
    expect((await sluice(['reassemble', '-', '--model', 'both'])).code).toBe(2);
    expect((await sluice(['reassemble', '-', '-w', '-'])).code).toBe(2);
  });
});
