/**
 * A hook list run by its generated program, against nf_hook_slow's loop over the same list: five hooks, once each an eBPF
 * program of a netfilter link, once each a function of the stack. Both ways run in the interpreter of the virtual machine:
 * there is no translation to machine code, so the generated program has no indirect call to save, and a frame to enter.
 *
 * Rounds are interleaved and the 10th percentile of each way counts, because machines change their speed. Prints JSON.
 *
 * Run: `npm run bench hook-program`.
 */
import { Assembler, R0, R1, R2, R3, R4, R10 } from '../../src/isa/index.ts';
import {
  attachNetfilter,
  ETH_P_IP,
  GeneratedHooks,
  HookProgramCache,
  MachineHookEngine,
  ManualClock,
  type NetfilterProgram,
  NetworkNamespace,
  NF_ACCEPT,
  NF_INET_FORWARD,
  NFPROTO_IPV4,
  PathMachine,
  SkBuff,
} from '../../src/netstack/index.ts';
import { Machine } from '../../src/vm/index.ts';

const ROUNDS = 40;
const PACKETS = 2000;
const HOOKS = 5;

/** A program that looks at the packet as a small filter would: 64 bytes of header by a dynptr, one comparison. */
function filter(machine: PathMachine, index: number): NetfilterProgram {
  const asm = new Assembler();
  const accept = asm.label('accept');
  asm.load('u64', R1, R1, 8).mov(R2, 0).mov(R3, R10).add(R3, -16).callKfunc('bpf_dynptr_from_skb');
  asm.mov(R1, R10).add(R1, -16).mov(R2, 8).mov(R3, R10).add(R3, -24);
  asm.mov(R4, 4).callKfunc('bpf_dynptr_slice').jump('==', R0, 0, accept);
  asm
    .load('u8', R0, R0, 1)
    .jump('!=', R0, 200 + index, accept)
    .return(0);
  asm.place(accept).return(1);
  return machine.load(asm.finish(), 'BPF_PROG_TYPE_NETFILTER', `filter ${index}`);
}

interface Way {
  readonly name: string;
  run(skb: SkBuff): number;
}

function way(name: string, generated: boolean, ebpf: boolean): Way {
  const net = new NetworkNamespace(1n, new ManualClock());
  const machine = new PathMachine(new Machine());
  if (generated)
    new GeneratedHooks(net, net.netfilter, new HookProgramCache(new MachineHookEngine()), (error) => {
      throw error;
    });
  for (let index = 0; index < HOOKS; index++) {
    const place = { pf: NFPROTO_IPV4, hooknum: NF_INET_FORWARD, priority: index };
    if (ebpf) attachNetfilter(net, filter(machine, index), place);
    else
      net.netfilter.register({
        ...place,
        name: `function ${index}`,
        hook: (_priv, skb) => (skb.data[9] === 200 + index ? 0 : NF_ACCEPT),
      });
  }
  return { name, run: (skb) => net.netfilter.run(NFPROTO_IPV4, NF_INET_FORWARD, skb, {}, () => {}) };
}

const kinds = [
  { kind: 'eBPF programs', loop: way('loop', false, true), program: way('program', true, true) },
  { kind: 'functions', loop: way('loop', false, false), program: way('program', true, false) },
];
const skb = new SkBuff(new Uint8Array(64).fill(17), { protocol: ETH_P_IP });
const times = new Map<Way, number[]>();
for (let round = 0; round < ROUNDS; round++)
  for (const { loop, program } of kinds)
    for (const one of [loop, program]) {
      const start = performance.now();
      let passed = 0;
      for (let packet = 0; packet < PACKETS; packet++) passed += one.run(skb);
      const ns = ((performance.now() - start) * 1e6) / PACKETS;
      if (passed !== PACKETS) throw new Error(`${one.name}: ${passed} of ${PACKETS} packets passed`);
      const list = times.get(one) ?? [];
      list.push(ns);
      times.set(one, list);
    }
const tenth = (one: Way): number => times.get(one)!.sort((a, b) => a - b)[Math.floor(ROUNDS / 10)]!;
const results = kinds.map(({ kind, loop, program }) => ({
  hooks: `${HOOKS} ${kind}`,
  loopNs: Math.round(tenth(loop)),
  programNs: Math.round(tenth(program)),
  programOverLoop: Number((tenth(program) / tenth(loop)).toFixed(2)),
}));
console.log(JSON.stringify({ benchmark: 'hook-program', machine: 'interpreter', results }, undefined, 2));
