/** `sluice run --engine netstack`: a router with address translation, its explanations, and configurations that are wrong. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  addToSum,
  finishSum,
  internetChecksum,
  LinkType,
  pcapHeader,
  pcapRecord,
  pseudoHeaderSum,
} from '../../src/wire/index.ts';
import { sluice } from '../support/cli.ts';

const RULES = `*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -i wan -p udp -m udp --dport 5353 -j DNAT --to-destination 10.0.0.53:53
-A POSTROUTING -o wan -j MASQUERADE
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A FORWARD -i lan -j ACCEPT
-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT
COMMIT
`;

const CONFIG = {
  devices: [
    { name: 'lan', addresses: ['10.0.0.1/24'] },
    { name: 'wan', mtu: 1400, addresses: ['198.51.100.1/24'] },
  ],
  routes: [{ to: 'default', via: '198.51.100.254', dev: 'wan' }],
  sysctls: { 'net.ipv4.ip_forward': 1 },
};

/** A UDP datagram with right checksums. */
function udp(from: readonly number[], sport: number, to: readonly number[], dport: number): Uint8Array {
  const packet = new Uint8Array(32);
  const view = new DataView(packet.buffer);
  packet.set([0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17]);
  packet.set([...from, ...to], 12);
  view.setUint16(10, internetChecksum(packet.subarray(0, 20)));
  view.setUint16(20, sport);
  view.setUint16(22, dport);
  view.setUint16(24, 12);
  packet.set([1, 2, 3, 4], 28);
  const pseudo = pseudoHeaderSum(packet, 12, 16, 4, 17, 12);
  view.setUint16(26, finishSum(addToSum(pseudo, packet, 20, 32)));
  return packet;
}

function capture(...packets: readonly Uint8Array[]): Uint8Array {
  const records = packets.map((data, index) => pcapRecord({ timestampNs: BigInt(index) * 1_000_000n, data }));
  return Buffer.concat([pcapHeader(LinkType.RAW), ...records]);
}

let directory: string;
let rules: string;
let config: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'slc-'));
  rules = join(directory, 'rules.v4');
  config = join(directory, 'router.json');
  writeFileSync(rules, RULES);
  writeFileSync(config, JSON.stringify(CONFIG));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function run(packets: readonly Uint8Array[], ...words: string[]) {
  const pcap = join(directory, 'in.pcap');
  writeFileSync(pcap, capture(...packets));
  const line = ['run', '-4', rules, '--pcap', pcap, '--engine', 'netstack', '--config', config, ...words];
  return await sluice(line);
}

const client = [10, 0, 0, 7];
const server = [203, 0, 113, 9];
const router = [198, 51, 100, 1];

describe('sluice run --engine netstack', () => {
  it('forwards what the rules allow and drops the rest', async () => {
    const packets = [udp(client, 4000, server, 53), udp(client, 4000, [10, 0, 0, 1], 53)];
    const { code, stdout, stderr } = await run(packets, '--in', 'lan');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '2 packets: 1 accepted, 1 dropped\n' });
    expect(stdout).toContain('ACCEPT  filter FORWARD 2');
    expect(stdout).toContain('DROP    filter INPUT policy');
  });

  it('explains a translated packet station by station', async () => {
    const { code, stdout } = await run([udp(server, 5000, router, 5353)], '--in', 'wan', '--explain', '1');
    expect(code).toBe(0);
    expect(stdout).toContain('comes in by wan');
    expect(stdout).toContain('conntrack: NEW, original direction');
    expect(stdout).toContain('routed out by lan');
    expect(stdout).toContain('leaves by lan: 203.0.113.9 > 10.0.0.53');
    expect(stdout).toContain('Accepted by filter FORWARD rule 3, sent out by lan.');
  });

  it('knows answers by the address that stood in for the client', async () => {
    const line = ['--in', 'wan', '--explain', '2', '--json'];
    const packets = [udp(client, 4000, server, 53), udp(server, 53, router, 4000)];
    const { stdout } = await run(packets, ...line);
    const { explain } = JSON.parse(stdout) as { explain: { steps: { note?: string }[]; verdict: string } };
    // From wan nobody may open a connection, so there is none to answer.
    expect(explain.verdict).toBe('DROP');
    const both = await run(packets, '--explain', '2');
    expect(both.stdout).toContain('conntrack: ESTABLISHED, reply direction');
    expect(both.stdout).toContain('leaves by lan: 203.0.113.9 > 10.0.0.7');
  });

  it('answers with ICMP what it cannot forward', async () => {
    const packet = udp(client, 4000, server, 53);
    packet[8] = 1;
    new DataView(packet.buffer).setUint16(10, 0);
    new DataView(packet.buffer).setUint16(10, internetChecksum(packet.subarray(0, 20)));
    const { stdout } = await run([packet], '--in', 'lan', '--explain', '1');
    expect(stdout).toContain('answered with ICMP type 11 code 0');
    expect(stdout).toContain('Dropped by the stack: hop-limit.');
  });

  it.each([
    ['{', 'no JSON'],
    ['{"device":[]}', '"device" is not known here'],
    ['{"devices":[]}', 'devices: there is no device'],
    ['{"devices":[{"name":"a/b"}]}', 'devices[0].name'],
    ['{"devices":[{"name":"a","addresses":["10.0.0.1/33"]}]}', 'devices[0].addresses[0]'],
    ['{"devices":[{"name":"a"}],"routes":[{"to":"default","dev":"b"}]}', 'routes[0].dev'],
    ['{"devices":[{"name":"a"}],"sysctls":{"net.ipv4.ip_forward":"yes"}}', 'sysctls["net.ipv4.ip_forward"]'],
    ['[]', 'an object is expected'],
    ['{"devices":{}}', 'devices: a list is expected'],
    ['{"devices":["a"]}', 'devices[0]: an object is expected'],
    ['{"devices":[{"mtu":1500}]}', 'devices[0].name: a text is expected'],
    ['{"devices":[{"name":"a"},{"name":"a"}]}', 'devices[1].name: a is there already'],
    ['{"devices":[{"name":"a","mtu":67}]}', 'devices[0].mtu: 67 is not possible'],
    ['{"devices":[{"name":"a","mtu":"1500"}]}', 'devices[0].mtu'],
    ['{"devices":[{"name":"a","ifindex":0}]}', 'devices[0].ifindex'],
    ['{"devices":[{"name":"a","ifindex":5},{"name":"b","ifindex":5}]}', 'devices[1].ifindex: 5 is taken'],
    ['{"devices":[{"name":"a","addresses":"10.0.0.1/8"}]}', 'devices[0].addresses: a list is expected'],
    ['{"devices":[{"name":"a","speed":1}]}', 'devices[0]: "speed" is not known here'],
    ['{"devices":[{"name":"a"}],"routes":[{"dev":"a"}]}', 'routes[0].to: a text is expected'],
    ['{"devices":[{"name":"a"}],"routes":[{"to":"10.0.0.0","via":"x","dev":"a"}]}', 'routes[0].via'],
    ['{"devices":[{"name":"a"}],"routes":[{"to":"10.0.0.0/33","dev":"a"}]}', 'routes[0].to'],
    ['{"devices":[{"name":"a"}],"routes":[{"to":"10.0.0.0/8","type":"nat"}]}', 'routes[0].type'],
    ['{"devices":[{"name":"a"}],"routes":[{"to":"::/0","via":"10.0.0.1","dev":"a"}]}', 'different families'],
    ['{"devices":[{"name":"a"}],"routes":[{"to":"default","dev":"a","metric":-1}]}', 'routes[0].metric'],
    ['{"devices":[{"name":"a"}],"sysctls":{"net.ipv4.tcp_ecn":1}}', '"net.ipv4.tcp_ecn" is not known here'],
    ['{"devices":[{"name":"a"}],"sysctls":{"net.ipv4.conf.b.rp_filter":1}}', 'not known here'],
  ])('refuses the configuration %s', async (text, words) => {
    writeFileSync(config, text);
    const { code, stdout, stderr } = await run([udp(client, 1, server, 1)]);
    expect({ code, stdout }).toEqual({ code: 4, stdout: '' });
    expect(stderr).toContain(words);
    expect(stderr).toContain('hint:');
  });

  it('refuses what belongs to the other engine, and devices that are not there', async () => {
    const packets = [udp(client, 1, server, 1)];
    expect((await run(packets, '--local', '10.0.0.1/32')).code).toBe(2);
    expect((await run(packets, '--chain', 'INPUT')).code).toBe(2);
    expect((await run(packets, '--in', 'eth9')).code).toBe(2);
    expect((await sluice(['run', '-4', rules, '--pcap', 'x', '--config', config])).code).toBe(2);
    expect((await sluice(['run', '-4', rules, '--pcap', 'x', '--engine', 'netstack'])).code).toBe(2);
  });
});
