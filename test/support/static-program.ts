/**
 * Programs of a few system calls and nothing else, for x86_64: an ELF file of one segment, made here byte by byte, so that
 * no library, no loader and no compiler has a part in what they call.
 */

const BASE = 0x40_0000;
const HEADERS_BYTES = 64 + 56;
/** Where data lies; the code follows it. */
export const DATA_ADDRESS: number = BASE + HEADERS_BYTES;
const DATA_BYTES = 512;

function word(value: number): number[] {
  return [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, (value >> 24) & 0xff];
}

/** `mov r32, imm32`: rax by syscall(2)'s number, then its arguments in rdi, rsi, rdx, r10, r8, r9. */
const NATIVE_REGISTERS = [[0xbf], [0xbe], [0xba], [0x41, 0xba], [0x41, 0xb8], [0x41, 0xb9]];
/** ebx, ecx, edx, esi, edi. */
const COMPAT_REGISTERS = [[0xbb], [0xb9], [0xba], [0xbe], [0xbf]];

function load(registers: readonly number[][], values: readonly (number | 'result')[]): number[] {
  return values.flatMap((value, index) =>
    // The result of the call before: only ever the first argument (`mov edi, eax`).
    value === 'result' ? [0x89, 0xc7] : [...registers[index]!, ...word(value)],
  );
}

/** A call by the `syscall` instruction; "result" is what the call before gave. */
export function native(nr: number, ...values: readonly (number | 'result')[]): number[] {
  return [...load(NATIVE_REGISTERS, values), 0xb8, ...word(nr), 0x0f, 0x05];
}

/** A call of the 32-bit ABI, which 64-bit programs can make too. */
export function compat(nr: number, ...values: readonly number[]): number[] {
  return [...load(COMPAT_REGISTERS, values), 0xb8, ...word(nr), 0xcd, 0x80];
}

/** Ends with the errno of the last call as exit code: `neg eax; mov edi, eax; exit`. */
export const exitWithErrno: readonly number[] = [0xf7, 0xd8, ...native(60, 'result')];

/** Ends with a byte of the data as exit code: `movzx edi, byte [address]; exit`. */
export function exitWithByte(offset: number): number[] {
  return [0x0f, 0xb6, 0x3c, 0x25, ...word(DATA_ADDRESS + offset), 0xb8, ...word(60), 0x0f, 0x05];
}

/** The file: `data` lies at {@link DATA_ADDRESS}, writable. */
export function staticProgram(code: readonly number[], data: Uint8Array = new Uint8Array()): Uint8Array {
  const size = HEADERS_BYTES + DATA_BYTES + code.length;
  const file = new Uint8Array(size);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, 62, true); // EM_X86_64
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(DATA_ADDRESS + DATA_BYTES), true);
  view.setBigUint64(32, 64n, true); // program headers
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 1, true);
  view.setUint32(64, 1, true); // PT_LOAD
  view.setUint32(68, 7, true);
  view.setBigUint64(80, BigInt(BASE), true);
  view.setBigUint64(88, BigInt(BASE), true);
  view.setBigUint64(96, BigInt(size), true);
  view.setBigUint64(104, BigInt(size), true);
  view.setBigUint64(112, 0x1000n, true);
  file.set(data.subarray(0, DATA_BYTES), HEADERS_BYTES);
  file.set(code, HEADERS_BYTES + DATA_BYTES);
  return file;
}
