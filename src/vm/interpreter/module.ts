/**
 * The interpreter itself: a WebAssembly function that walks decoded records.
 *
 * It is written in WebAssembly because there 64-bit registers are native and memory is one flat space; in JavaScript a
 * register would be a pair of 32-bit halves, at several times the cost. The module is generated when it is first
 * needed (some 20 KB, about a millisecond) and shared by all machines.
 *
 * Shape: `loop { block taken { block leave { block N … block 0 { br_table } handler 0 … handler N } } leave … } taken … }`.
 */
import * as layout from '../layout.ts';
import { MAX_PAGES } from '../memory.ts';
import { type BranchTarget, I32, ModuleBuilder } from '../wasm/encoder.ts';
import { compileModule, type WasmModule } from '../wasm/host.ts';
import { leaveFrame, spendOne } from './control.ts';
import { Emitter, sharedLocals } from './emitter.ts';
import { HANDLERS } from './handlers.ts';

let compiled: WasmModule | undefined;

/** The compiled interpreter. Exports `start(ip, r1, r2)`, a fresh run, and `run(ip, frame)`, which runs from a record until its frame is left. */
export function interpreterModule(): WasmModule {
  compiled ??= compileModule(buildInterpreter());
  return compiled;
}

/** The interpreter's module as bytes. */
export function buildInterpreter(): Uint8Array {
  const module = new ModuleBuilder(MAX_PAGES);
  const imports = {
    region: module.importFunction('region', [I32, I32, I32, I32], [I32]),
    call: module.importFunction('call', [I32], [I32]),
    target: module.importFunction('target', [I32, I32, I32], [I32]),
    packet: module.importFunction('packet', [I32, I32, I32], [I32]),
    stop: module.importFunction('stop', [I32, I32], []),
  };
  const body = module.exportFunction('run', [I32, I32], []);
  const runIndex = Object.keys(imports).length;
  const ip = 0;
  const base = 1;
  const frame = body.local(I32);
  const shared = sharedLocals(body);

  body.get(base).set(frame).get(ip).set(shared.start);
  body.i32(layout.CONTROL_BUDGET).memory('i64.load', 0).set(shared.budget);

  const dispatch = body.loop();
  const taken = body.block();
  const leave = body.block();
  const e = new Emitter(body, ip, frame, imports, { dispatch, taken, leave }, shared);
  const cases: BranchTarget[] = [];
  for (let number = 0; number < HANDLERS.size; number++) cases.unshift(body.block());
  body.get(ip).memory('i32.load16_u', 0).branchTable(cases, cases[0]!);
  for (const handler of HANDLERS.values()) {
    body.end();
    handler(e);
  }

  body.end(); // leave
  e.account();
  body.get(frame).get(base).op('i32.eq').if();
  body
    .i32(layout.CONTROL_BUDGET)
    .get(shared.budget)
    .i64(BigInt(layout.RECORD_BYTES))
    .op('i64.sub')
    .memory('i64.store', 0);
  body.op('return').end();
  leaveFrame(e);
  body.get(ip).set(shared.start);
  spendOne(e);
  body.branch(dispatch);

  body.end(); // taken
  e.account();
  spendOne(e);
  body.get(ip).get(ip).memory('i32.load', layout.RECORD_OFF).op('i32.add').tee(ip).set(shared.start);
  body.branch(dispatch);
  body.end();
  buildStart(module, runIndex);
  return module.encode();
}

/** `start(ip, r1, r2)`: a fresh run. Registers, stack and counters are set here, where that takes a few nanoseconds. */
function buildStart(module: ModuleBuilder, runIndex: number): void {
  const body = module.exportFunction('start', [I32, I32, I32], []);
  const [ip, r1, r2] = [0, 1, 2];
  for (let register = 0; register < 10; register++) {
    body.i32(layout.REGISTERS + register * 8);
    if (register === 1) body.get(r1).op('i64.extend_i32_u');
    else if (register === 2) body.get(r2).op('i64.extend_i32_u');
    else body.i64(0n);
    body.memory('i64.store', 0);
  }
  body
    .i32(layout.REGISTERS + 80)
    .i64(BigInt(layout.STACK_TOP))
    .memory('i64.store', 0);
  body
    .i32(layout.STACK_TOP - layout.STACK_BYTES_PER_FRAME)
    .i32(0)
    .i32(layout.STACK_BYTES_PER_FRAME)
    .fill();
  body.i32(layout.CONTROL_BUDGET).i32(layout.CONTROL_LIMIT).memory('i64.load', 0).memory('i64.store', 0);
  body.i32(layout.CONTROL_MAY_GOTO).i32(layout.MAY_GOTO_ITERATIONS).memory('i32.store', 0);
  body.get(ip).i32(layout.FRAMES).call(runIndex);
}
