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
    name: 'exec',
    group: 'iptables',
    summary: 'run a command whose iptables calls make a policy of Sluice',
    load: async () => (await import('./commands/exec.ts')).exec,
  },
  {
    name: 'reassemble',
    group: 'Packets',
    summary: 'put the fragments of a capture together as Linux does',
    load: async () => (await import('./commands/reassemble.ts')).reassemble,
  },
  {
    name: 'socket load',
    group: 'Sockets',
    summary: 'put the socket program into a network namespace, without bindings',
    load: async () => (await import('./commands/socket/load.ts')).socketLoad,
  },
  {
    name: 'socket unload',
    group: 'Sockets',
    summary: 'take the socket program and all bindings out of a network namespace',
    load: async () => (await import('./commands/socket/unload.ts')).socketUnload,
  },
  {
    name: 'socket upgrade',
    group: 'Sockets',
    summary: "put this build's program in the place of the loaded one",
    load: async () => (await import('./commands/socket/upgrade.ts')).socketUpgrade,
  },
  {
    name: 'socket bind',
    group: 'Sockets',
    summary: 'send traffic for a prefix and ports to the sockets of a label',
    load: async () => (await import('./commands/socket/bind.ts')).socketBind,
  },
  {
    name: 'socket unbind',
    group: 'Sockets',
    summary: 'remove a binding, given as it was bound',
    load: async () => (await import('./commands/socket/unbind.ts')).socketUnbind,
  },
  {
    name: 'socket bindings',
    group: 'Sockets',
    summary: 'print the bindings in force, in the order of precedence',
    load: async () => (await import('./commands/socket/bindings.ts')).socketBindings,
  },
  {
    name: 'socket apply',
    group: 'Sockets',
    summary: 'replace all bindings by those of a file, at once',
    load: async () => (await import('./commands/socket/apply.ts')).socketApply,
  },
  {
    name: 'socket register',
    group: 'Sockets',
    summary: 'give a label its sockets: from a process, a service manager, or whoever sends them',
    load: async () => (await import('./commands/socket/register.ts')).socketRegister,
  },
  {
    name: 'socket unregister',
    group: 'Sockets',
    summary: 'take sockets of a label out; the bindings stay',
    load: async () => (await import('./commands/socket/unregister.ts')).socketUnregister,
  },
  {
    name: 'socket status',
    group: 'Sockets',
    summary: 'show programs, labels, their sockets and counters',
    load: async () => (await import('./commands/socket/status.ts')).socketStatus,
  },
  {
    name: 'socket metrics',
    group: 'Sockets',
    summary: 'print counters as Prometheus text, or serve them over HTTP on loopback',
    load: async () => (await import('./commands/socket/metrics.ts')).socketMetrics,
  },
  {
    name: 'socket explain',
    group: 'Sockets',
    summary: 'say which binding a packet meets, which lose and why, and which socket gets it',
    load: async () => (await import('./commands/socket/explain.ts')).socketExplain,
  },
  {
    name: 'socket import',
    group: 'Sockets',
    summary: 'make a bindings file of TPROXY and REDIRECT rules, or of the JSON of tubular',
    load: async () => (await import('./commands/socket/import.ts')).socketImport,
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
