import { countPrograms, type LivePolicy, livePolicies } from '../../host/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';
import { counted } from '../output/count.ts';
import { POLICY_OPTION, policyTitle } from '../policies.ts';

function statusText(live: LivePolicy): string {
  const { document, links, netns, system } = live;
  const rules = live.rulesets.map(({ family, tables }) => {
    const count = tables.reduce(
      (sum, { chains }) => sum + chains.reduce((all, chain) => all + chain.rules.length, 0),
      0,
    );
    return counted(count, `${family} rule`);
  });
  const lines = [
    `${policyTitle(live)}`,
    `  rules       ${rules.join(', ')}; generation ${live.generation}, applied ${new Date(document.appliedMs).toISOString()}`,
    `  hooks       ${document.hooks.join(', ')}${document.devices.length > 0 ? ` on ${document.devices.join(', ')}` : ''}${document.cgroup === undefined ? '' : ` of ${document.cgroup}`}; place ${live.order}`,
    `  fragments   ${document.hooks.includes('netfilter') ? 'reassemble' : (document.fragments ?? 'drop')}`,
    `  kernel      ${counted(countPrograms(document.programs), 'program')}, ${counted(links.length, 'link')}${document.aids.conntrack ? ', connection tracking' : ''}; namespace inode ${netns.inode}, cookie ${netns.cookie}`,
  ];
  const standing = links.flatMap(({ name, stands }) => (stands === undefined ? [] : [`${name} ${stands}`]));
  if (standing.length > 0) lines.push(`  devices     ${standing.join(', ')}`);
  const outside = Object.entries(system).filter(([, packets]) => packets > 0n);
  if (outside.length > 0)
    lines.push(`  outside rules  ${outside.map(([name, packets]) => `${name} ${packets}`).join(', ')}`);
  if (live.confirmWithinMs !== undefined)
    lines.push(
      `  UNCONFIRMED  goes back in ${Math.ceil(live.confirmWithinMs / 1000)} s; sluice confirm keeps it`,
    );
  for (const text of document.weakened) lines.push(`  PARTIAL     ${text}`);
  for (const problem of live.problems) lines.push(`  PROBLEM     ${problem}`);
  return `${lines.join('\n')}\n`;
}

export function statusJson(live: LivePolicy): Readonly<Record<string, unknown>> {
  const { policy, order, netns, generation, document, links, problems, system, confirmWithinMs } = live;
  const { hooks, devices, cgroup, fragments, manner, appliedMs, weakened, build } = document;
  return {
    policy,
    order,
    netns: { ...netns, cookie: String(netns.cookie) },
    generation,
    build,
    appliedMs,
    hooks,
    devices,
    cgroup,
    fragments: hooks.includes('netfilter') ? 'reassemble' : (fragments ?? 'drop'),
    ...(hooks.includes('xdp') ? { xdpMode: manner.xdpMode } : {}),
    ...(hooks.some((hook) => hook.startsWith('tcx')) ? { tcxPosition: manner.tcxPosition } : {}),
    programs: countPrograms(document.programs),
    links: links.map(({ name, about, stands }) => ({ name, id: about.id, kind: about.kind, stands })),
    outsideRules: Object.fromEntries(
      Object.entries(system).map(([name, packets]) => [name, String(packets)]),
    ),
    weakened,
    problems,
    confirmWithinMs,
  };
}

export const status: Command = {
  name: 'status',
  summary: 'show the live policies of all namespaces, and what is wrong with them',
  description: 'Reads the pins alone. Exit code 1 when something must be put right.',
  arguments: [],
  options: [POLICY_OPTION],
  async run(invocation, environment) {
    const policy = invocation.text('policy');
    const found = livePolicies({ policy });
    if (invocation.flag('json')) {
      await environment.stdout.write(
        `${JSON.stringify({ status: { version: 1, policies: found.map(statusJson) } })}\n`,
      );
    } else {
      await environment.stdout.write(
        found.length === 0
          ? `${policy === undefined ? 'no policy' : `no policy ${policy}`} is live\n`
          : found.map(statusText).join(''),
      );
    }
    return found.every(({ problems }) => problems.length === 0) ? ExitCode.OK : ExitCode.FINDING;
  },
};
