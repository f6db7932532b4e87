/**
 * The eBPF instruction set: opcodes, codec, assembler, disassembler, control flow, and the kernel's tables of
 * helpers, kernel functions, program, attach, map and link types.
 */
export * from './assembler.ts';
export * from './check.ts';
export * from './codec.ts';
export * from './disassemble.ts';
export * from './error.ts';
export * from './flow.ts';
export * from './helper.ts';
export * from './instruction.ts';
export * from './kfunc.ts';
export type { Label } from './layout.ts';
export * from './opcode.ts';
export { parseProgram } from './parse.ts';
export * from './program-helpers.ts';
export * from './reference.ts';
export * from './register.ts';
export * from './types.ts';
