/**
 * What the review of 2023 suspected of reassembly called from programs: the cost of its copies. The same fragments go three
 * ways: the hook of nf_defrag, the function that tc programs would call, and that function's copies alone.
 *
 * Rounds are interleaved and the 10th percentile of each way counts, because machines change their speed. Prints JSON.
 *
 * Run: `npm run bench defrag`.
 */
import {
  bpfIpCheckDefrag,
  ETH_P_IP,
  IpDefragUser,
  ipDefrag,
  ManualClock,
  type NetDevice,
  NetworkNamespace,
  SkBuff,
} from '../../src/netstack/index.ts';

const LINK_HEADER = 14;
const ROUNDS = 20;
const DATAGRAMS = 500;
const device: NetDevice = { ifindex: 2, name: 'eth0', loopback: false, l3mdevIfindex: 0, mtu: 1500 };

/** Frames of one datagram of `payload` bytes, cut for an MTU of 1500. */
function framesOf(payload: number, id: number): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let start = 0; start < payload; start += 1480) {
    const length = Math.min(1480, payload - start);
    const frame = new Uint8Array(LINK_HEADER + 20 + length).fill(0x5a, LINK_HEADER + 20);
    const view = new DataView(frame.buffer, LINK_HEADER);
    view.setUint16(0, 0x4500);
    view.setUint16(2, 20 + length);
    view.setUint16(4, id & 0xffff);
    view.setUint16(6, (start / 8) | (start + length < payload ? 0x2000 : 0));
    view.setUint16(8, 0x4011);
    view.setUint32(12, 0xc0000202);
    view.setUint32(16, 0xc0000201);
    frames.push(frame);
  }
  return frames;
}

interface Way {
  readonly name: string;
  run(frames: readonly Uint8Array[]): void;
}

function ways(): Way[] {
  const [hooked, called] = [1n, 2n].map((cookie) => {
    const net = new NetworkNamespace(cookie, new ManualClock());
    net.addDevice(device);
    return net;
  });
  const host = { net: called!, device, namespaceById: () => undefined };
  let sink = 0;
  return [
    {
      name: 'hook (nf_defrag)',
      run: (frames) => {
        for (const frame of frames)
          ipDefrag(
            hooked!,
            new SkBuff(frame.subarray(LINK_HEADER), { protocol: ETH_P_IP, dev: device }),
            IpDefragUser.CONNTRACK_IN,
          );
      },
    },
    {
      name: 'function (bpf_ip_check_defrag)',
      run: (frames) => {
        for (const frame of frames) {
          const packet = { frame, networkOffset: LINK_HEADER, protocol: ETH_P_IP };
          sink += bpfIpCheckDefrag(host, packet, -1n).frame?.length ?? 0;
        }
      },
    },
    {
      name: 'its copies alone',
      run: (frames) => {
        let whole = LINK_HEADER + 20;
        for (const frame of frames) {
          sink += frame.slice(LINK_HEADER).length;
          whole += frame.length - LINK_HEADER - 20;
        }
        sink += new Uint8Array(whole).fill(sink & 0xff).length;
      },
    },
  ];
}

const results: object[] = [];
for (const payload of [2_000, 8_000, 60_000]) {
  const all = ways();
  const times = new Map(all.map(({ name }) => [name, [] as number[]]));
  const datagrams = Array.from({ length: DATAGRAMS }, (_, id) => id);
  const sets = datagrams.slice(0, 50).map((id) => framesOf(payload, id));
  for (let round = 0; round < ROUNDS; round++)
    for (const way of all) {
      const begin = performance.now();
      for (const id of datagrams) way.run(sets[id % sets.length]!);
      times.get(way.name)!.push(((performance.now() - begin) * 1e6) / DATAGRAMS);
    }
  const tenth = (list: number[]): number => list.sort((a, b) => a - b)[Math.floor(list.length / 10)]!;
  const hook = tenth(times.get(all[0]!.name)!);
  results.push({
    payloadBytes: payload,
    fragments: Math.ceil(payload / 1480),
    ways: all.map(({ name }) => {
      const ns = tenth(times.get(name)!);
      return {
        name,
        nsPerDatagram: Math.round(ns),
        datagramsPerSecond: Math.round(1e9 / ns),
        timesTheHook: Number((ns / hook).toFixed(2)),
      };
    }),
  });
}
console.log(JSON.stringify({ defrag: results }, undefined, 2));
