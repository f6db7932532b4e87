/** The kernel's clock tick as rules see it. */

/** CONFIG_HZ of the kernel that is modelled. */
export const HZ = 250;

/** Whole ticks at a time in milliseconds. */
export function jiffies(nowMs: number): number {
  return Math.floor((nowMs * HZ) / 1000);
}
