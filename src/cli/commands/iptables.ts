/** `sluice iptables …` and its sisters: the unmodified program, once, against the live policy of this namespace. */
import type { Command } from '../command.ts';
import { DEFAULT_POLICY } from '../policies.ts';
import { onLivePolicy } from './exec.ts';

function driving(name: string, summary: string): Command {
  return {
    name,
    summary,
    description: `Runs the legacy ${name} program on the live policy "${DEFAULT_POLICY}" of this network namespace, at the netfilter hooks. All words are its own; see its manual page. The kernel's tables are neither read nor changed.`,
    arguments: [],
    options: [],
    passesThrough: true,
    async run({ rest }, environment) {
      const argv = [name, ...rest];
      return await onLivePolicy(
        {
          argv,
          policy: DEFAULT_POLICY,
          hooks: ['netfilter'],
          devices: [],
          netns: undefined,
          allowNetlink: false,
        },
        environment,
      );
    },
  };
}

export const iptables: Command = driving(
  'iptables',
  'iptables on the live policy: all its commands and options',
);
export const ip6tables: Command = driving('ip6tables', 'ip6tables on the live policy');
export const iptablesSave: Command = driving(
  'iptables-save',
  'print the live IPv4 rules as iptables-save does',
);
export const ip6tablesSave: Command = driving(
  'ip6tables-save',
  'print the live IPv6 rules as ip6tables-save does',
);
export const iptablesRestore: Command = driving(
  'iptables-restore',
  'make saved IPv4 rules live with iptables-restore',
);
export const ip6tablesRestore: Command = driving(
  'ip6tables-restore',
  'make saved IPv6 rules live with ip6tables-restore',
);
