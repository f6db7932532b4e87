/** Who is measured: each in a namespace of its own, with the same end of all packets. */
import { type CompiledPolicy, compilePolicy, entryIndex, type HookName } from '../../src/compile/index.ts';
import { netnsTables } from '../../src/host/policy/surroundings.ts';
import { attachNetfilter, attachTcx, attachXdp, type Link } from '../../src/kernel/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import type { Host } from '../../test/support/netns.ts';
import { LoadedPolicy } from '../../test/support/policy.ts';
import type { FlowGenerator } from '../scale/generator.ts';
import { makeHost } from '../scale/subjects.ts';

export interface Subject {
  readonly name: string;
  readonly samples: number[];
  /** Nanoseconds a packet. */
  readonly sample: (generator: FlowGenerator, packets: number) => number;
  /** True when the sample is the program alone, not a packet's whole way. */
  readonly alone: boolean;
  readonly times: { readonly compileMs?: number; readonly loadMs: number; readonly instructions?: number };
  readonly close: () => void;
}

const HOOKS = ['xdp', 'tcx-ingress', 'netfilter', 'cgroup-ingress'] as const satisfies readonly HookName[];
const LOOPBACK = 1;
/** Of the flows' packets: an IPv4 packet of 40 bytes to UDP. */
const PACKET = 40;

function saveText(sources: readonly string[]): string {
  return [
    '*filter',
    ':INPUT ACCEPT [0:0]',
    ...sources.map((one) => `-A INPUT -s ${one} -j ACCEPT`),
    'COMMIT',
    '',
  ].join('\n');
}

function nftText(sources: readonly string[]): string {
  const rules = sources.map((one) => `ip saddr ${one} counter accept`).join('\n');
  return `table ip t { chain input { type filter hook input priority 0; policy accept;\n${rules}\n }\n}\n`;
}

function attach(host: Host, policy: CompiledPolicy, loaded: LoadedPolicy): Link {
  const [program] = policy.programs.filter(({ point }) => point.flavour !== 'netfilter' || point.hook === 1);
  const { point } = program!;
  const dispatcher = loaded.dispatchers.get(entryIndex(point))!;
  return host.run(() => {
    switch (point.flavour) {
      case 'xdp':
        return attachXdp(dispatcher, { ifindex: LOOPBACK, mode: 'generic' });
      case 'tcx':
        return attachTcx(dispatcher, { ifindex: LOOPBACK, direction: 'ingress' });
      default:
        return attachNetfilter(dispatcher, { family: 'ipv4', hook: 1, priority: 1 });
    }
  });
}

function through(name: string, setUp: (host: Host) => Omit<Subject['times'], 'loadMs'>): Subject {
  const host = makeHost(name.replaceAll(/[^a-z]/g, '').slice(0, 8));
  try {
    const start = performance.now();
    const times = setUp(host);
    return {
      name,
      samples: [],
      sample: (generator, packets) => host.run(() => generator.send(packets)),
      alone: false,
      times: { loadMs: performance.now() - start - (times.compileMs ?? 0), ...times },
      close: () => host.close(),
    };
  } catch (error) {
    host.close();
    throw error;
  }
}

function compileFor(
  hook: HookName,
  text: string,
): { policy: CompiledPolicy; compileMs: number; instructions: number } {
  const start = performance.now();
  const { ruleset } = parseRuleset(text, { file: 'bench', family: 'ipv4' });
  const policy = compilePolicy([ruleset], { hooks: [hook], strategy: 'inline' });
  const compileMs = performance.now() - start;
  const own = policy.programs.find(({ point }) => point.flavour !== 'netfilter' || point.hook === 1)!;
  return { policy, compileMs, instructions: own.code.instructions.length };
}

function sluice(hook: HookName, text: string): Subject {
  return through(`sluice ${hook}`, (host) => {
    const { policy, compileMs, instructions } = compileFor(hook, text);
    const loaded = host.keep(host.run(() => new LoadedPolicy(policy, netnsTables())));
    host.keep(attach(host, policy, loaded));
    return { compileMs, instructions };
  });
}

/** Sockets' programs are timed by themselves, on a packet from the last rule's source. */
function sluiceAlone(hook: HookName, text: string, source: string): Subject {
  const { policy, compileMs, instructions } = compileFor(hook, text);
  const start = performance.now();
  const loaded = new LoadedPolicy(policy);
  const data = new Uint8Array(14 + PACKET);
  data.set([8, 0], 12);
  data.set([0x45, 0, 0, PACKET, 0, 0, 0, 0, 64, 17], 14);
  data.set(source.split('/')[0]!.split('.').map(Number), 26);
  data.set([10, 0, 0, 1], 30);
  const place = entryIndex(policy.programs[0]!.point);
  return {
    name: `sluice ${hook}`,
    samples: [],
    sample: (_, packets) => loaded.run(place, { data, repeat: packets }).durationNs,
    alone: true,
    times: { compileMs, instructions, loadMs: performance.now() - start },
    close: () => loaded.close(),
  };
}

/** The first is the namespace without rules. */
export function subjectsFor(sources: readonly string[]): Subject[] {
  const text = saveText(sources);
  const middle = sources[Math.floor(sources.length / 2)]!;
  return [
    through('bare', () => ({})),
    ...HOOKS.map((hook) =>
      hook === 'cgroup-ingress' ? sluiceAlone(hook, text, middle) : sluice(hook, text),
    ),
    through('iptables-legacy', (host) => {
      host.exec('iptables-legacy-restore', [], { input: text });
      return {};
    }),
    through('nft', (host) => {
      host.exec('nft', ['-f', '-'], { input: nftText(sources) });
      return {};
    }),
  ];
}
