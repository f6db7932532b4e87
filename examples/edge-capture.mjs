/**
 * Makes examples/edge.pcapng: what an edge host with the rules of edge.rules sees in ten seconds, at both of its
 * devices. Deterministic: the same bytes every time. Run it after `npm run build`: node examples/edge-capture.mjs
 */
import { writeFileSync } from 'node:fs';
import { parseAddress } from '../dist/net/index.js';
import {
  emitArp,
  emitEthernet,
  emitIcmp,
  emitIpv4,
  emitTcp,
  emitUdp,
  fillTransportChecksum,
  IpPacket,
  loadIpPacket,
  pcapngHeader,
  pcapngInterface,
  pcapngPacket,
  TcpFlag,
} from '../dist/wire/index.js';

const US = '192.0.2.1';
const CLIENT = '203.0.113.40';
const ADMIN = '198.51.100.9';
const SCANNER = '203.0.113.66';
const INSIDE = '10.1.0.7';
const MAIL = '10.1.0.20';
const { SYN, ACK, FIN, RST, PSH } = TcpFlag;

const packets = [];
let nowMs = 0;
let id = 1;
const address = (text) => parseAddress(text).bytes;

function frame(device, etherType, payload) {
  const data = emitEthernet(
    {
      destination: Uint8Array.of(2, 0, 0, 0, 0, 1),
      source: Uint8Array.of(2, 0, 0, 0, 0, device + 10),
      etherType,
    },
    payload,
  );
  packets.push({ device, timestampNs: 1_750_000_000_000_000_000n + BigInt(nowMs) * 1_000_000n, data });
  nowMs += 7;
}

function ip(device, source, destination, protocol, payload, more = {}) {
  const header = {
    tos: 0,
    id: id++,
    reservedFlag: false,
    dontFragment: false,
    moreFragments: false,
    fragmentOffset: 0,
    ttl: 61,
    protocol,
    source: address(source),
    destination: address(destination),
    options: new Uint8Array(0),
    ...more,
  };
  const bytes = emitIpv4(header, payload);
  const packet = new IpPacket();
  loadIpPacket(packet, bytes, 0);
  fillTransportChecksum(packet);
  frame(device, 0x0800, bytes);
}

const tcp = (
  device,
  from,
  fromPort,
  to,
  toPort,
  flags,
  sequence = 1000,
  acknowledgment = 0,
  payload = new Uint8Array(0),
) =>
  ip(
    device,
    from,
    to,
    6,
    emitTcp(
      {
        sourcePort: fromPort,
        destinationPort: toPort,
        sequence,
        acknowledgment,
        reserved: 0,
        flags,
        window: 29200,
        urgentPointer: 0,
        options: new Uint8Array(0),
      },
      payload,
    ),
  );
const udp = (device, from, fromPort, to, toPort, payload) =>
  ip(device, from, to, 17, emitUdp({ sourcePort: fromPort, destinationPort: toPort }, payload));
const echo = (device, from, to, type, id) =>
  ip(device, from, to, 1, emitIcmp({ type, code: 0, rest: (id << 16) | 1 }, new Uint8Array(32)));
const text = (words) => new TextEncoder().encode(words);

/** A whole TCP session, both directions as this host sees them. */
function session(device, client, clientPort, server, serverPort, request, answer) {
  const back = device;
  tcp(device, client, clientPort, server, serverPort, SYN, 1000);
  tcp(back, server, serverPort, client, clientPort, SYN | ACK, 5000, 1001);
  tcp(device, client, clientPort, server, serverPort, ACK, 1001, 5001);
  tcp(device, client, clientPort, server, serverPort, PSH | ACK, 1001, 5001, text(request));
  tcp(back, server, serverPort, client, clientPort, PSH | ACK, 5001, 1001 + request.length, text(answer));
  tcp(device, client, clientPort, server, serverPort, ACK, 1001 + request.length, 5001 + answer.length);
  tcp(device, client, clientPort, server, serverPort, FIN | ACK, 1001 + request.length, 5001 + answer.length);
  tcp(back, server, serverPort, client, clientPort, FIN | ACK, 5001 + answer.length, 1002 + request.length);
  tcp(device, client, clientPort, server, serverPort, ACK, 1002 + request.length, 5002 + answer.length);
}

frame(
  0,
  0x0806,
  emitArp({
    hardwareType: 1,
    protocolType: 0x0800,
    hardwareLength: 6,
    protocolLength: 4,
    operation: 1,
    senderHardware: Uint8Array.of(2, 0, 0, 0, 0, 10),
    senderProtocol: address(CLIENT),
    targetHardware: new Uint8Array(6),
    targetProtocol: address(US),
  }),
);
session(0, CLIENT, 40001, US, 443, 'a request over TLS', 'and its answer');
session(0, CLIENT, 40002, US, 80, 'GET / HTTP/1.1\r\n\r\n', 'HTTP/1.1 200 OK\r\n\r\nhello');
session(0, ADMIN, 51022, US, 22, 'SSH-2.0-client\r\n', 'SSH-2.0-server\r\n');
for (let id = 1; id <= 9; id++) {
  echo(0, CLIENT, US, 8, id);
  if (id <= 5) echo(0, US, CLIENT, 0, id);
}
udp(0, CLIENT, 33000, US, 53, new Uint8Array(33));
udp(0, US, 53, CLIENT, 33000, new Uint8Array(120));
for (const port of [21, 23, 25, 110, 135, 139, 445, 1433, 3306, 3389, 5900, 8080])
  tcp(0, SCANNER, 60123, US, port, SYN, 77);
for (let attempt = 0; attempt < 6; attempt++) tcp(0, SCANNER, 61000 + attempt, US, 22, SYN, 9000 + attempt);
tcp(0, SCANNER, 60200, US, 80, 0, 1);
tcp(0, SCANNER, 60201, US, 80, SYN | FIN, 1);
tcp(0, SCANNER, 60202, US, 443, ACK, 4242, 1);
tcp(0, SCANNER, 60203, US, 443, RST, 4243, 0);
udp(0, SCANNER, 60300, US, 161, new Uint8Array(40));
tcp(0, '10.9.9.9', 1024, US, 80, SYN, 1);
// A datagram in two pieces to a port nobody may reach: only the first piece shows the port.
const datagram = emitUdp({ sourcePort: 5353, destinationPort: 4444 }, new Uint8Array(1600));
ip(0, SCANNER, US, 17, datagram.subarray(0, 1480), { id: 900, moreFragments: true });
ip(0, SCANNER, US, 17, datagram.subarray(1480), { id: 900, fragmentOffset: 185 });
// The network behind it goes out, and answers come back.
tcp(1, INSIDE, 42000, CLIENT, 443, SYN, 100);
tcp(0, CLIENT, 443, INSIDE, 42000, SYN | ACK, 700, 101);
tcp(1, INSIDE, 42000, CLIENT, 443, ACK, 101, 701);
tcp(0, CLIENT, 25123, MAIL, 25, SYN, 300);
tcp(0, SCANNER, 60400, INSIDE, 445, SYN, 300);
udp(0, CLIENT, 7000, '10.1.0.8', 5060, new Uint8Array(20));

const parts = [
  pcapngHeader(),
  pcapngInterface({ linkType: 1, name: 'eth0' }),
  pcapngInterface({ linkType: 1, name: 'eth1' }),
  ...packets.map(({ device, ...packet }) => pcapngPacket(packet, device)),
];
writeFileSync(new URL('edge.pcapng', import.meta.url), Buffer.concat(parts));
