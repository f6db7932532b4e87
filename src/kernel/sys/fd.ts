/** An owned file descriptor: closed exactly once, unusable afterwards. */
import { KernelError } from './error.ts';
import { trySyscall } from './syscall.ts';

export class Fd {
  #number: number;
  /** What it is, for messages: `map "counters"`. */
  readonly label: string;

  constructor(number: number, label: string) {
    this.#number = number;
    this.label = label;
  }

  /** The descriptor's number. @throws {KernelError} `FD_CLOSED` after {@link close} or {@link release} */
  get number(): number {
    if (this.#number < 0) throw new KernelError('FD_CLOSED', `${this.label} is closed`);
    return this.#number;
  }

  get closed(): boolean {
    return this.#number < 0;
  }

  /** Closes it; a second call does nothing. */
  close(): void {
    if (this.#number < 0) return;
    const number = this.#number;
    this.#number = -1;
    trySyscall('close', number);
  }

  /** Hands the number to the caller, who closes it from now on. */
  release(): number {
    const number = this.number;
    this.#number = -1;
    return number;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Runs `use`; closes `fd` when it throws, so that a half-built object leaves nothing behind. */
export function closeOnError<T>(fd: Fd, use: () => T): T {
  try {
    return use();
  } catch (error) {
    fd.close();
    throw error;
  }
}
