/**
 * The part of the WebAssembly JavaScript interface that is used here (https://webassembly.github.io/spec/js-api/).
 * Every host has it, but the standard library's types do not declare it without a browser's or Node's.
 */

export interface WasmMemory {
  readonly buffer: ArrayBuffer;
  /** Grows by pages of 64 KiB; detaches the old buffer. */
  grow(pages: number): number;
}

export interface WasmModule {
  readonly __module?: never;
}

export interface WasmInstance {
  readonly exports: Readonly<Record<string, unknown>>;
}

type Imports = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

declare const WebAssembly: {
  readonly Memory: new (limits: { initial: number; maximum: number }) => WasmMemory;
  readonly Module: new (bytes: Uint8Array) => WasmModule;
  readonly Instance: new (module: WasmModule, imports: Imports) => WasmInstance;
};

export const PAGE_BYTES = 65_536;

export function createMemory(initial: number, maximum: number): WasmMemory {
  return new WebAssembly.Memory({ initial, maximum });
}

export function compileModule(bytes: Uint8Array): WasmModule {
  return new WebAssembly.Module(bytes);
}

export function instantiate(module: WasmModule, imports: Imports): WasmInstance {
  return new WebAssembly.Instance(module, imports);
}
