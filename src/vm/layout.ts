/**
 * Map of a machine's linear memory. A pointer of a program is a byte offset here; its upper 32 bits are zero.
 *
 *       0  null page: never mapped, or all zero and read only (see `Machine` on BTF pointers)
 *    4096  registers r0..r10, 8 bytes each
 *    4224  control block
 *    4352  saved frames, 64 bytes each
 *    8192  region table, 64 bytes each
 *   73728  stack, 8 frames of 512 bytes, growing downwards
 *   77824  heap: programs, maps, packets, contexts, kernel objects
 *
 * Registers, control block, frames, regions and decoded programs belong to no region: programs cannot touch them.
 */

export const NULL_PAGE_BYTES = 4096;
export const REGISTERS = 4096;
export const CONTROL = 4224;
/** i64: instructions left, in bytes of decoded records. */
export const CONTROL_BUDGET: number = CONTROL;
/** i32: iterations that may_goto still allows. */
export const CONTROL_MAY_GOTO: number = CONTROL + 8;
/** i32: place of the next saved frame, while a helper runs. */
export const CONTROL_FRAME: number = CONTROL + 12;

/** i64: what a run may spend, in bytes of decoded records. */
export const CONTROL_LIMIT: number = CONTROL + 16;
/** BPF_MAX_LOOPS: iterations of may_goto in one run. */
export const MAY_GOTO_ITERATIONS = 8_388_608;

export const FRAMES = 4352;
export const FRAME_BYTES = 64;
/** Frames of a call chain, the first included (MAX_CALL_FRAMES of include/linux/bpf_verifier.h). */
export const MAX_FRAMES = 8;

export const REGION_TABLE = 8192;
export const REGION_BYTES = 64;
export const MAX_REGIONS = 1024;
/** Region 0 holds nothing: where no access has hit yet. Region 1 is the stack, kept by the interpreter itself. */
export const EMPTY_REGION: number = REGION_TABLE;
export const STACK_REGION: number = REGION_TABLE + REGION_BYTES;
/** Fields of a region: i64 start; then for accesses of 1, 2, 4, 8 bytes how many places there are to read, and to write. */
export const REGION_READ = 8;
export const REGION_WRITE = 24;

export const STACK_BYTES_PER_FRAME = 512;
export const STACK_TOP = 77_824;
export const HEAP = 77_824;

/** One decoded instruction: u16 handler, u8 dst * 8, u8 src * 8, i32 offset, i64 immediate (memory accesses: i32 immediate, i32 region). */
export const RECORD_BYTES = 16;
export const RECORD_DST = 2;
export const RECORD_SRC = 3;
export const RECORD_OFF = 4;
export const RECORD_IMM = 8;
export const RECORD_REGION = 12;
