/** Packet sockets and tun devices: frames and packets as they are. */
import { expect, test } from 'vitest';
import { changeDevice, findDevice, PacketSocket, Tun } from '../../src/kernel/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { addressBytes, type Host, withNamespaces, withPair } from '../support/netns.ts';

/** An Ethernet frame with this type and payload. */
function frame(to: Uint8Array, from: Uint8Array, type: number, payload: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(Math.max(60, 14 + payload.length));
  bytes.set(to);
  bytes.set(from, 6);
  new DataView(bytes.buffer).setUint16(12, type);
  bytes.set(payload, 14);
  return bytes;
}

function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let index = 0; index < bytes.length; index += 2) sum += (bytes[index]! << 8) | (bytes[index + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

/** An IPv4 UDP packet; UDP checksum 0 (none). */
function udpPacket(from: string, to: string, sourcePort: number, port: number, text: string): Uint8Array {
  const data = new TextEncoder().encode(text);
  const packet = new Uint8Array(28 + data.length);
  const view = new DataView(packet.buffer);
  packet.set([0x45, 0, 0, packet.length, 0, 1, 0, 0, 64, 17]);
  packet.set(addressBytes(from), 12);
  packet.set(addressBytes(to), 16);
  view.setUint16(10, checksum(packet.subarray(0, 20)));
  view.setUint16(20, sourcePort);
  view.setUint16(22, port);
  view.setUint16(24, 8 + data.length);
  packet.set(data, 28);
  return packet;
}

describeKernel('packet sockets', () => {
  const open = (host: Host, device: string, outgoing = false): PacketSocket =>
    host.keep(host.run(() => new PacketSocket({ ifindex: host.device(device).index, outgoing })));

  test('a frame arrives as it was sent, VLAN tag included', () =>
    withPair(({ a, b }) => {
      const [left, right] = [a.device('b'), b.device('a')];
      const sender = open(a, 'b');
      const receiver = open(b, 'a');
      const plain = frame(right.mac, left.mac, 0x88b5, [1, 2, 3]);
      const tagged = frame(right.mac, left.mac, 0x8100, [0x20, 0x07, 0x88, 0xb5, 9]);
      for (const sent of [plain, tagged]) {
        sender.send(sent);
        const got = receiver.receive(1000);
        expect(got?.data).toEqual(sent);
        expect(got).toMatchObject({ packetType: 'host', ifindex: right.index });
      }
      expect(receiver.receive(20)).toBeUndefined();
    }));

  test('broadcasts are told apart, and own frames only shown when asked for', () =>
    withPair(({ a, b }) => {
      const left = a.device('b');
      const all = new Uint8Array(6).fill(0xff);
      const sender = open(a, 'b');
      const [quiet, watcher, receiver] = [open(a, 'b'), open(a, 'b', true), open(b, 'a')];
      sender.send(frame(all, left.mac, 0x88b5, [1]));
      expect(receiver.receive(1000)?.packetType).toBe('broadcast');
      expect(watcher.receive(1000)?.packetType).toBe('outgoing');
      expect(quiet.receive(20)).toBeUndefined();
      expect(() => a.run(() => new PacketSocket({ ifindex: 9999 }))).toThrow(/ENODEV/);
    }));

  test('a hand-made UDP packet reaches a socket', () =>
    withPair(({ a, b }) => {
      const server = b.udp();
      const packet = udpPacket(a.ipv4, b.ipv4, 1234, server.port, 'by hand');
      open(a, 'b').send(frame(b.device('a').mac, a.device('b').mac, 0x0800, [...packet]));
      expect(server.receive()).toMatchObject({ from: a.ipv4, port: 1234 });
    }));
});

describeKernel('tun devices', () => {
  test('packets go in and out of a tun, frames of a tap; the device ends with its descriptor', () =>
    withNamespaces(['m'], async ({ m }) => {
      const tun = m.keep(m.run(() => Tun.create('tun', 'slctun')));
      expect(m.device(tun.name)).toMatchObject({
        name: 'slctun',
        kind: 'tun',
        hardwareType: 65534,
        up: false,
      });
      m.sysctl('net/ipv6/conf/slctun/disable_ipv6', 1);
      m.configure('slctun', '10.9.0.1/24');
      const server = m.udp();
      tun.write(udpPacket('10.9.0.2', '10.9.0.1', 4000, server.port, 'in'));
      expect(server.receive()).toMatchObject({ from: '10.9.0.2', port: 4000 });
      expect(tun.read()).toBeUndefined();
      m.udp(0, '0.0.0.0').send('10.9.0.2', 53, 'out');
      expect(await tun.wait(1000)).toBe(true);
      const packet = tun.read()!;
      expect([packet[0], packet[9], new TextDecoder().decode(packet.slice(28))]).toEqual([0x45, 17, 'out']);
      tun.close();
      expect(m.run(() => findDevice('slctun'))).toBeUndefined();
      const tap = m.keep(m.run(() => Tun.create('tap')));
      expect(m.device(tap.name)).toMatchObject({ name: 'tap0', hardwareType: 1 });
      m.run(() =>
        changeDevice(m.device('tap0').index, { up: true, mac: Uint8Array.of(2, 0, 0, 0, 0, 7), mtu: 1400 }),
      );
      expect(m.device('tap0')).toMatchObject({ mtu: 1400, mac: Uint8Array.of(2, 0, 0, 0, 0, 7) });
      expect(() => Tun.create('tap', 'a-name-of-16-chars')).toThrow(
        expect.objectContaining({ code: 'KERNEL_ARGUMENT' }),
      );
    }));
});
