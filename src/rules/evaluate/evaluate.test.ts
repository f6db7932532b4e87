import { describe, expect, test } from 'vitest';
import { internetChecksum } from '../../wire/index.ts';
import { parseRuleset } from '../restore.ts';
import {
  createHost,
  type EvaluationHost,
  evaluatePacket,
  explainPacket,
  type HostOptions,
  needsConntrack,
  type PacketOutcome,
  type Routing,
  UnsupportedRulesError,
} from './index.ts';

/** 10.0.0.1 is this host, everything else is behind eth1. */
const ROUTING: Routing = {
  input: (_, destination) =>
    destination.join('.') === '10.0.0.1' ? { kind: 'local' } : { kind: 'forward', outDevice: 'eth1' },
  output: () => 'eth1',
  addressType: () => 1,
};

function hostOf(lines: readonly string[], options: Partial<HostOptions> = {}): EvaluationHost {
  const { ruleset, diagnostics } = parseRuleset(`${lines.join('\n')}\n`, { file: 'test', family: 'ipv4' });
  expect(diagnostics).toEqual([]);
  return createHost({ ruleset, routing: ROUTING, nowMs: () => 0, random32: () => 0, ...options });
}

function filter(...rules: readonly string[]): string[] {
  return [
    '*filter',
    ':INPUT ACCEPT [0:0]',
    ':FORWARD DROP [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    ...['a', 'b', 'c'].map((chain) => `:${chain} - [0:0]`),
    ...rules.map((rule) => `-A ${rule}`),
    'COMMIT',
  ];
}

function udp(destination: readonly number[] = [10, 0, 0, 1], port = 53, ttl = 64): Uint8Array {
  const bytes = Uint8Array.of(
    0x45,
    0,
    0,
    28,
    0,
    1,
    0,
    0,
    ttl,
    17,
    0,
    0,
    192,
    0,
    2,
    1,
    ...destination,
    4,
    0,
    0,
    port,
    0,
    8,
    0,
    0,
  );
  new DataView(bytes.buffer).setUint16(10, internetChecksum(bytes.subarray(0, 20)));
  return bytes;
}

function run(host: EvaluationHost, bytes: Uint8Array = udp()): PacketOutcome {
  return evaluatePacket(host, { bytes, inDevice: 'eth0' });
}

function hits(outcome: PacketOutcome): string[] {
  return [
    ...outcome.matched.map(({ chain, rule }) => `${chain} ${rule}`),
    ...outcome.policies.map(({ chain, verdict }) => `${chain} ${verdict}`),
  ];
}

describe('the stack of chains', () => {
  test('RETURN and the end of a chain go on after the jump; RETURN in a base chain is the policy', () => {
    const host = hostOf(
      filter(
        'INPUT -j a',
        'INPUT',
        'INPUT -j RETURN',
        'INPUT -j DROP',
        'a -j b',
        'a',
        'b -j RETURN',
        'b -j DROP',
      ),
    );
    const outcome = run(host);
    expect(hits(outcome)).toEqual(['INPUT 1', 'a 1', 'b 1', 'a 2', 'INPUT 2', 'INPUT 3', 'INPUT ACCEPT']);
    expect(outcome.decision).toEqual({ kind: 'policy', table: 'filter', chain: 'INPUT' });
  });

  test('goto does not come back to where it was said', () => {
    const host = hostOf(filter('INPUT -j a', 'INPUT', 'a -g b', 'a -j DROP', 'b -g c', 'b -j DROP', 'c'));
    expect(hits(run(host))).toEqual(['INPUT 1', 'a 1', 'b 1', 'c 1', 'INPUT 2', 'INPUT ACCEPT']);
  });

  test('goto from a base chain ends in the policy', () => {
    const host = hostOf(filter('INPUT -g a', 'INPUT -j DROP', 'a -p tcp -j DROP'));
    expect(hits(run(host))).toEqual(['INPUT 1', 'INPUT ACCEPT']);
  });
});

describe('counters', () => {
  test('count packets and IP bytes of rules and policies, before the target acts', () => {
    const host = hostOf(filter('INPUT -p udp -j DROP'));
    run(host);
    run(host);
    const chain = host.tables.get('filter')!.chains.get('INPUT')!;
    expect(chain.rules[0]!.counters).toEqual({ packets: 2n, bytes: 56n });
    expect(chain.policyCounters).toEqual({ packets: 0n, bytes: 0n });
  });
});

describe('the way through the host', () => {
  const lines = [
    '*raw',
    ':PREROUTING ACCEPT [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    'COMMIT',
    '*mangle',
    ...['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'].map((chain) => `:${chain} ACCEPT [0:0]`),
    '-A PREROUTING -j MARK --set-xmark 0x7/0xffffffff',
    'COMMIT',
    ...filter('FORWARD -m mark --mark 0x7 -m ttl --ttl-eq 63 -i eth0 -o eth1 -j ACCEPT'),
  ];

  test('a forwarded packet meets the hooks in order, with its mark, its TTL lowered', () => {
    const outcome = run(hostOf(lines), udp([192, 0, 2, 9]));
    expect(outcome.policies.map(({ table, chain }) => `${table} ${chain}`)).toEqual([
      'raw PREROUTING',
      'mangle PREROUTING',
      'mangle FORWARD',
      'mangle POSTROUTING',
    ]);
    expect(outcome).toMatchObject({
      verdict: 'ACCEPT',
      decision: { kind: 'rule', table: 'filter', chain: 'FORWARD', rule: 1 },
      delivered: { to: 'device', device: 'eth1' },
      mark: 7,
    });
  });

  test('a packet whose TTL is used up never reaches FORWARD', () => {
    const outcome = run(hostOf(lines), udp([192, 0, 2, 9], 53, 1));
    expect(outcome.decision).toEqual({ kind: 'stack', fault: 'ttl-exceeded' });
    expect(outcome.policies.map(({ table }) => table)).toEqual(['raw', 'mangle']);
  });

  test('a packet of this host leaves by OUTPUT and POSTROUTING', () => {
    const outcome = evaluatePacket(hostOf(lines), { bytes: udp([192, 0, 2, 9]), inDevice: '' });
    expect(outcome.policies.map(({ table, chain }) => `${table} ${chain}`)).toEqual([
      'raw OUTPUT',
      'mangle OUTPUT',
      'filter OUTPUT',
      'mangle POSTROUTING',
    ]);
  });

  test('a fragment for this host without reassembly is not delivered', () => {
    const fragment = udp();
    fragment[6] = 0x20;
    new DataView(fragment.buffer).setUint16(10, 0);
    new DataView(fragment.buffer).setUint16(10, internetChecksum(fragment.subarray(0, 20)));
    expect(run(hostOf(filter()), fragment).decision).toEqual({ kind: 'stack', fault: 'no-reassembly' });
  });

  test('a damaged header never reaches a rule', () => {
    const damaged = udp();
    damaged[10]! ^= 1;
    expect(run(hostOf(filter()), damaged)).toMatchObject({
      verdict: 'DROP',
      decision: { kind: 'stack', fault: 'bad-header-checksum' },
      matched: [],
    });
  });
});

describe('rules without semantics', () => {
  const lines = filter('INPUT -m ipvs --vproto 6 -j DROP', 'INPUT -p tcp -m ipvs --ipvs');

  test('are refused before anything runs, all of them', () => {
    const refused = (): unknown => hostOf(lines);
    expect(refused).toThrow(UnsupportedRulesError);
    try {
      refused();
    } catch (error) {
      const { rules, hint } = error as UnsupportedRulesError;
      expect(rules.map(({ chain, number, what, span }) => [chain, number, what, span.line])).toEqual([
        ['INPUT', 1, '-m ipvs', 8],
        ['INPUT', 2, '-m ipvs', 9],
      ]);
      expect(hint).not.toBe('');
    }
  });

  test('may be let stand until a packet meets one', () => {
    const host = hostOf(lines, { unsupported: 'when-reached' });
    expect(() => run(host)).toThrow(/-m ipvs in INPUT rule 1/);
    expect(run(host, udp([192, 0, 2, 9])).decision).toMatchObject({ kind: 'policy', chain: 'FORWARD' });
  });
});

test('conntrack is needed by rules that ask for it, and by translation', () => {
  const needs = (rule: string): boolean =>
    needsConntrack(parseRuleset(`${filter(rule).join('\n')}\n`, { file: 'test', family: 'ipv4' }).ruleset);
  expect(needs('INPUT -p tcp')).toBe(false);
  expect(needs('INPUT -m state --state NEW')).toBe(true);
  expect(needs('INPUT -m conntrack --ctstate NEW')).toBe(true);
});

describe('explain', () => {
  test('tells each rule looked at, the first condition that failed with the packet value, and the verdict', () => {
    const host = hostOf(
      filter(
        'INPUT -s 10.9.0.0/16',
        'INPUT -p tcp',
        'INPUT -p udp -m udp --dport 22',
        'INPUT -p udp -j DROP',
      ),
    );
    const { steps, sentence } = explainPacket(host, { bytes: udp(), inDevice: 'eth0' });
    const rules = steps.filter((step) => step.kind === 'rule');
    expect(rules.map(({ chain, number, matched }) => [chain, number, matched])).toEqual([
      ['INPUT', 1, false],
      ['INPUT', 2, false],
      ['INPUT', 3, false],
      ['INPUT', 4, true],
    ]);
    expect(rules[0]!.reason).toBe('source 192.0.2.1 is not in 10.9.0.0/16');
    expect(rules[1]!.reason).toContain('protocol udp');
    expect(rules[2]!.reason).toContain('53');
    expect(sentence).toBe('Dropped by filter INPUT rule 4.');
  });
});
