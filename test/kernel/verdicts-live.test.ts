/**
 * What becomes of a packet after each verdict of programs at devices, those that have no meaning among them: the same programs
 * at XDP, tc ingress and tc egress of a router in a namespace and of a netstack made from it.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { StackTables } from '../../src/host/index.ts';
import { Assembler, R0, R1, R2 } from '../../src/isa/index.ts';
import { attachTcx, attachXdp, type Link } from '../../src/kernel/index.ts';
import { AttachType, NetworkStack, PathMachine } from '../../src/netstack/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { Machine } from '../../src/vm/index.ts';
import { DEFAULT_SOURCE_MAC } from '../support/generate/packets.ts';
import { buildPacket, type Shape } from '../support/generate/shape.ts';
import { ADDRESSES, DEVICES, prefix } from '../support/generate/world.ts';
import { describeKernel } from '../support/kernel.ts';
import { openTaps, sentByKernel } from '../support/live-stack.ts';
import { LiveTable, tableSocket } from '../support/live-table.ts';
import { addressBytes, withNamespaces } from '../support/netns.ts';
import { loadProgram } from '../support/program.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 1_500 : 60;

/** What a program does: says a number, or asks for a redirection and says what the helper said. */
type Verdict =
  | { readonly kind: 'number'; readonly number: number }
  | { readonly kind: 'redirect'; readonly device: number; readonly flags: number };
type Place = 'xdp' | 'tc-ingress' | 'tc-egress';

const numbers: fc.Arbitrary<Verdict> = fc
  .oneof(fc.integer({ min: -3, max: 12 }), fc.constantFrom(255, 256, 0x7fffffff, -0x80000000))
  .map((number) => ({ kind: 'number', number }));

/** Devices by index: the two of the router, and one that is not there. */
const redirects = (flags: readonly number[]): fc.Arbitrary<Verdict> =>
  fc.record({
    kind: fc.constant('redirect' as const),
    device: fc.constantFrom(0, 1, 1, 2),
    flags: fc.constantFrom(...flags),
  });

const scripts = fc.record({
  xdp: fc.option(fc.oneof(numbers, redirects([0, 1])), { nil: undefined }),
  ingress: fc.array(fc.oneof(numbers, redirects([0])), { maxLength: 3 }),
  egress: fc.array(numbers, { maxLength: 3 }),
});
type Script = typeof scripts extends fc.Arbitrary<infer T> ? T : never;

function emitter(verdict: Verdict, indexes: readonly number[]): (asm: Assembler) => void {
  if (verdict.kind === 'number') return (asm) => void asm.mov(R0, verdict.number).exit();
  const ifindex = indexes[verdict.device] ?? 999;
  return (asm) => void asm.mov(R1, ifindex).mov(R2, verdict.flags).call('bpf_redirect').exit();
}

const packet: Shape = {
  family: 'ipv4',
  source: addressBytes('10.7.0.2'),
  destination: addressBytes('172.16.9.5'),
  tos: 0,
  ttl: 64,
  id: 7,
  dontFragment: true,
  ipOptions: new Uint8Array(),
  extensions: [],
  transport: { kind: 'ports', protocol: 17, sourcePort: 4000, destinationPort: 5000 },
  payloadBytes: 8,
  inDevice: 'eth0',
  sourceMac: DEFAULT_SOURCE_MAC,
};

const CHAINS = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'] as const;
const RULES = ['*mangle', ...CHAINS.map((chain) => `:${chain} ACCEPT [0:0]`), 'COMMIT', ''].join('\n');

/** The netstack's router with the programs of a script: what left it, and how many packets each hook saw. */
function inNetstack(
  { xdp, ingress, egress }: Script,
  indexes: readonly number[],
  bytes: Uint8Array,
  mac: Uint8Array,
) {
  const machine = new PathMachine(new Machine());
  const sent: string[] = [];
  const stack = new NetworkStack({
    clock: { nowMs: () => performance.now() },
    random32: () => 0,
    devices: DEVICES.map((name, index) => ({ name, ifindex: indexes[index]! })),
    addresses: ADDRESSES.ipv4.map(({ device, address }) => ({ device, prefix: prefix(address) })),
    routes: [],
    settings: { forwarding: { ipv4: true, ipv6: false }, sendRedirects: false },
    runProgram: (...given) => machine.run(...given),
    transmit: (device, data) => sent.push(`${device.name} ${Buffer.from(data).toString('hex')}`),
  });
  machine.serve(stack);
  const { tables } = new StackTables(stack, parseRuleset(RULES, { file: 'rules', family: 'ipv4' }).ruleset);
  const load = (verdict: Verdict, type: 'XDP' | 'SCHED_CLS') => {
    const asm = new Assembler();
    emitter(verdict, indexes)(asm);
    return machine.load(asm.finish(), `BPF_PROG_TYPE_${type}`, type);
  };
  if (xdp !== undefined) stack.xdp.attach(load(xdp, 'XDP'), { ifindex: indexes[0]! });
  for (const [verdicts, ifindex, attachType] of [
    [ingress, indexes[0]!, AttachType.TCX_INGRESS],
    [egress, indexes[1]!, AttachType.TCX_EGRESS],
  ] as const)
    for (const verdict of verdicts) stack.tcx.attach(load(verdict, 'SCHED_CLS'), { ifindex, attachType });
  stack.receive({ family: 'ipv4', bytes, mac }, 'eth0');
  const mangle = tables.get('mangle')!;
  const seen = CHAINS.map((chain) => Number(mangle.chains.get(chain)!.policyCounters.packets));
  return { sent: sent.sort(), seen };
}

describeKernel('verdicts of programs at devices', () => {
  test('have the same effect in the kernel and in the netstack', async () => {
    const reached = new Map<string, number>();
    await withNamespaces(['fw'], ({ fw }) => {
      const taps = openTaps(fw);
      for (const name of ['all', ...DEVICES]) fw.sysctl(`net/ipv4/conf/${name}/send_redirects`, 0);
      fw.exec('ip', ['route', 'del', 'default']);
      const indexes = DEVICES.map((name) => fw.device(name).index);
      const socket = tableSocket(fw, 'ipv4');
      const bytes = buildPacket(packet);
      const attach = (verdict: Verdict, place: Place): Link => {
        const type = place === 'xdp' ? 'BPF_PROG_TYPE_XDP' : 'BPF_PROG_TYPE_SCHED_CLS';
        const program = loadProgram(type, emitter(verdict, indexes));
        try {
          return fw.run(() =>
            place === 'xdp'
              ? attachXdp(program, { ifindex: indexes[0]!, mode: 'generic' })
              : attachTcx(program, {
                  ifindex: indexes[place === 'tc-ingress' ? 0 : 1]!,
                  direction: place === 'tc-ingress' ? 'ingress' : 'egress',
                }),
          );
        } finally {
          program.close();
        }
      };
      const property = fc.property(scripts, (script) => {
        fw.exec('iptables-legacy-restore', ['-w'], { input: RULES });
        const table = new LiveTable(socket, 'ipv4', 'mangle');
        const links: Link[] = [];
        try {
          if (script.xdp !== undefined) links.push(attach(script.xdp, 'xdp'));
          for (const verdict of script.ingress) links.push(attach(verdict, 'tc-ingress'));
          for (const verdict of script.egress) links.push(attach(verdict, 'tc-egress'));
          sentByKernel(taps, 'ipv4');
          const mac = taps.get('eth0')!.inject(bytes);
          const sent = sentByKernel(taps, 'ipv4').sort();
          const counters = table.read();
          const seen = CHAINS.map((chain) =>
            Number(counters.find((one) => one.chain === chain && one.rule === 'policy')!.packets),
          );
          const where = sent.map((line) => line.split(' ')[0]).join('+') || 'nowhere';
          reached.set(where, (reached.get(where) ?? 0) + 1);
          expect(inNetstack(script, indexes, bytes, mac)).toEqual({ sent, seen });
        } finally {
          for (const link of links.reverse()) link.close();
        }
      });
      fc.assert(property, { numRuns: RUNS });
    });
    console.log(`packets went to ${[...reached].map(([where, times]) => `${where} ${times}`).join(', ')}`);
    expect([...reached.keys()].sort()).toEqual(['eth0', 'eth1', 'nowhere']);
  });
});
