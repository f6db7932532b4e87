export { CAP_NET_ADMIN, hasCapability } from './capability.ts';
export { execve } from './execve.ts';
export { waitForGracePeriod } from './grace.ts';
export { lock, lockHolder, tryLock } from './lock.ts';
export { createMemfd } from './memfd.ts';
export { openPidfd, readProcessMemory, takeFd, writeProcessMemory } from './pidfd.ts';
