import type { Command } from './command.ts';

/** What `sluice --help` lists without loading the commands themselves, so that starting stays fast. */
export interface CommandEntry {
  readonly name: string;
  readonly group:
    | 'Rules'
    | 'Programs'
    | 'Live policies'
    | 'iptables'
    | 'Packets'
    | 'Sockets'
    | 'This machine';
  readonly summary: string;
  load(): Promise<Command>;
}

export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'check',
    group: 'Rules',
    summary: 'read rulesets and list every rule that is wrong or cannot be run',
    load: async () => (await import('./commands/check.ts')).check,
  },
  {
    name: 'run',
    group: 'Rules',
    summary: 'let a ruleset decide the packets of a capture',
    load: async () => (await import('./commands/run.ts')).run,
  },
  {
    name: 'compile',
    group: 'Programs',
    summary: 'turn rules into eBPF and print the programs',
    load: async () => (await import('./commands/compile.ts')).compile,
  },
  {
    name: 'vm run',
    group: 'Programs',
    summary: 'run eBPF bytecode on bytes and print r0',
    load: async () => (await import('./commands/vm/run.ts')).vmRun,
  },
  {
    name: 'reassemble',
    group: 'Packets',
    summary: 'put the fragments of a capture together as Linux does',
    load: async () => (await import('./commands/reassemble.ts')).reassemble,
  },
  {
    name: 'doctor',
    group: 'This machine',
    summary: 'what this kernel and these privileges allow, and the way out where they do not',
    load: async () => (await import('./commands/doctor.ts')).doctor,
  },
  {
    name: 'demo',
    group: 'This machine',
    summary: 'show the main job on the shipped rules and capture',
    load: async () => (await import('./commands/demo.ts')).demo,
  },
  {
    name: 'completion',
    group: 'This machine',
    summary: 'print a completion script for bash, zsh or fish',
    load: async () => (await import('./commands/completion.ts')).completion,
  },
];
