/**
 * What a look-up costs: nanoseconds that the program adds at 1, 10, 1,000 and 1,000,000 bindings, against an empty
 * sk_lookup program; and connections a second with steering against plain listeners, in one run. Prints JSON.
 *
 * Test runs of the kernel: `hot` repeats one packet, `cold` goes through packets for 4,096 random bindings, each a few
 * times, so that tables come from memory. The 10th percentile of interleaved rounds counts.
 *
 * Run as root: `npm run bench sockets`.
 */
import { SocketSteering } from '../../src/host/index.ts';
import { Assembler } from '../../src/isa/index.ts';
import {
  changeDevice,
  createNamedNetns,
  deleteNetns,
  linkProgram,
  openPinnedProgram,
  Program,
  skLookupContext,
  testRun,
  withNetns,
} from '../../src/kernel/index.ts';
import type { Binding } from '../../src/sklookup/index.ts';
import { addressBytes } from '../../test/support/netns.ts';
import { TcpListener, TcpStream } from '../../test/support/socket.ts';

const SIZES = [1, 10, 1000, 1_000_000] as const;
const ROUNDS = 25;
const HOT_REPEATS = 20_000;
const COLD_PACKETS = 4096;
const CONNECTIONS = 3000;

const name = `slc-${process.pid}-bench`;
const netns = createNamedNetns(name);
withNetns(netns, () => changeDevice(1, { up: true }));

const p10 = (samples: readonly number[]): number =>
  samples.toSorted((a, b) => a - b)[Math.floor(samples.length / 10)]!;

/** Binding `n`: a /32 somewhere in 10.0.0.0/8, its neighbours unbound. */
function address(n: number): Uint8Array {
  const spread = n * 8 + 1;
  return Uint8Array.of(10 + (spread >> 24), (spread >> 16) & 255, (spread >> 8) & 255, spread & 255);
}

function bindingsOf(size: number): Binding[] {
  return Array.from({ length: size }, (_, n) => ({
    label: 'web',
    protocol: 'tcp' as const,
    prefix: { address: { family: 'ipv4' as const, bytes: address(n) }, length: 32 },
    ports: { min: 443, max: 443 },
  }));
}

function contextFor(local: Uint8Array, localPort = 443): Uint8Array {
  return skLookupContext({
    protocol: 6,
    localAddress: local,
    localPort,
    remoteAddress: Uint8Array.of(192, 0, 2, 1),
    remotePort: 4000,
  });
}

try {
  const { steering } = await SocketSteering.load(name);
  const server = withNetns(netns, () => new TcpListener(addressBytes('127.0.0.1'), 0));
  await steering.register(server.fd, { label: 'web' });
  const program = openPinnedProgram(`/sys/fs/bpf/sluice/sockets/${steering.netns.cookie}/program`)!;
  const empty = Program.load({
    type: 'BPF_PROG_TYPE_SK_LOOKUP',
    name: 'slc_empty',
    instructions: linkProgram(new Assembler().return(1).finish(), {}),
    expectedAttachType: 'BPF_SK_LOOKUP',
  });
  const emptyContext = contextFor(address(0));

  const lookups = [];
  for (const size of SIZES) {
    const bindings = bindingsOf(size);
    const start = performance.now();
    await steering.apply({ bindings, labels: new Map() });
    const applyMs = Math.round(performance.now() - start);
    const hit = contextFor(address(size >> 1));
    const miss = contextFor(Uint8Array.of(9, 9, 9, 9));
    const samples = {
      empty: [] as number[],
      hit: [] as number[],
      miss: [] as number[],
      cold: [] as number[],
      coldEmpty: [] as number[],
    };
    const packets = Array.from({ length: COLD_PACKETS }, () =>
      contextFor(address(Math.floor(Math.random() * size))),
    );
    const cold = (which: Program): number => {
      let sum = 0;
      for (const context of packets) sum += testRun(which, { context, repeat: 2 }).durationNs;
      return sum / packets.length;
    };
    for (let round = 0; round < ROUNDS; round++) {
      samples.empty.push(testRun(empty, { context: emptyContext, repeat: HOT_REPEATS }).durationNs);
      samples.hit.push(testRun(program, { context: hit, repeat: HOT_REPEATS }).durationNs);
      samples.miss.push(testRun(program, { context: miss, repeat: HOT_REPEATS }).durationNs);
      if (round % 8 === 0) {
        samples.cold.push(cold(program));
        samples.coldEmpty.push(cold(empty));
      }
    }
    const base = p10(samples.empty);
    lookups.push({
      bindings: size,
      applyMs,
      emptyNs: base,
      addedHitNs: p10(samples.hit) - base,
      addedMissNs: p10(samples.miss) - base,
      addedColdNs: Math.round(Math.min(...samples.cold) - Math.min(...samples.coldEmpty)),
    });
  }

  /** Connections a second to an address; each is accepted and closed. */
  const connections = (target: Uint8Array, port: number): number =>
    withNetns(netns, () => {
      const start = performance.now();
      for (let count = 0; count < CONNECTIONS; count++) {
        const client = TcpStream.connect(target, port, 5000);
        server.accept(5000)!.close();
        client.close();
      }
      return (CONNECTIONS * 1000) / (performance.now() - start);
    });
  await steering.apply({
    bindings: [
      {
        label: 'web',
        protocol: 'tcp',
        prefix: { address: { family: 'ipv4', bytes: Uint8Array.of(127, 1, 0, 0) }, length: 16 },
        ports: { min: 443, max: 443 },
      },
    ],
    labels: new Map(),
  });
  const rates = { plain: [] as number[], steered: [] as number[] };
  for (let round = 0; round < 8; round++) {
    rates.plain.push(connections(addressBytes('127.0.0.1'), server.port));
    rates.steered.push(connections(addressBytes('127.1.0.1'), 443));
  }
  const best = {
    plain: Math.round(Math.max(...rates.plain)),
    steered: Math.round(Math.max(...rates.steered)),
  };
  const ten = lookups.find(({ bindings }) => bindings === 10)!;
  const million = lookups.at(-1)!;
  console.log(
    JSON.stringify({
      bench: 'sockets',
      lookups,
      millionToTen: {
        hot: Number((million.addedHitNs / ten.addedHitNs).toFixed(2)),
        cold: Number((million.addedColdNs / ten.addedColdNs).toFixed(2)),
        target: 2,
      },
      connectionsPerSecond: { ...best, ratio: Number((best.steered / best.plain).toFixed(3)) },
    }),
  );
  program.close();
  empty.close();
  server.close();
  steering.close();
} finally {
  await SocketSteering.unload(name);
  netns.close();
  deleteNetns(name);
}
