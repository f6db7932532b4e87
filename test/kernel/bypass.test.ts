/**
 * Ways around a filter that are known from others' programs: none of them works here. Policy DROP, one port open.
 *
 * Each known gap, and the test that it fails at:
 *
 * - later fragments matched as ports: "a later fragment whose payload spells the open port is dropped"
 * - short packets accepted whatever the policy: "a first fragment with 8 bytes of TCP …", "headers that are cut short …",
 *   "a frame that is nothing but its Ethernet header …"
 * - a replacement that fails leaves no filter: "a ruleset that is refused leaves the one before in place, at every hook"
 * - VLAN tags hide a packet: "a priority tag (VLAN 0) does not hide a packet …"
 * - extension headers beyond the sixth taken for the transport header, HIP and Shim6 half followed: "long extension chains are
 *   followed …", "HIP and Shim6 are protocols, as they are to iptables"
 * - protocols other than TCP, UDP and ICMP never matched: "a protocol that is neither TCP, UDP nor ICMP …"
 * - the link header that is logged of packets in several pieces is the IP header: policy-log.test.ts, "have the Ethernet header of a
 *   packet in several pieces …"
 * - two generations at once during a replacement: policy-hooks.test.ts, "… replacements under load …"
 */
import { expect, test } from 'vitest';
import { CompileError, compilePolicy, entryIndex, SystemCounter } from '../../src/compile/index.ts';
import { applyPolicy, removePolicies } from '../../src/host/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { filterText, parsed, policyName } from '../support/live-policy.ts';
import { withPair } from '../support/netns.ts';
import { LONG_MS } from '../support/patience.ts';
import { LoadedPolicy } from '../support/policy.ts';

const XDP = entryIndex({ flavour: 'xdp' });
const TCX = entryIndex({ flavour: 'tcx', direction: 'ingress' });
const XDP_PASS = 2;
const XDP_DROP = 1;
const TCX_NEXT = 0xffffffff;
const TCX_DROP = 2;
const NOTHING_MS = 20;

function policy(family: 'ipv4' | 'ipv6', fragments: 'rules' | 'drop' = 'rules') {
  const text = [
    '*filter',
    ':INPUT DROP [0:0]',
    ':FORWARD DROP [0:0]',
    ':OUTPUT DROP [0:0]',
    '-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT',
    '-A INPUT -p udp -m udp --dport 22 -j ACCEPT',
    '-A INPUT -p 47 -j ACCEPT',
    'COMMIT',
    '',
  ].join('\n');
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'bypass', family });
  expect(diagnostics).toEqual([]);
  return compilePolicy([ruleset], { hooks: ['xdp', 'tcx-ingress'], fragments });
}

/** Ethernet type words before the packet: tags, then the type. */
function frame(types: readonly number[], packet: readonly number[]): Uint8Array {
  const head = new Array<number>(12).fill(0);
  return Uint8Array.from([...head, ...types.flatMap((word) => [word >> 8, word & 0xff]), ...packet]);
}

function ipv4(protocol: number, payload: readonly number[], fragment = 0): number[] {
  const total = 20 + payload.length;
  return [
    ...[0x45, 0, total >> 8, total & 0xff, 0, 1, fragment >> 8, fragment & 0xff, 64, protocol, 0, 0],
    ...[192, 0, 2, 1, 198, 51, 100, 1],
    ...payload,
  ];
}

function ipv6(next: number, payload: readonly number[]): number[] {
  const address = [0x20, 1, 0x0d, 0xb8, ...new Array<number>(11).fill(0), 1];
  return [
    0x60,
    0,
    0,
    0,
    payload.length >> 8,
    payload.length & 0xff,
    next,
    64,
    ...address,
    ...address,
    ...payload,
  ];
}

/** To port 22 unless told. */
function tcp(port = 22): number[] {
  return [0x30, 0x39, port >> 8, port & 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
}

const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const VLAN = 0x8100;

describeKernel('known ways around a filter', () => {
  function both(family: 'ipv4' | 'ipv6', data: Uint8Array, fragments: 'rules' | 'drop' = 'rules'): string[] {
    using loaded = new LoadedPolicy(policy(family, fragments));
    const xdp = loaded.run(XDP, { data }).returnValue;
    const tcx = loaded.run(TCX, { data }).returnValue;
    const word = (value: number, pass: number, drop: number): string =>
      value === pass ? 'pass' : value === drop ? 'drop' : `${value}`;
    return [word(xdp, XDP_PASS, XDP_DROP), word(tcx, TCX_NEXT, TCX_DROP)];
  }
  const DROPPED = ['drop', 'drop'];
  const PASSED = ['pass', 'pass'];

  test('the open port is open, another is not', () => {
    expect(both('ipv4', frame([IPV4], ipv4(6, tcp())))).toEqual(PASSED);
    expect(both('ipv4', frame([IPV4], ipv4(6, tcp(23))))).toEqual(DROPPED);
    expect(both('ipv6', frame([IPV6], ipv6(6, tcp())))).toEqual(PASSED);
  });

  test('a later fragment whose payload spells the open port is dropped', () => {
    expect(both('ipv4', frame([IPV4], ipv4(6, tcp(), 2)))).toEqual(DROPPED);
    expect(both('ipv6', frame([IPV6], ipv6(44, [6, 0, 0, 16, 0, 0, 0, 1, ...tcp()])))).toEqual(DROPPED);
  });

  test('a first fragment with 8 bytes of TCP is dropped, and so is offset 1', () => {
    expect(both('ipv4', frame([IPV4], ipv4(6, tcp().slice(0, 8), 0x2000)))).toEqual(DROPPED);
    expect(both('ipv4', frame([IPV4], ipv4(6, tcp(), 1)))).toEqual(DROPPED);
  });

  test('headers that are cut short are dropped', () => {
    expect(both('ipv4', frame([IPV4], ipv4(17, [0x30, 0x39, 0, 22])))).toEqual(DROPPED);
    expect(both('ipv6', frame([IPV6], ipv6(0, [6])))).toEqual(DROPPED);
    using loaded = new LoadedPolicy(policy('ipv4'));
    expect(loaded.run(XDP, { data: frame([IPV4], ipv4(6, tcp()).slice(0, 12)) }).returnValue).toBe(XDP_DROP);
    expect(loaded.counter(SystemCounter.malformed).packets).toBe(1n);
  });

  test('a frame that is nothing but its Ethernet header is dropped, or is not IP', () => {
    using loaded = new LoadedPolicy(policy('ipv4'));
    expect(loaded.run(XDP, { data: frame([IPV4], []) }).returnValue).toBe(XDP_DROP);
    expect(loaded.counter(SystemCounter.malformed).packets).toBe(1n);
    expect(loaded.run(XDP, { data: frame([VLAN], []) }).returnValue).toBe(XDP_DROP);
    expect(loaded.counter(SystemCounter.malformed).packets).toBe(2n);
  });

  test('a header length below 20, or beyond the packet, is dropped', () => {
    const short = ipv4(6, tcp());
    short[0] = 0x44;
    expect(both('ipv4', frame([IPV4], short))).toEqual(DROPPED);
    const beyond = ipv4(6, tcp());
    beyond[3] = 16;
    expect(both('ipv4', frame([IPV4], beyond))).toEqual(DROPPED);
  });

  test('ports are found behind IPv4 options', () => {
    const options = [1, 1, 1, 0];
    const packet = ipv4(6, [...options, ...tcp()]);
    packet[0] = 0x46;
    expect(both('ipv4', frame([IPV4], packet))).toEqual(PASSED);
    const other = ipv4(6, [0, 0, 0, 22, ...tcp(23)]);
    other[0] = 0x46;
    expect(both('ipv4', frame([IPV4], other))).toEqual(DROPPED);
  });

  test('a protocol that is neither TCP, UDP nor ICMP is matched by its number', () => {
    expect(both('ipv4', frame([IPV4], ipv4(47, [0, 0, 8, 0])))).toEqual(PASSED);
  });

  test('long extension chains are followed, endless ones dropped', () => {
    const chain = (headers: number): number[] => {
      const bytes: number[] = [];
      for (let header = 0; header < headers; header++)
        bytes.push(header === headers - 1 ? 6 : 60, 0, 1, 4, 0, 0, 0, 0);
      return [...bytes, ...tcp()];
    };
    expect(both('ipv6', frame([IPV6], ipv6(60, chain(8))))).toEqual(PASSED);
    expect(both('ipv6', frame([IPV6], ipv6(60, chain(27))))).toEqual(PASSED);
    expect(both('ipv6', frame([IPV6], ipv6(60, chain(32))))).toEqual(PASSED);
    expect(both('ipv6', frame([IPV6], ipv6(60, chain(33))))).toEqual(DROPPED);
    const port23 = ipv6(60, chain(8));
    port23[port23.length - 17] = 23;
    expect(both('ipv6', frame([IPV6], port23))).toEqual(DROPPED);
  });

  test('HIP and Shim6 are protocols, as they are to iptables: what is behind them is not looked at', () => {
    for (const protocol of [139, 140]) {
      const header = [6, 0, 0, 0, 0, 0, 0, 0];
      expect(both('ipv6', frame([IPV6], ipv6(protocol, [...header, ...tcp()])))).toEqual(DROPPED);
      const behind = ipv6(60, [protocol, 0, 1, 4, 0, 0, 0, 0, ...header, ...tcp()]);
      expect(both('ipv6', frame([IPV6], behind))).toEqual(DROPPED);
    }
  });

  test('a priority tag (VLAN 0) does not hide a packet; a VLAN of its own is another device', () => {
    using loaded = new LoadedPolicy(policy('ipv4'));
    const run = (types: readonly number[], port: number): number =>
      loaded.run(XDP, { data: frame(types, ipv4(6, tcp(port))) }).returnValue;
    expect(run([VLAN, 0, IPV4], 23)).toBe(XDP_DROP);
    expect(run([VLAN, 0, IPV4], 22)).toBe(XDP_PASS);
    expect(run([0x88a8, 0xe000, VLAN, 0, IPV4], 23)).toBe(XDP_DROP);
    expect(run([VLAN, 0, VLAN, 0, VLAN, 0, IPV4], 22)).toBe(XDP_DROP);
    expect(run([VLAN, 5, IPV4], 23)).toBe(XDP_PASS);
    expect(loaded.counter(SystemCounter.notIp).packets).toBe(1n);
  });

  test('frames that are not IP pass, and so does the family without rules', () => {
    expect(both('ipv4', frame([0x0806], new Array<number>(28).fill(0)))).toEqual(PASSED);
    expect(both('ipv4', frame([IPV6], ipv6(6, tcp(23))))).toEqual(PASSED);
  });

  test('the strategy `drop` drops first and later fragments', () => {
    expect(both('ipv4', frame([IPV4], ipv4(6, tcp(), 0x2000)), 'drop')).toEqual(DROPPED);
    expect(both('ipv4', frame([IPV4], ipv4(6, tcp(), 2)), 'drop')).toEqual(DROPPED);
    expect(both('ipv4', frame([IPV4], ipv4(6, tcp(), 0x4000)), 'drop')).toEqual(PASSED);
  });

  test.each([
    { hooks: ['netfilter'], devices: [] },
    { hooks: ['xdp'], devices: ['a'] },
    { hooks: ['tcx-ingress'], devices: ['a'] },
  ] as const)('a ruleset that is refused leaves the one before in place: $hooks', ({ hooks, devices }) =>
    withPair(async ({ a, b }) => {
      const rulesets = (port: number, more: readonly string[]) => [
        parsed(filterText([`-A INPUT -p udp -m udp --dport ${port} -j ACCEPT`, ...more])),
      ];
      const name = policyName();
      const request = { policy: name, hooks, devices, namespaces: [b.netnsName] };
      const client = a.udp();
      try {
        const [open, shut] = [b.udp(22, b.ipv4), b.udp(23, b.ipv4)];
        await applyPolicy({ ...request, rulesets: rulesets(22, []) });
        const refused = rulesets(23, ['-A INPUT -m recent --set --name x --rsource -j DROP']);
        await expect(applyPolicy({ ...request, rulesets: refused })).rejects.toThrow(CompileError);
        client.send(b.ipv4, 23, 'shut');
        client.send(b.ipv4, 22, 'open');
        expect(open.receiveText(LONG_MS)).toBe('open');
        // What was sent before has not come, so it does not.
        expect(shut.receiveText(NOTHING_MS)).toBeUndefined();
      } finally {
        await removePolicies({ policy: name });
      }
    }),
  );
});
