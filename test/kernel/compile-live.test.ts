/** Compiled programs on real packets: devices, connection state, REJECT by the action chain, generations. */
import { expect, test } from 'vitest';
import {
  ACTIONS_MAP,
  type AttachPoint,
  buildActionFilter,
  buildBackstop,
  type CompiledPolicy,
  compilePolicy,
  entryIndex,
  GENERATIONS_OFFSET,
  type HookName,
  SYSTEM_COUNTERS,
} from '../../src/compile/index.ts';
import {
  attachNetfilter,
  enableConntrack,
  kernelTypes,
  linkProgram,
  matchSocketFilter,
  NetfilterHook,
  NftTransaction,
  Program,
  reject,
} from '../../src/kernel/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { type Host, withPair } from '../support/netns.ts';
import { LoadedPolicy } from '../support/policy.ts';

const INPUT: AttachPoint & { flavour: 'netfilter' } = {
  flavour: 'netfilter',
  group: 'filter',
  family: 'ipv4',
  hook: 1,
};

function compile(lines: readonly string[], hooks: readonly HookName[] = ['netfilter']): CompiledPolicy {
  const text = [
    '*filter',
    ':INPUT DROP [0:0]',
    ':FORWARD DROP [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    ...lines,
    'COMMIT',
    '',
  ];
  const { ruleset, diagnostics } = parseRuleset(text.join('\n'), { file: 'live', family: 'ipv4' });
  expect(diagnostics).toEqual([]);
  return compilePolicy([ruleset], { hooks });
}

/** The policy's INPUT dispatcher, linked in the host's namespace. */
function enforce(host: Host, policy: CompiledPolicy): LoadedPolicy {
  const loaded = host.keep(new LoadedPolicy(policy, {}, 'only', [entryIndex(INPUT)]));
  loaded.enter(host.cookie, GENERATIONS_OFFSET);
  const dispatcher = loaded.dispatchers.get(entryIndex(INPUT))!;
  host.keep(
    host.run(() =>
      attachNetfilter(dispatcher, { family: 'ipv4', hook: NetfilterHook.LOCAL_IN, priority: 1 }),
    ),
  );
  return loaded;
}

function errorOf(use: () => unknown): string {
  try {
    use();
    return 'connected';
  } catch (error) {
    return (error as { errnoName?: string }).errnoName ?? String(error);
  }
}

describeKernel('compiled programs on real packets', () => {
  test('input devices by name and wildcard', () =>
    withPair(({ a, b }) => {
      const loaded = enforce(
        b,
        compile(['-A INPUT -i zz -j ACCEPT', '-A INPUT -i a+ -p udp -j ACCEPT', '-A INPUT -i a -j ACCEPT']),
      );
      const server = b.udp();
      a.udp().send(b.ipv4, server.port, 'x');
      expect(server.receiveText()).toBe('x');
      const counts = [0, 1, 2].map((index) => loaded.counter(SYSTEM_COUNTERS + index).packets);
      expect(counts).toEqual([0n, 1n, 0n]);
      expect(loaded.counter(SYSTEM_COUNTERS + 1).bytes).toBe(29n);
    }));

  test('connection state: new connections out, answers in', () =>
    withPair(({ a, b }) => {
      b.run(() => enableConntrack('slc_ct'));
      const loaded = enforce(b, compile(['-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT']));
      const listener = a.listen(0, a.ipv4);
      expect(errorOf(() => b.connect(a.ipv4, listener.port))).toBe('connected');
      expect(loaded.counter(SYSTEM_COUNTERS).packets).toBeGreaterThan(0n);
      const inner = b.listen(0, b.ipv4);
      expect(errorOf(() => a.connect(b.ipv4, inner.port, 300))).toBe('ETIMEDOUT');
    }));

  test('REJECT answers at once, and drops when the action chain is gone', () =>
    withPair(({ a, b }) => {
      const policy = compile(['-A INPUT -p tcp -j REJECT --reject-with tcp-reset']);
      expect(policy.rejects.ipv4).toEqual([7]);
      const loaded = enforce(b, policy);
      const load = (
        built: ReturnType<typeof buildActionFilter> | ReturnType<typeof buildBackstop>,
      ): Program =>
        b.keep(
          Program.load({
            type: built.type,
            name: built.name,
            instructions: linkProgram(built.code, { maps: loaded.maps, types: kernelTypes() }),
            ...('attachType' in built ? { expectedAttachType: built.attachType } : {}),
          }),
        );
      const reset = load(buildActionFilter({ kind: 'reject', with: 7 }));
      const done = load(buildActionFilter({ kind: 'done' }));
      b.keep(
        b.run(() =>
          attachNetfilter(load(buildBackstop()), {
            family: 'ipv4',
            hook: NetfilterHook.LOCAL_IN,
            priority: 5,
          }),
        ),
      );
      const listener = b.listen(0, b.ipv4);
      expect(errorOf(() => a.connect(b.ipv4, listener.port, 300))).toBe('ETIMEDOUT');
      const chain = {
        name: 'act',
        hook: { type: 'filter', number: 1, priority: 3, policy: 'accept' },
      } as const;
      b.run(() =>
        new NftTransaction('ip', 'slc_act')
          .addTable()
          .addChain(chain)
          .addRule('act', [matchSocketFilter({ fd: reset.fd.number }), reject({ kind: 'tcp-reset' })])
          .addRule('act', [matchSocketFilter({ fd: done.fd.number })])
          .commit(),
      );
      expect(errorOf(() => a.connect(b.ipv4, listener.port, 1000))).toBe('ECONNREFUSED');
      expect(loaded.takeAll(ACTIONS_MAP)).toEqual([]);
    }));
});
