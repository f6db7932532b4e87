/** Handlers of loads, stores and atomic operations (RFC 9669 §5). Atomic here means: nothing else runs in this memory. */
import * as layout from '../layout.ts';
import type { MemoryOp, PlainOp } from '../wasm/encoder.ts';
import type { Emitter } from './emitter.ts';
import type { Handlers } from './handlers.ts';

const WIDTHS = [8, 16, 32, 64] as const;
type Width = (typeof WIDTHS)[number];
const bytesOf = (width: Width): 1 | 2 | 4 | 8 => (width / 8) as 1 | 2 | 4 | 8;
const loadOf = (width: Width): MemoryOp => (width === 64 ? 'i64.load' : `i64.load${width}_u`);
const storeOf = (width: Width): MemoryOp => (width === 64 ? 'i64.store' : `i64.store${width}`);

const OPERATIONS: readonly (readonly [string, PlainOp])[] = [
  ['add', 'i64.add'],
  ['or', 'i64.or'],
  ['and', 'i64.and'],
  ['xor', 'i64.xor'],
];

export function defineAccess(handlers: Handlers): void {
  for (const width of WIDTHS) {
    handlers.set(`load.u${width}`, (e) => loadInto(e, loadOf(width), bytesOf(width)));
    if (width !== 64)
      handlers.set(`load.s${width}`, (e) => loadInto(e, `i64.load${width}_s`, bytesOf(width)));
    handlers.set(`store.x${width}`, (e) => {
      e.checkedAddress('dst', bytesOf(width), true).body.get(e.address);
      e.src64().body.memory(storeOf(width), 0);
      e.next();
    });
    handlers.set(`store.k${width}`, (e) => {
      e.checkedAddress('dst', bytesOf(width), true).body.get(e.address);
      e.body.get(e.ip).memory('i64.load32_s', layout.RECORD_IMM).memory(storeOf(width), 0);
      e.next();
    });
  }
  for (const width of [32, 64] as const) defineAtomic(handlers, width);
  definePacketLoads(handlers);
}

function loadInto(e: Emitter, load: MemoryOp, bytes: 1 | 2 | 4 | 8): void {
  e.checkedAddress('src', bytes, false).dstSlot().body.get(e.address).memory(load, 0);
  e.store64().next();
}

function defineAtomic(handlers: Handlers, width: 32 | 64): void {
  const bytes = bytesOf(width);
  const load = loadOf(width);
  const store = storeOf(width);
  /** Pushes the place of the register that receives the old value. */
  const srcSlot = (e: Emitter): void => {
    e.body.get(e.ip).memory('i32.load8_u', layout.RECORD_SRC);
  };
  for (const [name, op] of OPERATIONS) {
    for (const fetch of [false, true]) {
      handlers.set(`atomic.${fetch ? 'fetch_' : ''}${name}${width}`, (e) => {
        e.checkedAddress('dst', bytes, true).body.get(e.address);
        e.body.get(e.address).memory(load, 0);
        if (fetch) e.body.tee(e.wide);
        e.src64().op(op).body.memory(store, 0);
        if (fetch) {
          srcSlot(e);
          e.body.get(e.wide);
          e.store64();
        }
        e.next();
      });
    }
  }
  handlers.set(`atomic.xchg${width}`, (e) => {
    e.checkedAddress('dst', bytes, true).body.get(e.address).memory(load, 0).set(e.wide);
    e.body.get(e.address);
    e.src64().body.memory(store, 0);
    srcSlot(e);
    e.body.get(e.wide);
    e.store64().next();
  });
  handlers.set(`atomic.cmpxchg${width}`, (e) => {
    const { body } = e;
    e.checkedAddress('dst', bytes, true);
    body.get(e.address).memory(load, 0).tee(e.wide);
    body.i32(layout.REGISTERS).memory(load, 0).op('i64.eq').if();
    body.get(e.address);
    e.src64().body.memory(store, 0);
    body.end();
    body.i32(layout.REGISTERS).get(e.wide).memory('i64.store', 0);
    e.next();
  });
}

/** `BPF_ABS` and `BPF_IND` (RFC 9669 §5.5): a packet too short ends the program with 0. */
function definePacketLoads(handlers: Handlers): void {
  for (const width of [8, 16, 32] as const) {
    for (const indirect of [false, true]) {
      handlers.set(`packet.${indirect ? 'ind' : 'abs'}${width}`, (e) => {
        const { body } = e;
        body.get(e.ip);
        e.imm32();
        if (indirect) e.src32().op('i32.add');
        body
          .i32(width / 8)
          .call(e.imports.packet)
          .op('i32.eqz')
          .if();
        body.i32(layout.REGISTERS).i64(0n).memory('i64.store', 0).branch(e.labels.leave);
        body.end();
        e.next();
      });
    }
  }
}
