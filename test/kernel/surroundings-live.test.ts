/**
 * Addresses and devices that change under a live policy: the same `-m addrtype` rules run in iptables-legacy, whose answers
 * are the routing tables' own, and every counter is compared after every change.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  applyPolicy,
  livePolicies,
  refreshPolicies,
  removePolicies,
  requireLive,
} from '../../src/host/index.ts';
import { findRoom } from '../../src/host/policy/generation.ts';
import { PolicyStore } from '../../src/host/policy/store.ts';
import { findBpffs } from '../../src/kernel/index.ts';
import type { Family } from '../../src/net/index.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { describeKernel } from '../support/kernel.ts';
import { kernelObjects, parsed, policyName, remaining, request } from '../support/live-policy.ts';
import { LiveTable, tableSocket } from '../support/live-table.ts';
import { addressBytes, type Host, withNamespaces, withRouter } from '../support/netns.ts';
import { LONG_MS } from '../support/patience.ts';
import { Tap } from '../support/tap.ts';

const SLUICE = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));
const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;

const NETWORKS: Readonly<Record<Family, readonly string[]>> = {
  ipv4: ['10.1.0.1/24', '10.1.0.9/28', '10.2.3.4/31', '10.2.3.4/16', '192.0.2.1/32'],
  ipv6: ['fd01::1/64', 'fd01::/64', 'fd02:0:0:1::5/48', 'fd02::7/128', 'fd03::1/127'],
};
/** What packets come from and go to: addresses of the networks, their edges, and what every host knows. */
const ASKED: Readonly<Record<Family, readonly string[]>> = {
  ipv4: [
    ...['10.1.0.1', '10.1.0.9', '10.1.0.0', '10.1.0.15', '10.1.0.255', '10.2.3.4', '10.2.3.5', '10.2.0.0'],
    ...['10.2.255.255', '192.0.2.1', '198.51.100.1', '127.0.0.1', '127.9.9.9', '127.255.255.255'],
    ...['0.0.0.0', '255.255.255.255', '224.0.0.1'],
  ],
  ipv6: [
    ...['fd01::1', 'fd01::', 'fd01::2', 'fd02:0:0:1::5', 'fd02::', 'fd02::7', 'fd03::', 'fd03::1', 'fd09::'],
    ...['fd09::1', '::1', 'ff02::1', '2001:db8::1'],
  ],
};
const TYPES: Readonly<Record<Family, readonly string[]>> = {
  ipv4: ['UNICAST', 'LOCAL', 'BROADCAST', 'MULTICAST'],
  ipv6: ['LOCAL', 'ANYCAST', 'MULTICAST'],
};

function rulesOf(family: Family): string {
  const questions = TYPES[family].flatMap((type) => [
    `-A PREROUTING -m addrtype --src-type ${type}`,
    `-A PREROUTING -m addrtype --dst-type ${type}`,
    ...(family === 'ipv4' ? [`-A PREROUTING -m addrtype --dst-type ${type} --limit-iface-in`] : []),
  ]);
  return ['*raw', ':PREROUTING ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]', ...questions, 'COMMIT', ''].join('\n');
}

/** Nobody's addresses. */
const STRANGERS: Readonly<Record<Family, readonly [string, string]>> = {
  ipv4: ['198.51.100.9', '198.51.100.8'],
  ipv6: ['2001:db8::9', '2001:db8::8'],
};
/** The stack drops packets from there before any rule. */
const NO_SOURCES: ReadonlySet<string> = new Set(['ff02::1', '::1']);

/** Arguments of ip(8); a step that the kernel refuses changes nothing for either side. */
type Step = readonly string[];

function steps(family: Family): fc.Arbitrary<readonly Step[]> {
  const flag = family === 'ipv4' ? '-4' : '-6';
  const network = fc.constantFrom(...NETWORKS[family]);
  const device = fc.constantFrom('tap0', 'lo', 'dum0');
  const step: fc.Arbitrary<Step> = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.tuple(network, device).map(([to, dev]) => [flag, 'addr', 'add', to, 'dev', dev]),
    },
    {
      weight: 2,
      arbitrary: fc.tuple(network, device).map(([to, dev]) => [flag, 'addr', 'del', to, 'dev', dev]),
    },
    fc
      .tuple(fc.constantFrom('lo', 'dum0'), fc.constantFrom('up', 'down'))
      .map(([dev, how]) => ['link', 'set', dev, how]),
    fc.constantFrom<Step>(
      ['link', 'add', 'dum0', 'type', 'dummy'],
      ['link', 'del', 'dum0'],
      [flag, 'route', 'add', family === 'ipv4' ? '10.1.0.0/25' : 'fd09::/64', 'dev', 'tap0'],
      [
        flag,
        'route',
        'add',
        family === 'ipv4' ? 'local' : 'unicast',
        ...(family === 'ipv4' ? ['10.9.0.0/16', 'dev', 'lo'] : ['fd09::/80', 'via', 'fd01::2']),
      ],
    ),
  );
  return fc.array(step, { minLength: 4, maxLength: 8 });
}

function packet(family: Family, source: string, destination: string): Uint8Array {
  return buildPacket({
    family,
    source: addressBytes(source),
    destination: addressBytes(destination),
    tos: 0,
    ttl: 3,
    id: 1,
    dontFragment: false,
    ipOptions: new Uint8Array(0),
    extensions: [],
    transport: { kind: 'ports', protocol: 17, sourcePort: 1, destinationPort: 2 },
    payloadBytes: 4,
    inDevice: 'tap0',
    sourceMac: Uint8Array.of(2, 0, 0, 0, 0, 0x77),
  });
}

/** The kernel makes the routes of an IPv6 address later, when it has looked for duplicates, even where it looks for none. */
async function settled(host: Host): Promise<void> {
  for (const end = performance.now() + LONG_MS; performance.now() < end; ) {
    if (host.exec('ip', ['-6', 'addr', 'show', 'tentative']) === '') return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error('an address stays tentative');
}

/** Takes the steps in a fresh namespace; all counters of both sides are compared after every packet. */
async function compared(host: Host, family: Family, taken: readonly Step[]): Promise<void> {
  const policy = policyName();
  const tap = Tap.open(host, 'tap0');
  host.sysctl('net/ipv4/conf/all/rp_filter', 0);
  const rules = rulesOf(family);
  const restore = family === 'ipv4' ? 'iptables-legacy-restore' : 'ip6tables-legacy-restore';
  host.exec(restore, ['-w'], { input: rules });
  const table = new LiveTable(tableSocket(host, family), family, 'raw');
  const namespaces = [host.netnsName];
  try {
    await applyPolicy({ policy, hooks: ['netfilter'], namespaces, rulesets: [parsed(rules, family)] });
    const ours = (): bigint[] =>
      requireLive({ policy }).rulesets[0]!.tables[0]!.chains[0]!.rules.map(
        ({ counters }) => counters.packets,
      );
    const theirs = (): bigint[] =>
      table
        .read()
        .filter(({ chain, rule }) => chain === 'PREROUTING' && rule !== 'policy')
        .map(({ packets }) => packets);
    const before = theirs().map((packets, index) => packets - ours()[index]!);
    const since = (): bigint[] => theirs().map((packets, index) => packets - before[index]!);
    const [one, other] = STRANGERS[family];
    for (const step of taken) {
      host.exec('ip', step, { allowFailure: true });
      await settled(host);
      await refreshPolicies();
      for (const address of ASKED[family]) {
        tap.inject(packet(family, one, address));
        expect(ours(), `${step.join(' ')}: to ${address}`).toEqual(since());
        if (NO_SOURCES.has(address)) continue;
        tap.inject(packet(family, address, other));
        expect(ours(), `${step.join(' ')}: from ${address}`).toEqual(since());
      }
    }
  } catch (error) {
    const state = ['addr', 'route show table all'].map((what) =>
      host.exec('ip', [family === 'ipv4' ? '-4' : '-6', ...what.split(' ')]),
    );
    throw new Error(`${String(error)}\n${state.join('')}`, { cause: error });
  } finally {
    await removePolicies({ policy });
  }
}

const SIGTERM = 15;

/** Whether a process has a handler for a signal. */
function catches(pid: number, signal: number): boolean {
  const [, caught] = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))!;
  return ((BigInt(`0x${caught}`) >> BigInt(signal - 1)) & 1n) === 1n;
}

describeKernel('addresses and devices that change', () => {
  test.each(['ipv4', 'ipv6'] as const)(
    '%s address types are those of iptables after every change',
    (family) =>
      fc.assert(
        fc.asyncProperty(steps(family), (taken) =>
          withNamespaces(['a'], ({ a }) => compared(a, family, taken)),
        ),
        { numRuns: 2 * SOAK },
      ),
  );

  test('former surroundings are free memory again, also after a command that was killed', () =>
    withNamespaces(['a'], async ({ a }) => {
      const wanted = request(a, ['-A INPUT -m addrtype --dst-type LOCAL -j ACCEPT']);
      const used = (): number => {
        using store = PolicyStore.open(findBpffs()!, wanted.policy)!;
        return store.extents().length;
      };
      try {
        await applyPolicy(wanted);
        const change = async (turn: number): Promise<number> => {
          a.exec('ip', ['addr', 'add', `10.7.${turn}.1/24`, 'dev', 'lo']);
          expect(await refreshPolicies()).toContainEqual(expect.stringContaining(wanted.policy));
          expect(await refreshPolicies()).toEqual([]);
          return used();
        };
        // The generation, and surroundings that came after it.
        expect(await change(1)).toBe(2);
        expect(await change(2)).toBe(2);
        using store = PolicyStore.open(findBpffs()!, wanted.policy)!;
        const [record] = store.records.all();
        const generation = store.generation(record!.root);
        const size = generation.surroundings.bytes.length;
        const [pointer] = findRoom(store.arena.buffer.byteLength, store.extents(), [size]);
        new Uint8Array(store.arena.buffer).set(generation.surroundings.bytes, pointer);
        // What a command that is killed between its two stores leaves, and one that is killed after them.
        generation.changeSurroundings(pointer!);
        expect(used()).toBe(3);
        await refreshPolicies();
        expect(generation.isChangingSurroundings).toBe(false);
        expect(used()).toBe(2);
        expect(await change(3)).toBe(2);
      } finally {
        await removePolicies({ policy: wanted.policy }).catch(() => []);
      }
    }));

  test('refresh --follow keeps rules up to date, and keeps no namespace alive', () =>
    withRouter(async ({ a, b, r }) => {
      const rules = ['*filter', ':INPUT ACCEPT [0:0]', ':FORWARD DROP [0:0]', '-A FORWARD -o way9 -j ACCEPT'];
      const wanted = {
        policy: policyName(),
        hooks: ['tcx-ingress'],
        devices: ['a'],
        namespaces: [r.netnsName],
        rulesets: [parsed([...rules, 'COMMIT', ''].join('\n'))],
      } as const;
      const { policy } = wanted;
      const server = b.udp(5000, b.ipv4);
      const client = a.udp();
      const arrives = (): boolean => {
        client.send(b.ipv4, 5000, 'x');
        return server.receive(50) !== undefined;
      };
      const eventually = async (what: () => boolean): Promise<boolean> => {
        for (const end = performance.now() + LONG_MS; performance.now() < end; ) {
          if (what()) return true;
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        return false;
      };
      const follower = spawn(process.execPath, [SLUICE, 'refresh', '--follow'], { stdio: 'ignore' });
      const ended = new Promise((resolve) => follower.once('close', resolve));
      try {
        await applyPolicy(wanted);
        expect(arrives()).toBe(false);
        for (const how of [
          ['b', 'down'],
          ['b', 'name', 'way9'],
          ['way9', 'up'],
        ])
          r.exec('ip', ['link', 'set', 'dev', ...how]);
        expect(await eventually(arrives)).toBe(true);
        const made = kernelObjects(policy);
        r.close();
        expect(await eventually(() => livePolicies({ policy }).length === 0)).toBe(true);
        // This process has the memory mapped; programs it has not.
        expect(await remaining({ ...made, maps: [] })).toEqual([]);
        // Where other commands have kept the rules up to date it may only just have been started.
        expect(await eventually(() => catches(follower.pid!, SIGTERM))).toBe(true);
        follower.kill('SIGTERM');
        expect(await ended).toBe(0);
      } finally {
        follower.kill('SIGKILL');
        await ended;
        await removePolicies({ policy }).catch(() => []);
      }
    }));
});
