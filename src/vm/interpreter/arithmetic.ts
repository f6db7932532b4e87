/** Handlers of arithmetic and of byte order (RFC 9669 §4.1, §4.2). Shift counts are masked by WebAssembly as eBPF wants it. */
import type { PlainOp } from '../wasm/encoder.ts';
import type { Emitter } from './emitter.ts';
import type { Handlers } from './handlers.ts';

/** Operations that are one WebAssembly instruction. */
const SIMPLE: readonly (readonly [name: string, wide: PlainOp, narrow: PlainOp])[] = [
  ['add', 'i64.add', 'i32.add'],
  ['sub', 'i64.sub', 'i32.sub'],
  ['mul', 'i64.mul', 'i32.mul'],
  ['or', 'i64.or', 'i32.or'],
  ['and', 'i64.and', 'i32.and'],
  ['xor', 'i64.xor', 'i32.xor'],
  ['lsh', 'i64.shl', 'i32.shl'],
  ['rsh', 'i64.shr_u', 'i32.shr_u'],
  ['arsh', 'i64.shr_s', 'i32.shr_s'],
];

export function defineArithmetic(handlers: Handlers): void {
  for (const register of [false, true]) {
    const form = register ? 'x' : 'k';
    for (const [name, wide, narrow] of SIMPLE) {
      handlers.set(`${name}64.${form}`, (e) =>
        e.dstSlot().dst64().operand64(register).op(wide).store64().next(),
      );
      handlers.set(`${name}32.${form}`, (e) =>
        e.dstSlot().dst32().operand32(register).op(narrow).store32().next(),
      );
    }
    handlers.set(`mov64.${form}`, (e) => e.dstSlot().operand64(register).store64().next());
    handlers.set(`mov32.${form}`, (e) => e.dstSlot().operand32(register).store32().next());
    defineDivision(handlers, register);
  }
  handlers.set('lddw', (e) => e.dstSlot().imm64().store64().next(2));
  handlers.set('neg64', (e) => {
    e.dstSlot().body.i64(0n);
    e.dst64().op('i64.sub').store64().next();
  });
  handlers.set('neg32', (e) => {
    e.dstSlot().body.i32(0);
    e.dst32().op('i32.sub').store32().next();
  });
  for (const bits of [8, 16, 32] as const) {
    handlers.set(`movsx64.${bits}`, (e) => e.dstSlot().src64().op(`i64.extend${bits}_s`).store64().next());
  }
  for (const bits of [8, 16] as const) {
    handlers.set(`movsx32.${bits}`, (e) => e.dstSlot().src32().op(`i32.extend${bits}_s`).store32().next());
  }
  defineByteOrder(handlers);
}

/** Division by zero gives 0, the remainder leaves dst; the most negative number over -1 gives itself, remainder 0. */
function defineDivision(handlers: Handlers, register: boolean): void {
  const form = register ? 'x' : 'k';
  for (const signed of [false, true]) {
    const prefix = signed ? 's' : '';
    const sign = signed ? 's' : 'u';
    handlers.set(`${prefix}div64.${form}`, (e) => {
      e.operand64(register).body.set(e.wide2);
      e.dstSlot();
      guarded64(
        e,
        signed,
        () => e.body.i64(0n),
        `i64.div_${sign}`,
        () => e.body.i64(0n).get(e.wide).op('i64.sub'),
      );
    });
    handlers.set(`${prefix}mod64.${form}`, (e) => {
      e.operand64(register).body.set(e.wide2);
      e.dstSlot();
      guarded64(
        e,
        signed,
        () => e.body.get(e.wide),
        `i64.rem_${sign}`,
        () => e.body.i64(0n),
      );
    });
    handlers.set(`${prefix}div32.${form}`, (e) => {
      e.operand32(register).body.set(e.narrow2);
      e.dstSlot();
      guarded32(
        e,
        signed,
        () => e.body.i32(0),
        `i32.div_${sign}`,
        () => e.body.i32(0).get(e.narrow).op('i32.sub'),
      );
    });
    handlers.set(`${prefix}mod32.${form}`, (e) => {
      e.operand32(register).body.set(e.narrow2);
      e.dstSlot();
      guarded32(
        e,
        signed,
        () => e.body.get(e.narrow),
        `i32.rem_${sign}`,
        () => e.body.i32(0),
      );
    });
  }
}

/** `wide2` is the divisor, `wide` becomes the dividend; the slot of dst is on the stack. */
function guarded64(
  e: Emitter,
  signed: boolean,
  byZero: () => unknown,
  op: PlainOp,
  byMinusOne: () => unknown,
): void {
  const { body } = e;
  e.dst64();
  body.set(e.wide);
  body.get(e.wide2).op('i64.eqz').if();
  byZero();
  body.set(e.wide).else();
  if (signed) {
    // WebAssembly traps where the quotient overflows.
    body.get(e.wide2).i64(-1n).op('i64.eq').if();
    byMinusOne();
    body.set(e.wide).else();
  }
  body.get(e.wide).get(e.wide2).op(op).set(e.wide);
  if (signed) body.end();
  body.end();
  body.get(e.wide);
  e.store64().next();
}

function guarded32(
  e: Emitter,
  signed: boolean,
  byZero: () => unknown,
  op: PlainOp,
  byMinusOne: () => unknown,
): void {
  const { body } = e;
  e.dst32();
  body.set(e.narrow);
  body.get(e.narrow2).op('i32.eqz').if();
  byZero();
  body.set(e.narrow).else();
  if (signed) {
    body.get(e.narrow2).i32(-1).op('i32.eq').if();
    byMinusOne();
    body.set(e.narrow).else();
  }
  body.get(e.narrow).get(e.narrow2).op(op).set(e.narrow);
  if (signed) body.end();
  body.end();
  body.get(e.narrow);
  e.store32().next();
}

function defineByteOrder(handlers: Handlers): void {
  handlers.set('swap16', (e) => {
    e.dstSlot().dst32().body.tee(e.narrow).i32(8).op('i32.shl').i32(0xff00).op('i32.and');
    e.body.get(e.narrow).i32(8).op('i32.shr_u').i32(0xff).op('i32.and').op('i32.or');
    e.store32().next();
  });
  handlers.set('swap32', (e) => {
    e.dstSlot().dst32().body.tee(e.narrow).i32(0x00ff00ff).op('i32.and').i32(24).op('i32.rotl');
    e.body.get(e.narrow).i32(8).op('i32.rotl').i32(0x00ff00ff).op('i32.and').op('i32.or');
    e.store32().next();
  });
  handlers.set('swap64', (e) => {
    const { body } = e;
    const exchange = (mask: bigint, shift: bigint): void => {
      body.get(e.wide).i64(mask).op('i64.and').i64(shift).op('i64.shl');
      body.get(e.wide).i64(shift).op('i64.shr_u').i64(mask).op('i64.and').op('i64.or');
    };
    e.dstSlot().dst64();
    body.set(e.wide);
    exchange(0x00ff00ff00ff00ffn, 8n);
    body.set(e.wide);
    exchange(0x0000ffff0000ffffn, 16n);
    body.i64(32n).op('i64.rotl');
    e.store64().next();
  });
  // To the host's own order only the width changes.
  handlers.set('keep16', (e) => {
    e.dstSlot().dst32().body.i32(0xffff).op('i32.and');
    e.store32().next();
  });
  handlers.set('keep32', (e) => e.dstSlot().dst32().store32().next());
  handlers.set('keep64', (e) => e.next());
}
