/**
 * The Linux kernel as an engine: bpf(2), links, pins, network namespaces, netlink.
 *
 * Nothing is loaded or called before the first use. Without koffi, privilege or a new enough kernel the first use throws
 * a KernelUnavailableError or SyscallError whose `hint` says the way out. Every object that owns kernel resources has
 * `close()` (and `Symbol.dispose`); what fails half way closes what it had opened.
 */

export * from './device/index.ts';
export * from './feature/index.ts';
export { driver, type KernelDriver, useDriver } from './ffi/index.ts';
export * from './link/index.ts';
export * from './map/index.ts';
export * from './netlink/index.ts';
export * from './netns/index.ts';
export * from './nft/index.ts';
export * from './pin/index.ts';
export * from './process/index.ts';
export * from './program/index.ts';
export * from './seccomp/index.ts';
export * from './socket/index.ts';
export * from './sys/index.ts';
