/**
 * The virtual machine: memory, maps, programs, and the interpreter that runs them.
 *
 * A machine is one CPU's view of one kernel: programs run one at a time, to the end. Everything from outside (time,
 * randomness, routes, sockets) comes in by the options, so equal inputs give equal runs.
 */

import {
  type AssembledProgram,
  formatInstruction,
  type Instruction,
  kfuncAllowed,
  type ProgramType,
} from '../isa/index.ts';
import type { Context } from './context.ts';
import type { Environment, Redirection } from './environment.ts';
import { VmError, type VmErrorCode } from './error.ts';
import { HELPER_FUNCTIONS, type HelperFunction, KFUNC_FUNCTIONS, KFUNC_NAMES } from './helpers/index.ts';
import { STOP_BUDGET, STOP_CALL_DEPTH } from './interpreter/control.ts';
import { decodedBytes, functionAddresses, writeRecords } from './interpreter/decode.ts';
import { interpreterModule } from './interpreter/module.ts';
import { DEFAULT_LAYOUT, type KernelLayout } from './kernel-layout.ts';
import { KernelObjects } from './kernel-objects.ts';
import * as layout from './layout.ts';
import { isCast, KFUNC_BASE, resolveProgram } from './loader.ts';
import { createMap } from './maps/create.ts';
import type { MapSpec, VmMap } from './maps/map.ts';
import { RingBufferMap } from './maps/ring-buffer.ts';
import { SocketMap } from './maps/socket-map.ts';
import { LinearMemory, type Region } from './memory.ts';
import { Packet } from './packet.ts';
import { Program } from './program.ts';
import { instantiate } from './wasm/host.ts';

export interface Clock {
  /** Nanoseconds since boot without (monotonic) and with (boot) suspended time. */
  monotonicNs(): bigint;
  bootNs?(): bigint;
}

export interface MachineOptions {
  /** Default: stands at 0. */
  readonly clock?: Clock;
  /** A u32 each call. Default: a fixed sequence. */
  readonly random?: () => number;
  readonly environment?: Environment;
  /** CPUs that per-CPU maps have places for; default 1. */
  readonly cpus?: number;
  readonly layout?: KernelLayout;
  /** Instructions that one run may execute; default 64 million. */
  readonly budget?: number;
}

export interface LoadOptions {
  /** `undefined`: a raw program, to be run with `runRaw`. */
  readonly type?: ProgramType | undefined;
  readonly name?: string;
}

/** A kernel function that the machine's owner adds. */
export interface KfuncDefinition {
  readonly function: HelperFunction;
  /** Program types that may call it; default: any. */
  readonly types?: readonly ProgramType[];
}

const DEFAULT_BUDGET = 64_000_000;
const R = layout.REGISTERS >> 2;

export class Machine {
  readonly memory: LinearMemory = new LinearMemory();
  readonly kernel: KernelObjects;
  readonly clock: Clock;
  readonly random: () => number;
  environment: Environment;
  readonly cpus: number;
  /** CPU that programs run on. */
  cpu = 0;
  #budget = 0;
  /** Last bpf_redirect of the current or last run. */
  redirection: Redirection | undefined;
  /** Context of the current run. */
  context: Context | undefined;
  /** Where a helper wants the interpreter to go on; 0: behind the call. */
  tailTarget = 0;
  tailCalls = 0;

  readonly #layout: KernelLayout;
  readonly #maps = new Map<string, VmMap>();
  readonly #kfuncNames: string[] = [...KFUNC_NAMES];
  readonly #kfuncs: HelperFunction[] = [...KFUNC_FUNCTIONS];
  readonly #kfuncTypes = new Map<string, readonly ProgramType[]>();
  readonly #handles: (VmMap | Program | undefined)[] = [undefined];
  readonly #freeHandles: number[] = [];
  readonly #programs: Program[] = [];
  readonly #start: (ip: number, r1: number, r2: number) => void;
  readonly #run: (ip: number, frame: number) => void;
  readonly #packetRegion: Region;
  readonly #rawRegion: Region;
  /** Buffer of raw runs, kept for the next. */
  #rawAddress = 0;
  #rawCapacity = 0;
  readonly #nullPage: Region;
  #depth = 0;

  constructor(options: MachineOptions = {}) {
    this.#layout = options.layout ?? DEFAULT_LAYOUT;
    this.kernel = new KernelObjects(this.memory, this.#layout);
    this.clock = options.clock ?? { monotonicNs: () => 0n };
    this.random = options.random ?? fixedSequence();
    this.environment = options.environment ?? {};
    this.cpus = options.cpus ?? 1;
    this.budget = options.budget ?? DEFAULT_BUDGET;
    this.#packetRegion = this.memory.addRegion('packet', 0, 0, true);
    this.#rawRegion = this.memory.addRegion('memory', 0, 0, true);
    this.#nullPage = this.memory.addRegion('null page', 0, 0, false);
    const instance = instantiate(interpreterModule(), {
      env: {
        memory: this.memory.wasm,
        region: (ip: number, low: number, high: number, kind: number) =>
          this.#findRegion(ip, low, high, kind),
        call: (ip: number) => this.#call(ip),
        target: (ip: number, low: number, high: number) => this.#callTarget(ip, low, high),
        packet: (ip: number, offset: number, bytes: number) => this.#loadPacket(ip, offset, bytes),
        stop: (ip: number, reason: number) => this.#stop(ip, reason),
      },
    });
    this.#start = instance.exports.start as (ip: number, r1: number, r2: number) => void;
    this.#run = instance.exports.run as (ip: number, frame: number) => void;
  }

  /** Instructions that one run may execute. */
  get budget(): number {
    return this.#budget;
  }
  set budget(instructions: number) {
    this.#budget = instructions;
    this.memory.writeU64(layout.CONTROL_LIMIT, BigInt(instructions) * BigInt(layout.RECORD_BYTES));
  }

  // Maps.

  /** Creates a map; programs name it by `spec.name`. @throws VmError `VM_MAP` */
  createMap(spec: MapSpec): VmMap {
    if (this.#maps.has(spec.name)) throw new VmError('VM_MAP', `there is a map ${spec.name} already`);
    const map = createMap(this, spec, this.#handles.length);
    this.#handles.push(map);
    this.#maps.set(spec.name, map);
    return map;
  }
  /** A map that is reached through maps of maps only. */
  createInnerMap(spec: MapSpec): VmMap {
    const map = createMap(this, spec, this.#handles.length);
    this.#handles.push(map);
    return map;
  }
  /** @throws VmError `VM_MAP` when there is none of this name */
  map(name: string): VmMap {
    const map = this.#maps.get(name);
    if (map === undefined) throw new VmError('VM_MAP', `there is no map ${name}`);
    return map;
  }
  /** The map that a program's map pointer stands for. */
  mapOf(handle: number): VmMap | undefined {
    const object = this.#handles[handle];
    return object instanceof Program ? undefined : object;
  }

  /** Ring buffers, in the order of their creation. */
  ringBuffers(): RingBufferMap[] {
    return this.#handles.filter((object) => object instanceof RingBufferMap);
  }

  /** Maps of sockets, in the order of their creation. */
  socketMaps(): SocketMap[] {
    return this.#handles.filter((object) => object instanceof SocketMap);
  }

  // Packets.

  /** A packet buffer with room for `capacity` bytes. */
  createPacket(capacity = 65_536): Packet {
    return new Packet(this.memory, capacity);
  }
  /** Makes programs and helpers see where the current packet begins and ends. */
  packetMoved(): void {
    const packet = this.context?.packet;
    if (packet === undefined) this.memory.moveRegion(this.#packetRegion, 0, 0);
    else this.memory.moveRegion(this.#packetRegion, packet.meta, packet.end - packet.meta);
    this.context?.synchronize();
  }

  // Programs.

  /** Adds a kernel function, or replaces one that was added. Programs loaded later call it by its name. */
  defineKfunc(name: string, { function: body, types }: KfuncDefinition): void {
    const at = this.#kfuncNames.indexOf(name);
    if (at >= 0 && at < KFUNC_NAMES.length)
      throw new VmError('VM_HELPER', `kernel function ${name} is built in`);
    if (at < 0) {
      this.#kfuncNames.push(name);
      this.#kfuncs.push(body);
    } else {
      this.#kfuncs[at] = body;
    }
    if (types === undefined) this.#kfuncTypes.delete(name);
    else this.#kfuncTypes.set(name, types);
  }

  /**
   * Checks, links and decodes a program.
   *
   * @param program assembled (its symbolic references are resolved here), slots, or bytecode
   * @throws VmError `VM_PROGRAM` malformed, `VM_MAP` unknown map, `VM_HELPER` unknown or forbidden function
   */
  load(program: AssembledProgram | readonly Instruction[] | Uint8Array, options: LoadOptions = {}): Program {
    const slots = resolveProgram(program, options.type, {
      mapNamed: (name) => this.#maps.get(name),
      mapOf: (handle) => this.mapOf(handle),
      layout: this.#layout,
      kfuncNames: this.#kfuncNames,
      kfuncAllowed: (type, name) => this.#kfuncTypes.get(name)?.includes(type) ?? kfuncAllowed(type, name),
    });
    const start = this.memory.allocate(decodedBytes(slots));
    writeRecords(this.memory, start, slots);
    const followsKernel = options.type === 'BPF_PROG_TYPE_NETFILTER' || slots.some(isCast);
    const name = options.name ?? `program ${this.#programs.length}`;
    const functions = functionAddresses(slots, start);
    const handle = this.#freeHandles.pop() ?? this.#handles.length;
    const loaded = new Program(this, handle, name, options.type, slots, start, functions, followsKernel);
    this.#handles[handle] = loaded;
    this.#programs.push(loaded);
    return loaded;
  }

  /** Takes a program out and gives its memory back. It must not be in any map. */
  unload(program: Program): void {
    const position = this.#programs.indexOf(program);
    if (position === -1) return;
    this.#programs.splice(position, 1);
    this.#handles[program.handle] = undefined;
    this.#freeHandles.push(program.handle);
    this.memory.release(program.start, decodedBytes(program.instructions));
  }

  // Running.

  /** Runs a program on a context; see `Program.run`. */
  run(program: Program, context: Context): number {
    if (program.type !== undefined && !context.types.includes(program.type)) {
      throw new VmError(
        'VM_CONTEXT',
        `a program of type ${program.type} cannot run on ${context.constructor.name}`,
      );
    }
    this.context = context;
    this.redirection = undefined;
    this.packetMoved();
    this.#execute(program, context.address, 0);
    return this.memory.u32[R]!;
  }

  /**
   * Runs a raw program on bytes: r1 = their address, r2 = their number. Changes the program makes are copied back.
   *
   * @returns r0, unsigned
   */
  runRaw(program: Program, bytes: Uint8Array): bigint {
    if (bytes.length > this.#rawCapacity) {
      this.#rawAddress = this.memory.allocate(bytes.length);
      this.#rawCapacity = bytes.length;
    }
    const address = this.#rawAddress;
    this.memory.u8.set(bytes, address);
    this.memory.moveRegion(this.#rawRegion, address, bytes.length);
    this.context = undefined;
    try {
      this.#execute(program, bytes.length === 0 ? 0 : address, bytes.length);
    } finally {
      bytes.set(this.memory.u8.subarray(address, address + bytes.length));
      this.memory.moveRegion(this.#rawRegion, 0, 0);
    }
    return this.result;
  }

  /**
   * Runs a raw program with an address in r1 that a region added to the memory covers.
   *
   * @returns the low 32 bits of r0, unsigned
   */
  runAt(program: Program, address: number): number {
    this.context = undefined;
    this.#execute(program, address, 0);
    return this.memory.u32[R]!;
  }

  /** r0 of the last run, unsigned. */
  get result(): bigint {
    return this.memory.readU64(layout.REGISTERS);
  }

  /** Instructions that the last run executed (slots passed: `ld_imm64` counts twice). */
  get executed(): number {
    const left = this.memory.view.getBigInt64(layout.CONTROL_BUDGET, true);
    return this.budget - Number(left) / layout.RECORD_BYTES;
  }

  #execute(program: Program, r1: number, r2: number): void {
    if (this.#depth > 0)
      throw new VmError('VM_PROGRAM', 'a helper cannot run another program in the same machine');
    // Loads through null kernel pointers give 0 there; null pointers to other things no verified program follows.
    const nullBytes = program.followsKernelPointers ? layout.NULL_PAGE_BYTES : 0;
    if (this.#nullPage.length !== nullBytes) this.memory.moveRegion(this.#nullPage, 0, nullBytes);
    this.tailCalls = 0;
    this.#depth = 1;
    try {
      this.#start(program.start, r1, r2);
    } catch (error) {
      this.#setStackDepth(1);
      // Deep recursion of callbacks exhausts the host's stack before anything of ours.
      if (error instanceof RangeError)
        throw new VmError('VM_CALL_DEPTH', 'callbacks are nested too deeply', { cause: error });
      throw error;
    } finally {
      this.#depth = 0;
    }
  }

  /**
   * Calls a function of the running program, as bpf_loop does with its callback.
   *
   * @param target record of the function
   * @returns the low 32 bits of its r0, signed
   */
  callBack(target: number, r1: number, r2: number, r3 = 0, r4 = 0): number {
    const { i32 } = this.memory;
    const frame = i32[layout.CONTROL_FRAME >> 2]!;
    const depth = (frame - layout.FRAMES) / layout.FRAME_BYTES + 1;
    if (depth >= layout.MAX_FRAMES)
      throw new VmError('VM_CALL_DEPTH', `more than ${layout.MAX_FRAMES} frames`);
    const saved = i32.slice(R + 12, R + 22);
    for (const [position, value] of [r1, r2, r3, r4].entries()) {
      i32[R + 2 + position * 2] = value;
      i32[R + 3 + position * 2] = 0;
    }
    i32[R + 20] = i32[R + 20]! - layout.STACK_BYTES_PER_FRAME;
    this.#setStackDepth(depth + 1);
    this.#run(target, frame + layout.FRAME_BYTES);
    this.#setStackDepth(depth);
    this.memory.i32.set(saved, R + 12);
    this.memory.i32[layout.CONTROL_FRAME >> 2] = frame;
    return this.memory.i32[R]!;
  }

  #setStackDepth(frames: number): void {
    const region = this.memory.findRegion(layout.STACK_TOP - 1, 1, true)!;
    const bytes = frames * layout.STACK_BYTES_PER_FRAME;
    this.memory.moveRegion(region, layout.STACK_TOP - bytes, bytes);
  }

  // What the interpreter calls.

  #findRegion(ip: number, low: number, high: number, kind: number): number {
    const write = kind >= layout.REGION_WRITE;
    const bytes = 1 << ((kind - (write ? layout.REGION_WRITE : layout.REGION_READ)) / 4);
    const address = low >>> 0;
    const region = high === 0 ? this.memory.findRegion(address, bytes, write) : undefined;
    if (region !== undefined) return region.entry;
    const full = (BigInt(high >>> 0) << 32n) | BigInt(address);
    const place = high === 0 ? this.memory.describe(address) : 'outside the address space';
    return this.#fail(
      ip,
      'VM_ACCESS',
      `${write ? 'write' : 'read'} of ${bytes} bytes at 0x${full.toString(16)}: ${place}`,
    );
  }

  #call(ip: number): number {
    this.currentRecord = ip;
    const number = this.memory.i32[(ip + layout.RECORD_IMM) >> 2]!;
    const helper: HelperFunction | undefined =
      number > KFUNC_BASE ? this.#kfuncs[number - KFUNC_BASE - 1] : HELPER_FUNCTIONS[number];
    const result = helper!(this);
    if (this.tailTarget !== 0) {
      const target = this.tailTarget;
      this.tailTarget = 0;
      return target;
    }
    const { i32 } = this.memory;
    if (typeof result === 'number') {
      i32[R] = result;
      i32[R + 1] = result < 0 ? -1 : 0;
    } else {
      this.memory.writeU64(layout.REGISTERS, result);
    }
    return 0;
  }

  /** Record of the call that is being served. */
  currentRecord = 0;

  /** The function of the running program that a helper's argument names. @throws {VmError} VM_CALL_TARGET: none */
  callbackArgument(register: number): number {
    const { i32 } = this.memory;
    const at = R + register * 2;
    return this.#callTarget(this.currentRecord, i32[at]! >>> 0, i32[at + 1]!);
  }

  #callTarget(ip: number, low: number, high: number): number {
    const program = this.#programAt(ip);
    if (high === 0 && program?.functions.has(low)) return low;
    return this.#fail(ip, 'VM_CALL_TARGET', 'the register holds no function of this program');
  }

  /** Legacy loads take offsets from the packet's start, or from its link (-0x200000) or network (-0x100000) header. */
  #loadPacket(_ip: number, offset: number, bytes: number): number {
    const packet = this.context?.packet;
    if (packet === undefined) return 0;
    let at = packet.data + offset;
    if (offset < -0x200000) return 0;
    if (offset < -0x100000) at = packet.data + offset + 0x200000;
    else if (offset < 0) at = packet.data + packet.networkOffset + offset + 0x100000;
    if (at < packet.data || at + bytes > packet.end) return 0;
    const { view } = this.memory;
    const value = bytes === 4 ? view.getUint32(at) : bytes === 2 ? view.getUint16(at) : view.getUint8(at);
    this.memory.u32[R] = value;
    this.memory.u32[R + 1] = 0;
    return 1;
  }

  #stop(ip: number, reason: number): never {
    if (reason === STOP_BUDGET) return this.#fail(ip, 'VM_BUDGET', `more than ${this.budget} instructions`);
    if (reason === STOP_CALL_DEPTH)
      return this.#fail(ip, 'VM_CALL_DEPTH', `more than ${layout.MAX_FRAMES} frames`);
    return this.#fail(ip, 'VM_PROGRAM', 'control is where no instruction is');
  }

  /** Stops the program with an error at the call that is being served. */
  fail(code: VmErrorCode, message: string): never {
    return this.#fail(this.currentRecord, code, message);
  }

  #fail(ip: number, code: VmErrorCode, message: string): never {
    const program = this.#programAt(ip);
    if (program === undefined) throw new VmError(code, message);
    const index = (ip - program.start) / layout.RECORD_BYTES;
    throw new VmError(code, message, { index, instruction: this.#describe(program, index) });
  }

  #describe({ instructions }: Program, index: number): string {
    if (index >= instructions.length) return 'past the end';
    return formatInstruction(instructions, index, {
      kfuncName: (id) => this.#kfuncNames[id - KFUNC_BASE - 1],
    });
  }

  #programAt(ip: number): Program | undefined {
    return this.#programs.find(
      ({ start, instructions }) => ip >= start && ip <= start + instructions.length * layout.RECORD_BYTES,
    );
  }
}

/** xorshift32 from a fixed seed. */
function fixedSequence(): () => number {
  let state = 0x9e3779b9;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}
