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
    name: 'iptables',
    group: 'iptables',
    summary: 'iptables on the live policy: all its commands and options',
    load: async () => (await import('./commands/iptables.ts')).iptables,
  },
  {
    name: 'ip6tables',
    group: 'iptables',
    summary: 'ip6tables on the live policy',
    load: async () => (await import('./commands/iptables.ts')).ip6tables,
  },
  {
    name: 'iptables-save',
    group: 'iptables',
    summary: 'print the live IPv4 rules as iptables-save does',
    load: async () => (await import('./commands/iptables.ts')).iptablesSave,
  },
  {
    name: 'ip6tables-save',
    group: 'iptables',
    summary: 'print the live IPv6 rules as ip6tables-save does',
    load: async () => (await import('./commands/iptables.ts')).ip6tablesSave,
  },
  {
    name: 'iptables-restore',
    group: 'iptables',
    summary: 'make saved IPv4 rules live with iptables-restore',
    load: async () => (await import('./commands/iptables.ts')).iptablesRestore,
  },
  {
    name: 'ip6tables-restore',
    group: 'iptables',
    summary: 'make saved IPv6 rules live with ip6tables-restore',
    load: async () => (await import('./commands/iptables.ts')).ip6tablesRestore,
  },
  {
    name: 'apply',
    group: 'Live policies',
    summary: 'make rules live, or replace those that are, on all hooks at once',
    load: async () => (await import('./commands/apply.ts')).apply,
  },
  {
    name: 'set add',
    group: 'Live policies',
    summary: 'add an entry to a set of a live policy',
    load: async () => (await import('./commands/set.ts')).setAdd,
  },
  {
    name: 'set del',
    group: 'Live policies',
    summary: 'delete an entry from a set of a live policy',
    load: async () => (await import('./commands/set.ts')).setDel,
  },
  {
    name: 'set test',
    group: 'Live policies',
    summary: 'say whether an entry is in a set of a live policy; exit code 1 when it is not',
    load: async () => (await import('./commands/set.ts')).setTest,
  },
  {
    name: 'set list',
    group: 'Live policies',
    summary: 'list the sets of live policies, with their entries and memory',
    load: async () => (await import('./commands/set.ts')).setList,
  },
  {
    name: 'set save',
    group: 'Live policies',
    summary: 'print the sets of live policies as ipset save does',
    load: async () => (await import('./commands/set.ts')).setSave,
  },
  {
    name: 'set flush',
    group: 'Live policies',
    summary: 'take all entries out of a set of a live policy',
    load: async () => (await import('./commands/set.ts')).setFlush,
  },
  {
    name: 'set create',
    group: 'Live policies',
    summary: 'make an empty set in a live policy, for rules that are applied next',
    load: async () => (await import('./commands/set.ts')).setCreate,
  },
  {
    name: 'set destroy',
    group: 'Live policies',
    summary: 'take a set that no rule names out of a live policy',
    load: async () => (await import('./commands/set.ts')).setDestroy,
  },
  {
    name: 'confirm',
    group: 'Live policies',
    summary: 'keep the rules that sluice apply --confirm made live',
    load: async () => (await import('./commands/confirm.ts')).confirm,
  },
  {
    name: 'diff',
    group: 'Live policies',
    summary: 'compare the live rules with files: what applying them would add, remove and move',
    load: async () => (await import('./commands/diff.ts')).diff,
  },
  {
    name: 'status',
    group: 'Live policies',
    summary: 'show the live policies of all namespaces, and what is wrong with them',
    load: async () => (await import('./commands/status.ts')).status,
  },
  {
    name: 'list',
    group: 'Live policies',
    summary: 'print the live rules as iptables -L -n does',
    load: async () => (await import('./commands/list.ts')).list,
  },
  {
    name: 'save',
    group: 'Live policies',
    summary: 'print the live rules with their counters, as iptables-save -c does',
    load: async () => (await import('./commands/save.ts')).save,
  },
  {
    name: 'restore',
    group: 'Live policies',
    summary:
      'make saved rules live: texts of iptables-save as iptables-restore does, or policies of sluice save --json',
    load: async () => (await import('./commands/restore.ts')).restore,
  },
  {
    name: 'zero',
    group: 'Live policies',
    summary: 'let the counters of live rules start from zero',
    load: async () => (await import('./commands/zero.ts')).zero,
  },
  {
    name: 'watch',
    group: 'Live policies',
    summary: 'print what LOG rules report, in the form of the kernel log, as it happens',
    load: async () => (await import('./commands/watch.ts')).watch,
  },
  {
    name: 'dump',
    group: 'Live policies',
    summary: 'print the live programs and tables, the rule beside each block of instructions and each record',
    load: async () => (await import('./commands/dump.ts')).dump,
  },
  {
    name: 'import',
    group: 'Live policies',
    summary: 'print the running iptables-legacy rules of a namespace, and say what can be taken over',
    load: async () => (await import('./commands/import.ts')).importRules,
  },
  {
    name: 'remove',
    group: 'Live policies',
    summary: 'take policies away: links, programs, tables',
    load: async () => (await import('./commands/remove.ts')).remove,
  },
  {
    name: 'refresh',
    group: 'Live policies',
    summary: 'let live rules see the addresses and devices of their namespaces as they are now',
    load: async () => (await import('./commands/refresh.ts')).refresh,
  },
  {
    name: 'gc',
    group: 'Live policies',
    summary:
      'put live policies in order: finish or undo what was broken off, restore tables, drop what belongs to gone namespaces',
    load: async () => (await import('./commands/gc.ts')).gc,
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
