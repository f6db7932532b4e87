/**
 * What a look-up costs: nanoseconds that the program adds at 1, 10, 1,000 and 1,000,000 bindings, against an empty
 * sk_lookup program; and connections a second with steering against plain listeners, in one run. Prints JSON.
 *
 * Test runs of the kernel: `hot` and `miss` repeat one packet. `random` looks up packets for random bindings of the whole
 * set, drawn inside the kernel by an XDP program that calls bpf_sk_lookup_tcp, so that tables come from memory. The 10th
 * percentile of interleaved rounds counts.
 *
 * Run as root: `npm run bench sockets`.
 */
import { SocketSteering } from '../../src/host/index.ts';
import { Assembler, R0, R1, R2, R3, R4, R5, R6, R10 } from '../../src/isa/index.ts';
import {
  attachSkLookup,
  changeDevice,
  createNamedNetns,
  deleteNetns,
  type Link,
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
const RANDOM_REPEATS = 50_000;
const CONNECTIONS = 1000;
const CONNECTION_ROUNDS = 40;

const name = `slc-${process.pid}-bench`;
const netns = createNamedNetns(name);
withNetns(netns, () => changeDevice(1, { up: true }));
const plainName = `${name}-empty`;
const plain = createNamedNetns(plainName);
let emptyLink: Link | undefined;

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

/** An XDP program that looks up a connection to a random one of so many bindings, by {@link address}. */
function randomLookups(size: number): Program {
  const asm = new Assembler();
  const missing = asm.label('missing');
  asm.mov(R6, R1).call('bpf_get_prandom_u32').alu32('mod', R0, size);
  asm.mul(R0, 8).add(R0, 0x0a000001).toBe(R0, 32);
  asm.store('u32', R10, -12, 0x010200c0).store('u32', R10, -8, R0).store('u32', R10, -4, 0xbb010a00);
  asm.mov(R1, R6).mov(R2, R10).add(R2, -12).mov(R3, 12).mov(R4, -1).mov(R5, 0).call('bpf_sk_lookup_tcp');
  asm.jump('==', R0, 0, missing).mov(R1, R0).call('bpf_sk_release').place(missing).return(1);
  return Program.load({
    type: 'BPF_PROG_TYPE_XDP',
    name: 'slc_random',
    instructions: linkProgram(asm.finish(), {}),
  });
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
  // In a namespace with the empty program alone, the same random look-ups: what all but the program takes.
  emptyLink = attachSkLookup(empty, plain.number);

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
      random: [] as number[],
      randomEmpty: [] as number[],
    };
    using random = randomLookups(size);
    for (let round = 0; round < ROUNDS; round++) {
      samples.empty.push(testRun(empty, { context: emptyContext, repeat: HOT_REPEATS }).durationNs);
      samples.hit.push(testRun(program, { context: hit, repeat: HOT_REPEATS }).durationNs);
      samples.miss.push(testRun(program, { context: miss, repeat: HOT_REPEATS }).durationNs);
      const packet = { data: new Uint8Array(64), repeat: RANDOM_REPEATS };
      samples.random.push(withNetns(netns, () => testRun(random, packet)).durationNs);
      samples.randomEmpty.push(withNetns(plain, () => testRun(random, packet)).durationNs);
    }
    const base = p10(samples.empty);
    lookups.push({
      bindings: size,
      applyMs,
      emptyNs: base,
      addedHitNs: p10(samples.hit) - base,
      addedMissNs: p10(samples.miss) - base,
      addedRandomNs: Math.round(p10(samples.random) - p10(samples.randomEmpty)),
      wholeRandomNs: p10(samples.random),
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
  for (let round = 0; round < CONNECTION_ROUNDS; round++) {
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
        random: Number((million.addedRandomNs / ten.addedRandomNs).toFixed(2)),
        wholeRandom: Number((million.wholeRandomNs / ten.wholeRandomNs).toFixed(2)),
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
  emptyLink?.close();
  plain.close();
  deleteNetns(plainName);
  netns.close();
  deleteNetns(name);
}
