/**
 * Memory whose address stands inside other memory is invisible to the garbage collector: nothing but the plain JavaScript
 * reference keeps it where it is. Calling {@link keepAlive} after the system call is that reference.
 */

// An element of a module's array is a store that no optimizer drops.
const held: unknown[] = [undefined];

/** Guarantees that `memory` (and what it refers to) is not collected before this point. */
export function keepAlive(memory: unknown): void {
  held[0] = memory;
  held[0] = undefined;
}
