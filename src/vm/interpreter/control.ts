/** Handlers of jumps and calls (RFC 9669 §4.3). */
import * as layout from '../layout.ts';
import type { PlainOp } from '../wasm/encoder.ts';
import type { Emitter } from './emitter.ts';
import type { Handlers } from './handlers.ts';

/** What `stop` is told. */
export const STOP_INVALID = 0;
export const STOP_BUDGET = 1;
export const STOP_CALL_DEPTH = 2;

/** Fields of a saved frame: i32 record to return to, then r6..r9. */
const FRAME_RETURN = 0;
const FRAME_REGISTERS = 8;
const SAVED = [6, 7, 8, 9] as const;

const CONDITIONS: readonly (readonly [
  string,
  'eq' | 'ne' | 'gt_u' | 'ge_u' | 'lt_u' | 'le_u' | 'gt_s' | 'ge_s' | 'lt_s' | 'le_s',
])[] = [
  ['jeq', 'eq'],
  ['jne', 'ne'],
  ['jgt', 'gt_u'],
  ['jge', 'ge_u'],
  ['jlt', 'lt_u'],
  ['jle', 'le_u'],
  ['jsgt', 'gt_s'],
  ['jsge', 'ge_s'],
  ['jslt', 'lt_s'],
  ['jsle', 'le_s'],
];

export function defineControl(handlers: Handlers): void {
  for (const register of [false, true]) {
    const form = register ? 'x' : 'k';
    for (const [name, condition] of CONDITIONS) {
      handlers.set(`${name}64.${form}`, (e) => compare(e, 64, register, `i64.${condition}`));
      handlers.set(`${name}32.${form}`, (e) => compare(e, 32, register, `i32.${condition}`));
    }
    handlers.set(`jset64.${form}`, (e) => {
      e.locateDst();
      e.dst64().operand64(register).op('i64.and').body.i64(0n).op('i64.ne').branchIf(e.labels.taken);
      e.next();
    });
    handlers.set(`jset32.${form}`, (e) => {
      e.locateDst();
      e.dst32().operand32(register).op('i32.and').body.branchIf(e.labels.taken);
      e.next();
    });
  }
  handlers.set('goto', (e) => e.body.branch(e.labels.taken));
  handlers.set('may_goto', (e) => {
    const { body } = e;
    body
      .i32(layout.CONTROL_MAY_GOTO)
      .memory('i32.load', 0)
      .tee(e.narrow)
      .op('i32.eqz')
      .branchIf(e.labels.taken);
    body.i32(layout.CONTROL_MAY_GOTO).get(e.narrow).i32(1).op('i32.sub').memory('i32.store', 0);
    e.next();
  });
  handlers.set('exit', (e) => e.body.branch(e.labels.leave));
  handlers.set('call.function', (e) => {
    enterFrame(e);
    e.body.branch(e.labels.taken);
  });
  handlers.set('call.register', (e) => {
    const { body } = e;
    e.flush();
    e.locateDst();
    body.get(e.ip);
    e.dst32();
    e.dst64().body.i64(32n).op('i64.shr_u').op('i32.wrap_i64').call(e.imports.target).set(e.narrow);
    enterFrame(e);
    body.get(e.narrow).tee(e.ip).set(e.start);
    spendOne(e);
    body.branch(e.labels.dispatch);
  });
  handlers.set('call', (e) => {
    const { body } = e;
    e.flush();
    body.i32(layout.CONTROL_FRAME).get(e.frame).memory('i32.store', 0);
    body.get(e.ip).call(e.imports.call).set(e.narrow);
    e.reload();
    body.get(e.narrow).if();
    body.get(e.narrow).tee(e.ip).set(e.start);
    spendOne(e);
    body.branch(e.labels.dispatch).end();
    e.next();
  });
}

function compare(e: Emitter, width: 32 | 64, register: boolean, op: PlainOp): void {
  e.locateDst();
  if (width === 64) e.dst64().operand64(register);
  else e.dst32().operand32(register);
  e.op(op).body.branchIf(e.labels.taken);
  e.next();
}

/** Counts the instruction that control has just left, and stops the program when the budget is spent. */
export function spendOne(e: Emitter): void {
  const { body } = e;
  body.get(e.budget).i64(BigInt(layout.RECORD_BYTES)).op('i64.sub').tee(e.budget);
  body.i64(0n).op('i64.lt_s').if();
  body.get(e.ip).i32(STOP_BUDGET).call(e.imports.stop).end();
}

/** Saves the caller's frame and gives the callee 512 bytes of stack. */
function enterFrame(e: Emitter): void {
  const { body } = e;
  body
    .get(e.frame)
    .i32(layout.FRAMES + (layout.MAX_FRAMES - 1) * layout.FRAME_BYTES)
    .op('i32.ge_u')
    .if();
  body.get(e.ip).i32(STOP_CALL_DEPTH).call(e.imports.stop).end();
  body.get(e.frame).get(e.ip).i32(layout.RECORD_BYTES).op('i32.add').memory('i32.store', FRAME_RETURN);
  for (const [position, register] of SAVED.entries()) {
    body
      .get(e.frame)
      .i32(layout.REGISTERS + register * 8)
      .memory('i64.load', 0);
    body.memory('i64.store', FRAME_REGISTERS + position * 8);
  }
  body.get(e.frame).i32(layout.FRAME_BYTES).op('i32.add').set(e.frame);
  moveStack(e, -layout.STACK_BYTES_PER_FRAME);
}

/** Restores the caller's frame; `frame` is above it. Leaves the record to return to in `ip`. */
export function leaveFrame(e: Emitter): void {
  const { body } = e;
  body
    .get(e.frame)
    .i32(layout.FRAME_BYTES)
    .op('i32.sub')
    .tee(e.frame)
    .memory('i32.load', FRAME_RETURN)
    .set(e.ip);
  for (const [position, register] of SAVED.entries()) {
    body
      .i32(layout.REGISTERS + register * 8)
      .get(e.frame)
      .memory('i64.load', FRAME_REGISTERS + position * 8);
    body.memory('i64.store', 0);
  }
  moveStack(e, layout.STACK_BYTES_PER_FRAME);
}

/** Moves r10 and the start of the stack's region; its end stays, so its lengths change the other way. */
function moveStack(e: Emitter, bytes: number): void {
  const { body } = e;
  const r10 = layout.REGISTERS + 80;
  body.i32(r10).i32(r10).memory('i64.load', 0).i64(BigInt(bytes)).op('i64.add').memory('i64.store', 0);
  body
    .i32(layout.STACK_REGION)
    .i32(layout.STACK_REGION)
    .memory('i64.load', 0)
    .i64(BigInt(bytes))
    .op('i64.add')
    .memory('i64.store', 0);
  for (let field = 0; field < 8; field++) {
    const at = layout.STACK_REGION + layout.REGION_READ + field * 4;
    body.i32(at).i32(at).memory('i32.load', 0).i32(bytes).op('i32.sub').memory('i32.store', 0);
  }
}
