/** A cgroup of a test's own. */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { findCgroup2 } from '../../src/kernel/index.ts';

/** A cgroup that this process enters while `use` runs: sockets belong to the one in which they were made. */
export class ScratchCgroup {
  readonly path: string = `${findCgroup2()}/slc-${process.pid}`;
  readonly #home: string;

  constructor() {
    const line = readFileSync('/proc/self/cgroup', 'utf8')
      .split('\n')
      .find((text) => text.startsWith('0::'));
    this.#home = `${findCgroup2()}${line?.slice(3) ?? '/'}`;
    mkdirSync(this.path);
  }

  run<T>(use: () => T): T {
    writeFileSync(`${this.path}/cgroup.procs`, String(process.pid));
    try {
      return use();
    } finally {
      writeFileSync(`${this.#home}/cgroup.procs`, String(process.pid));
    }
  }

  close(): void {
    rmdirSync(this.path);
  }
}
