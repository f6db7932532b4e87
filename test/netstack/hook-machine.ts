/**
 * Executes the few instructions that hook programs consist of, straight from their definition: an engine that shares no code with
 * the machines it stands for. Pointers are numbers of objects in a table, or addresses of `memory`.
 */
import { type AssembledProgram, CALL, EXIT, type Instruction } from '../../src/isa/index.ts';
import {
  ENTRIES,
  type HookActions,
  type HookEntries,
  type HookFunction,
  type HookProgramEngine,
  type LoadedHookProgram,
  type NfHookState,
  nfHookSlow,
  type SkBuff,
  STATE,
} from '../../src/netstack/index.ts';

const STATE_AT = 0x1000;
const LIST_AT = 0x2000;
const LOW_32 = 0xffff_ffffn;

type Call = (arguments_: readonly bigint[]) => bigint;

export class HookMachine implements HookProgramEngine {
  /** Programs loaded and not unloaded. */
  loaded = 0;
  /** How often a program was run. */
  runs = 0;

  load(program: AssembledProgram, functions: ReadonlyMap<string, HookFunction>): LoadedHookProgram {
    this.loaded++;
    return {
      run: (skb, state, entries, actions) => {
        this.runs++;
        return runHookProgram(program, functions, skb, state, entries, actions);
      },
      unload: () => {
        this.loaded--;
      },
    };
  }
}

function runHookProgram(
  program: AssembledProgram,
  functions: ReadonlyMap<string, HookFunction>,
  skb: SkBuff,
  state: NfHookState,
  entries: HookEntries,
  actions: HookActions,
): number {
  const memory = new DataView(new ArrayBuffer(LIST_AT + ENTRIES.first + entries.length * ENTRIES.stride));
  const objects: unknown[] = [undefined, skb];
  memory.setBigUint64(STATE_AT + STATE.priv, BigInt(LIST_AT), true);
  memory.setBigUint64(STATE_AT + STATE.skb, 1n, true);
  for (const [index, { priv }] of entries.entries()) {
    const at = LIST_AT + ENTRIES.first + index * ENTRIES.stride + ENTRIES.priv;
    memory.setBigUint64(at, BigInt(objects.push(priv) - 1), true);
  }
  const calls = new Map<string, Call>([
    [
      'kfree_skb',
      ([packet]) => {
        if (packet !== 1n) throw new Error('frees no packet');
        actions.free(skb, state);
        return 0n;
      },
    ],
    [
      'nf_queue',
      ([packet, at, verdict]) => {
        if (packet !== 1n || at !== BigInt(STATE_AT)) throw new Error('queues no packet');
        const index = memory.getUint16(STATE_AT + STATE.hookIndex, true);
        return BigInt(actions.queue(skb, state, entries, index, Number(BigInt.asIntN(32, verdict!))));
      },
    ],
    [
      'nf_hook_slow',
      ([packet, at, list]) => {
        if (packet !== 1n || at !== BigInt(STATE_AT) || list !== BigInt(LIST_AT))
          throw new Error('wrong arguments');
        if (memory.getBigUint64(STATE_AT + STATE.priv, true) !== BigInt(LIST_AT))
          throw new Error('priv not restored');
        const start = memory.getUint16(STATE_AT + STATE.hookIndex, true);
        return BigInt(nfHookSlow(skb, state, entries, start, actions));
      },
    ],
  ]);
  for (const [name, hook] of functions)
    calls.set(name, ([at]) => {
      if (at !== BigInt(STATE_AT)) throw new Error('hook without state');
      const priv = memory.getBigUint64(STATE_AT + STATE.priv, true);
      // A hook without an argument finds whatever was there before, as in the kernel; it does not look.
      return (
        BigInt(hook(priv < BigInt(objects.length) ? objects[Number(priv)] : undefined, skb, state)) & LOW_32
      );
    });
  return Number(BigInt.asIntN(32, execute(program, memory, calls)));
}

function execute(program: AssembledProgram, memory: DataView, calls: ReadonlyMap<string, Call>): bigint {
  const r = new Array<bigint>(11).fill(0xdead_beefn);
  r[1] = BigInt(STATE_AT);
  for (let at = 0, steps = 0; steps < 100_000; steps++) {
    const instruction = program.instructions[at]!;
    const { opcode, dst, off } = instruction;
    at++;
    if (opcode === EXIT) return r[0]!;
    if (opcode === CALL) {
      const reference = program.references.get(at - 1);
      const call = reference?.kind === 'kfunc' ? calls.get(reference.name) : undefined;
      if (call === undefined) throw new Error(`no function at ${at - 1}`);
      r[0] = call(r.slice(1, 6));
      r.fill(0xdead_beefn, 1, 6);
    } else if (opcode === 0x55) {
      if (r[dst] !== BigInt.asUintN(64, BigInt(instruction.imm))) at += off;
    } else if (opcode === 0x79) {
      r[dst] = memory.getBigUint64(Number(r[instruction.src]!) + off, true);
    } else if (opcode === 0x7b) {
      memory.setBigUint64(Number(r[dst]!) + off, r[instruction.src]!, true);
    } else if (opcode === 0x6b) {
      memory.setUint16(Number(r[dst]!) + off, Number(r[instruction.src]! & 0xffffn), true);
    } else {
      r[dst] = arithmetic(instruction, r);
    }
  }
  throw new Error('program does not end');
}

function arithmetic({ opcode, dst, src, imm }: Instruction, r: readonly bigint[]): bigint {
  const constant = BigInt(imm) & LOW_32;
  switch (opcode) {
    case 0xbf:
      return r[src]!;
    case 0xbc:
      return r[src]! & LOW_32;
    case 0xb4:
      return constant;
    case 0x04:
      return (r[dst]! + constant) & LOW_32;
    case 0x54:
      return r[dst]! & constant;
    case 0x74:
      return (r[dst]! & LOW_32) >> constant;
    case 0x84:
      return -r[dst]! & LOW_32;
    default:
      throw new Error(`opcode ${opcode.toString(16)}`);
  }
}
