/** Commands about sockets ended by SIGKILL before each of their steps: what was or what was asked for, and nothing is left over. */
import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { SocketSteering } from '../../src/host/index.ts';
import { formatInPrecedence, parseBindings } from '../../src/sklookup/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { KilledChildren, type KilledTask } from '../support/killed-children.ts';
import { type Host, withNamespaces } from '../support/netns.ts';

interface SocketTask extends KilledTask {
  readonly netns: string;
  readonly change: 'load' | 'unload' | 'upgrade' | 'apply' | 'bind' | 'unbind' | 'register' | 'unregister';
  readonly words?: string;
}

/** Every step in long runs; otherwise every sixth: each takes a process, and test/sklookup/crash.test.ts stops at each store. */
const STRIDE = process.env.SLUICE_SOAK === '1' ? 1 : 6;

const PINS = '/sys/fs/bpf/sluice/sockets';
const OLD = 'web tcp 127.1.0.0/16 80\nold tcp 127.2.0.0/16 80\n';
const NEW = 'label fresh when-empty pass\nfresh tcp 127.2.0.0/16 80\nweb tcp 127.1.0.0/24 80\n';

async function withChildren(
  use: (host: Host, children: KilledChildren<SocketTask>) => Promise<void>,
): Promise<void> {
  await withNamespaces(['k'], async ({ k }) => {
    using children = new KilledChildren<SocketTask>('sockets/changing-child.mjs');
    try {
      await use(k, children);
    } finally {
      await SocketSteering.unload(k.netnsName);
    }
  });
}

/** The set that is in force, as text. */
function bindingsOf(steering: SocketSteering): string {
  return formatInPrecedence(steering.bindings());
}

function textOf(file: string): string {
  return formatInPrecedence(parseBindings(file, 'test'));
}

/** Numbers, labels and places of the socket map are what bindings and registered sockets say. */
function expectSettled(steering: SocketSteering, end: string): void {
  const { state, sockets } = steering.objects;
  expect(state.unsettled, end).toBe(false);
  const { bindings } = steering.bindings();
  const status = steering.status();
  expect(status.bindings, end).toBe(bindings.length);
  const bound = new Set(bindings.map(({ label }) => label));
  const members = status.destinations.flatMap((each) => each.members);
  for (const { label, index, members: own } of status.destinations) {
    expect(bound.has(label) || own.length > 0, `${end}: ${label}`).toBe(true);
    const named = bindings.filter((binding) => binding.label === label).length;
    expect(state.destinations.bindings(index), `${end}: ${label}`).toBe(named);
  }
  expect(state.destinations.strayedSlots(), end).toEqual([]);
  const filled = [0, 1, 2, 3].filter((slot) => sockets.lookup(slot) !== undefined);
  expect(filled, end).toEqual(members.map(({ slot }) => slot).sort());
  expect(status.programs, end).toHaveLength(1);
  expect(status.programs[0]!.ours, end).toBe(true);
}

describeKernel('a command that is killed', () => {
  test('load and unload: the next load finds room, the next unload leaves nothing', () =>
    withChildren(async (host, children) => {
      const netns = host.netnsName;
      const { steering: first } = await SocketSteering.load(netns);
      const { cookie } = first.netns;
      first.close();
      const pins = (): string[] => readdirSync(PINS).filter((name) => name.startsWith(String(cookie)));
      for (const change of ['load', 'unload'] as const) {
        for (let step = 1; ; step += STRIDE) {
          if (change === 'load') await SocketSteering.unload(netns);
          expect(pins(), change).toHaveLength(change === 'load' ? 0 : 1);
          const end = `${change} ${await children.run({ netns, change, killAtStep: step })}`;
          // Whatever stage it left: it can be taken away, and made anew.
          if ((step / STRIDE) % 2 < 1) {
            await SocketSteering.unload(netns);
            expect(pins(), end).toEqual([]);
          }
          const { steering } = await SocketSteering.load(netns);
          expect(pins(), end).toEqual([String(cookie)]);
          await steering.apply(parseBindings(OLD, 'test'));
          expectSettled(steering, end);
          steering.close();
          if (end.endsWith('done')) break;
        }
      }
      await SocketSteering.unload(netns);
      expect(pins()).toEqual([]);
    }));

  test('upgrade, apply, bind, unbind, register, unregister: as before or as asked for, and connections go on', () =>
    withChildren(async (host, children) => {
      const netns = host.netnsName;
      const { steering } = await SocketSteering.load(netns);
      const web = host.listen(0, '127.0.0.1');
      const other = host.listen(0, '127.0.0.1');
      await steering.apply(parseBindings(OLD, 'test'));
      await steering.register(web.fd, { label: 'web' });
      const changes = [
        ['upgrade', '', OLD],
        ['apply', NEW, NEW],
        ['bind', 'added tcp 127.1.0.0/24 81', `${OLD}added tcp 127.1.0.0/24 81\n`],
        ['bind', 'web tcp 127.2.0.0/16 80', OLD.replace('old', 'web')],
        ['unbind', 'old tcp 127.2.0.0/16 80', 'web tcp 127.1.0.0/16 80\n'],
        ['register', `old ${process.pid} ${other.port}`, OLD],
        ['unregister', 'old', OLD],
      ] as const;
      for (const [change, words, asked] of changes) {
        const seen = new Set<string>();
        for (let step = 1; ; step += STRIDE) {
          if (change === 'unregister') await steering.register(other.fd, { label: 'old' });
          const end = `${change} ${await children.run({ netns, change, words, killAtStep: step })}`;
          const found = bindingsOf(steering);
          expect([textOf(OLD), textOf(asked)], end).toContain(found);
          seen.add(found);
          expect(steering.status().bindings, end).toBe(steering.bindings().bindings.length);
          host.connect('127.1.0.1', 80);
          expect(web.accept(5000), end).toBeDefined();
          // The next command puts right what this one left.
          await steering.upgrade();
          expectSettled(steering, end);
          expect(bindingsOf(steering), end).toBe(found);
          if (end.endsWith('done')) {
            expect(found, end).toBe(textOf(asked));
            expect(step, change).toBeGreaterThan(3);
            break;
          }
          await steering.apply(parseBindings(OLD, 'test'));
        }
        await steering.apply(parseBindings(OLD, 'test'));
        expect(seen.size, change).toBe(new Set([textOf(OLD), textOf(asked)]).size);
        for (const label of ['old', 'added', 'fresh'])
          if (steering.status().destinations.some((each) => each.label === label && each.members.length > 0))
            await steering.unregister({ label });
      }
      steering.close();
    }));
});
