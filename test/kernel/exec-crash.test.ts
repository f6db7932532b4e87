/**
 * A supervisor, and the iptables under it, ended by SIGKILL before each step of the calls that change a table: the rules
 * are those before or those after, whole, packets meet them, no lock stays held, and the next command does its work.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { applyPolicy, collectGarbage, removePolicies, requireLive } from '../../src/host/index.ts';
import { tryLock } from '../../src/kernel/index.ts';
import { printRuleset } from '../../src/rules/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { KilledChildren, type KilledTask } from '../support/killed-children.ts';
import { filterText, parsed, policyName } from '../support/live-policy.ts';
import { type Host, withPair } from '../support/netns.ts';
import { supervisionMissing } from '../support/supervised.ts';

interface ExecTask extends KilledTask {
  readonly netns: string;
  readonly policy: string;
  readonly lockFile: string;
  readonly argv: readonly string[];
  readonly victim: 'supervisor' | 'command';
}

/** Every step in long runs; otherwise some, for each is a session. */
const STRIDE = process.env.SLUICE_SOAK === '1' ? 1 : 5;
const VICTIMS: readonly ExecTask['victim'][] = ['supervisor', 'command'];
/** As many as are tables, so that a few that change are edited into them. */
const FILLING = Array.from(
  { length: 250 },
  (_, index) => `-A INPUT -s 10.99.${index >> 4}.${index & 15}/32 -j DROP`,
);
const SENTINEL = '-A INPUT -p udp -m udp --dport 5999 -j ACCEPT';

/** Rules, the port that they let in, and the command that makes them from the others. */
interface State {
  readonly text: string;
  readonly port: number;
  readonly argv: readonly string[];
}

/** The port of the two that packets get through to; the last packet passes in every state. */
function openPort(from: Host, to: Host): string {
  const client = from.keep(from.run(() => from.udp()));
  const servers = [5000, 5001].map((port) => to.udp(port));
  const last = to.udp(5999);
  for (const port of [5000, 5001, 5999]) client.send(to.ipv4, port, 'x');
  expect(last.receive(10_000)).toBeDefined();
  const open = servers.filter((socket) => socket.receive(0) !== undefined).map(({ port }) => port);
  for (const socket of [client, last, ...servers]) socket.close();
  return open.join();
}

function runningText(policy: string): string {
  return requireLive({ policy })
    .rulesets.map((ruleset) => printRuleset(ruleset))
    .join('')
    .replace(/^#.*\n/gm, '');
}

describeKernel(
  'iptables that is killed, and its supervisor',
  () => {
    const folder = (): string => mkdtempSync(join(tmpdir(), 'slc-crash-'));
    const rule = (port: number): string => `-p udp -m udp --dport ${port} -j ACCEPT`;

    /** Goes to and fro between two states; each time one step further comes before a victim's end. */
    async function killAtEveryStep(states: readonly [State, State], lockFile: string): Promise<string[]> {
      const seen: string[] = [];
      await withPair(async ({ a, b }) => {
        const policy = policyName();
        const target = { policy, hooks: ['netfilter'], namespaces: [b.netnsName] } as const;
        using children = new KilledChildren<ExecTask>('exec-child.mjs');
        try {
          let [now, then] = states;
          await applyPolicy({ ...target, rulesets: [parsed(now.text)] });
          const links = requireLive({ policy }).links.length;
          for (const victim of VICTIMS) {
            for (let step = 1; ; step += STRIDE) {
              const task = { netns: b.netnsName, policy, lockFile, victim, killAtStep: step };
              const end = await children.run({ ...task, argv: then.argv });
              const text = runningText(policy);
              expect(
                states.map((state) => state.text),
                end,
              ).toContain(text);
              const changed = text === then.text;
              if (changed) [now, then] = [then, now];
              expect(openPort(a, b), end).toBe(String(now.port));
              const lock = tryLock(lockFile);
              expect(lock, `${end}: the lock of xtables`).toBeDefined();
              lock?.close();
              expect(await collectGarbage().then(() => runningText(policy)), end).toBe(text);
              const { problems, links: left } = requireLive({ policy });
              expect(problems, end).toEqual([]);
              expect(left.length, end).toBe(links);
              seen.push(`${victim} ${end}: ${changed ? 'new' : 'old'}`);
              if (end === 'done') break;
            }
          }
        } finally {
          await removePolicies({ policy }).catch(() => []);
        }
      });
      return seen;
    }

    test('while tables are edited', async () => {
      const lockFolder = folder();
      const state = (port: number): State => ({
        text: filterText([SENTINEL, `-A INPUT ${rule(port)}`, ...FILLING]),
        port,
        argv: ['iptables', '-R', 'INPUT', '2', ...rule(port).split(' ')],
      });
      try {
        const seen = await killAtEveryStep([state(5000), state(5001)], join(lockFolder, 'lock'));
        for (const victim of VICTIMS)
          expect(seen.filter((end) => end.startsWith(victim)).length).toBeGreaterThan(2);
        expect(seen.join()).not.toContain('load ');
      } finally {
        rmSync(lockFolder, { recursive: true, force: true });
      }
    });

    test('while all is loaded anew', async () => {
      const lockFolder = folder();
      const state = (port: number, chain: string): State => {
        const lines = [SENTINEL, `-A INPUT -j ${chain}`, `-A ${chain} ${rule(port)}`];
        const text = filterText(lines).replace('\n-A', `\n:${chain} - [0:0]\n-A`);
        const file = join(lockFolder, chain);
        writeFileSync(file, text);
        return { text, port, argv: ['iptables-restore', file] };
      };
      try {
        const states = [state(5000, 'one'), state(5001, 'two')] as const;
        const seen = await killAtEveryStep(states, join(lockFolder, 'lock'));
        expect(seen.join()).toContain('load ');
      } finally {
        rmSync(lockFolder, { recursive: true, force: true });
      }
    });
  },
  supervisionMissing,
);
