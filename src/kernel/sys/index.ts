export { MapFlag, UpdateFlag } from './bpf.ts';
export { Errno, errnoName, errnoText } from './errno.ts';
export { isErrno, KernelArgumentError, KernelError, KernelUnavailableError, SyscallError } from './error.ts';
export { Fd } from './fd.ts';
export { listIds } from './info.ts';
export { Mapping } from './mapping.ts';
export { type SyscallName, syscallNumber } from './syscall.ts';
