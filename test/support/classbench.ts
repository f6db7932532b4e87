/** ClassBench filter sets as rules of INPUT (even ones accept, odd ones drop), and the traces with their first matches. */
import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

const DATA = new URL('../../../shared/data/classbench/', import.meta.url);

export interface ClassBenchHeader {
  readonly source: number;
  readonly destination: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly protocol: number;
}

function read(name: string): string | undefined {
  const plain = new URL(name, DATA);
  if (existsSync(plain)) return readFileSync(plain, 'utf8');
  const packed = new URL(`${name}.gz`, DATA);
  return existsSync(packed) ? gunzipSync(readFileSync(packed)).toString() : undefined;
}

/** iptables-save text; `undefined` where the data is not there. Expected matches ignore the filters' TCP flags. */
export function classBenchRules(name: string): string | undefined {
  const filters = read(name);
  if (filters === undefined) return undefined;
  const lines = ['*filter', ':INPUT DROP [0:0]', ':FORWARD DROP [0:0]', ':OUTPUT ACCEPT [0:0]'];
  for (const line of filters.split('\n').filter((one) => one.startsWith('@'))) {
    const [source = '', destination = '', sports = '', dports = '', protocol = ''] = line
      .slice(1)
      .split('\t');
    const [number = 0, mask = 0] = protocol.split('/').map(Number);
    const words = ['-A INPUT'];
    if (!source.endsWith('/0')) words.push(`-s ${source}`);
    if (!destination.endsWith('/0')) words.push(`-d ${destination}`);
    if (mask !== 0) words.push(`-p ${number}`);
    const ports = [sports, dports].map((range) => range.replaceAll(' ', ''));
    const options = ['--sport', '--dport'].flatMap((option, index) =>
      ports[index] === '0:65535' ? [] : [`${option} ${ports[index]}`],
    );
    const match = { 6: 'tcp', 17: 'udp' }[number];
    if (options.length > 0) {
      if (match === undefined) throw new Error(`${name}: protocol ${number} has no ports`);
      words.push(`-m ${match}`, ...options);
    }
    words.push(lines.length % 2 === 0 ? '-j ACCEPT' : '-j DROP');
    lines.push(words.join(' '));
  }
  return `${lines.join('\n')}\nCOMMIT\n`;
}

export function* classBenchTrace(
  name: string,
  limit: number,
): Generator<{ readonly header: ClassBenchHeader; readonly expected: number }> {
  const expected = read(`${name}_expected`)!.trim().split('\n').map(Number);
  for (const [index, line] of read(`${name}_trace`)!.trim().split('\n').entries()) {
    if (index >= limit) return;
    const [source = 0, destination = 0, sourcePort = 0, destinationPort = 0, protocol = 0] = line
      .split(/\s+/)
      .map(Number);
    yield {
      header: { source, destination, sourcePort, destinationPort, protocol },
      expected: expected[index]!,
    };
  }
}

/** An IPv4 packet with a transport header of 20 bytes. */
export function headerBytes(header: ClassBenchHeader): Uint8Array {
  const bytes = new Uint8Array(40);
  const view = new DataView(bytes.buffer);
  bytes.set([0x45, 0, 0, 40, 0, 0, 0, 0, 64, header.protocol]);
  view.setUint32(12, header.source);
  view.setUint32(16, header.destination);
  view.setUint16(20, header.sourcePort);
  view.setUint16(22, header.destinationPort);
  bytes[32] = 0x50;
  writeHeaderChecksum(bytes);
  return bytes;
}

/** The checksum of an IPv4 header of 20 bytes. */
export function writeHeaderChecksum(packet: Uint8Array): void {
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += at === 10 ? 0 : (packet[at]! << 8) | packet[at + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  packet[10] = (~sum >> 8) & 0xff;
  packet[11] = ~sum & 0xff;
}
