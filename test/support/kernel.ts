/** When kernel tests can run; where they cannot, they are skipped and counted, with the reason in their name. */
import { release } from 'node:os';
import { describe } from 'vitest';
import { driver } from '../../src/kernel/index.ts';

/** Why no kernel test can run here; `undefined` when they can. */
export const kernelMissing: string | undefined = whyNot();

function whyNot(): string | undefined {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'needs root';
  const [major = 0, minor = 0] = release().split('.').map(Number);
  if (major < 6 || (major === 6 && minor < 9)) return `needs Linux 6.9, this is ${release()}`;
  try {
    driver();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return undefined;
}

/** `describe`, skipped where the kernel cannot be used or `alsoNeeds` names something missing. */
export function describeKernel(name: string, body: () => void, alsoNeeds?: string): void {
  const reason = kernelMissing ?? alsoNeeds;
  describe.skipIf(reason !== undefined)(reason === undefined ? name : `${name} [skipped: ${reason}]`, body);
}
