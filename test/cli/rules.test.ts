import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { sluice } from '../support/cli.ts';

const example = (name: string): string => fileURLToPath(new URL(`../../examples/${name}`, import.meta.url));
const RULES = example('edge.rules');
const CAPTURE = example('edge.pcapng');
const HOST = [
  '--local',
  '192.0.2.1',
  '--local',
  '10.1.0.1',
  '--route',
  '10.1.0.0/24=eth1',
  '--route',
  '0.0.0.0/0=eth0',
];
const GOOD = '*filter\n:INPUT DROP [0:0]\n-A INPUT -s 192.0.2.0/24 -j ACCEPT\nCOMMIT\n';
const lines = (text: string): Record<string, unknown>[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe('files of one policy', () => {
  it('are one of each family: no rules are lost without a word', async () => {
    for (const words of [['compile'], ['apply', '--dry-run'], ['diff'], ['run', '--pcap', CAPTURE]]) {
      const { code, stdout, stderr } = await sluice([...words, '-4', RULES, RULES]);
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
      expect(stderr).toContain(`${RULES} and ${RULES} both hold IPv4 rules`);
    }
  });
});

describe('check', () => {
  it('says that sound rules are sound', async () => {
    expect(await sluice(['check', RULES])).toEqual({
      code: 0,
      stdout: `${RULES}: sound: ipv4, 3 tables, 14 chains, 26 rules\n`,
      stderr: '',
    });
  });

  it('shows every error of standard input with line, caret and a way out', async () => {
    const stdin = GOOD.replace('-s 192.0.2.0/24', '-p tcp --dprt 22').replace(
      'COMMIT',
      '-A INPUT -j ACEPT\nCOMMIT',
    );
    const { code, stdout } = await sluice(['check', '-4', '-'], { stdin });
    expect(code).toBe(1);
    expect(stdout).toContain('<stdin>:3:17: error: ');
    expect(stdout).toContain('\n  -A INPUT -p tcp --dprt 22 -j ACCEPT\n                  ^^^^^^\n');
    expect(stdout).toContain('did you mean --dport?');
    expect(stdout).toContain('<stdin>:4:');
  });

  it('gives the same as JSON, a finding a line', async () => {
    const { code, stdout } = await sluice(['check', '-4', '-', '--json'], {
      stdin: GOOD.replace('DROP', 'DORP'),
    });
    expect(code).toBe(1);
    const [finding, summary] = lines(stdout);
    expect(finding).toMatchObject({ error: { code: 'POLICY', file: '<stdin>', line: 2 } });
    expect(summary).toMatchObject({ check: { version: 1, family: 'ipv4', errors: 1 } });
  });

  it('lists all rules that nothing here can run', async () => {
    const stdin = GOOD.replace('COMMIT', '-A INPUT -m ipvs --ipvs -j DROP\n-A INPUT -j NFQUEUE\nCOMMIT');
    const { code, stdout } = await sluice(['check', '-4', '-', '--json'], { stdin });
    expect(code).toBe(1);
    const findings = lines(stdout).filter((line) => 'error' in line);
    expect(findings.map((line) => (line.error as { line: number }).line)).toEqual([4, 5]);
  });

  it('takes the family from the names that iptables-persistent gives', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'slc-names-'));
    try {
      for (const [name, family] of [
        ['rules.v4', 'ipv4'],
        ['rules.v6', 'ipv6'],
      ] as const) {
        writeFileSync(join(folder, name), '*filter\n:INPUT DROP [0:0]\nCOMMIT\n');
        expect((await sluice(['check', join(folder, name)])).stdout).toContain(`sound: ${family},`);
      }
      writeFileSync(join(folder, 'wrong.v6'), GOOD);
      expect((await sluice(['check', join(folder, 'wrong.v6')])).code).toBe(1);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('asks for the family where it is not certain', async () => {
    const stdin = '*filter\n:INPUT DROP [0:0]\nCOMMIT\n';
    expect(await sluice(['check', '-'], { stdin })).toMatchObject({ code: 1 });
    expect(await sluice(['check', '-6', '-'], { stdin })).toMatchObject({ code: 0 });
  });

  it('tells a missing file as what the environment refuses', async () => {
    const { code, stderr, stdout } = await sluice(['check', '/nonexistent/rules']);
    expect({ code, stdout }).toEqual({ code: 4, stdout: '' });
    expect(stderr).toContain('no such file');
    const json = await sluice(['check', '/nonexistent/rules', '--json']);
    expect(lines(json.stdout)).toMatchObject([{ error: { code: 'ENOENT' } }]);
  });

  it('calls no file wrong usage', async () => {
    expect(await sluice(['check'])).toMatchObject({ code: 2 });
  });
});

describe('run', () => {
  it('decides every packet of the example, and counts what it says', async () => {
    const { code, stdout, stderr } = await sluice(['run', RULES, '--pcap', CAPTURE, ...HOST, '--json']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const all = lines(stdout);
    const { counters, version, packets } = all.pop() as {
      counters: { ipv4: Record<string, Record<string, { policy?: number[]; rules: number[][] }>> };
      version: number;
      packets: Record<string, number>;
    };
    expect(version).toBe(1);
    expect(all.map((line) => line.packet)).toEqual(all.map((_, index) => index + 1));
    expect(packets).toEqual({
      accepted: all.filter(({ verdict }) => verdict === 'ACCEPT').length,
      dropped: all.filter(({ verdict }) => verdict === 'DROP').length,
      held: 1,
    });
    const hits = new Map<string, number>();
    for (const line of all)
      for (const key of line.matched as unknown[]) hits.set(String(key), (hits.get(String(key)) ?? 0) + 1);
    for (const [table, chains] of Object.entries(counters.ipv4)) {
      for (const [chain, { rules }] of Object.entries(chains)) {
        for (const [index, [count]] of rules.entries())
          expect(count).toBe(hits.get(`${table},${chain},${index + 1}`) ?? 0);
      }
    }
    expect(all[67]).toEqual({
      packet: 68,
      verdict: 'DROP',
      table: 'raw',
      chain: 'PREROUTING',
      rule: 1,
      matched: [['raw', 'PREROUTING', 1]],
    });
    expect(all[74]).toMatchObject({
      packet: 75,
      verdict: 'DROP',
      table: 'filter',
      chain: 'FORWARD',
      rule: 'policy',
    });
    expect(all[0]).toEqual({ packet: 1, verdict: 'ACCEPT', reason: 'not-ip', matched: [] });
  });

  it('explains a packet: rules, reasons, one sentence', async () => {
    const { code, stdout } = await sluice(['run', RULES, '--pcap', CAPTURE, ...HOST, '--explain', '74']);
    expect(code).toBe(0);
    expect(stdout).toContain('dport 25 is not among 80,443');
    expect(stdout).toContain('input device eth0 is not eth1');
    expect(stdout.trimEnd().split('\n').at(-1)).toBe('Accepted by filter to-lan rule 1, sent out by eth1.');
  });

  it('asks one hook only with --chain', async () => {
    const { stdout } = await sluice(['run', '-4', '-', '--pcap', CAPTURE, '--chain', 'FORWARD', '--json'], {
      stdin: '*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n-A FORWARD -i eth1 -j DROP\nCOMMIT\n',
    });
    const verdicts = lines(stdout).filter((line) => 'packet' in line && line.chain === 'FORWARD');
    expect(verdicts.filter(({ verdict }) => verdict === 'DROP').map(({ packet }) => packet)).toEqual([
      71, 73,
    ]);
  });

  it('prints the rules with their counters in the form of iptables-save -c', async () => {
    const { stdout } = await sluice(['run', RULES, '--pcap', CAPTURE, ...HOST, '--quiet', '--counters']);
    expect(stdout).toContain('[1:40] -A PREROUTING -s 10.0.0.0/8 -i eth0');
    expect(stdout).toContain(':FORWARD DROP [1:40]');
  });

  it('refuses rules that it cannot run, all of them, before any packet', async () => {
    const stdin = GOOD.replace('COMMIT', '-A INPUT -j NFQUEUE\n-A INPUT -j NFQUEUE --queue-num 7\nCOMMIT');
    const { code, stdout } = await sluice(['run', '-4', '-', '--pcap', CAPTURE, '--json'], { stdin });
    expect(code).toBe(3);
    expect(lines(stdout).map((line) => (line.error as { line: number }).line)).toEqual([4, 5]);
  });

  it('gives what is readable of a broken capture, then the error', async () => {
    const bytes = readFileSync(CAPTURE);
    const { code, stdout } = await sluice(['run', RULES, '--pcap', '-', ...HOST, '--json'], {
      stdin: bytes.subarray(0, bytes.length - 30),
    });
    expect(code).toBe(1);
    const all = lines(stdout);
    expect(all.filter((line) => 'packet' in line)).toHaveLength(75);
    expect(all.at(-1)).toMatchObject({ error: { code: 'CAPTURE_TRUNCATED' } });
  });

  it.each([
    [['run', RULES], 'no capture'],
    [['run', RULES, '--pcap', CAPTURE, '--chain', 'input'], 'built-in chain'],
    [['run', RULES, '--pcap', CAPTURE, '--local', 'here'], '--local'],
    [['run', RULES, '--pcap', CAPTURE, '--route', 'x'], '--route'],
    [['run', RULES, '--pcap', CAPTURE, '--explain', '0'], '--explain'],
    [['run', RULES, '--pcap', CAPTURE, '--explain', '1000'], 'no packet 1000'],
    [['run', RULES, '--pcap', CAPTURE, '--engine', 'magic'], 'magic'],
  ])('calls %j wrong usage', async (words, message) => {
    const { code, stderr } = await sluice(words);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});

describe('vm run', () => {
  it.each([
    ['b7000000020000009500000000000000', '', '0x2\n'],
    ['18000000ffffffff00000000ffffffff9500000000000000', '', '0xffffffffffffffff\n'],
    ['7110010000000000bf010000000000009500000000000000', '0a2b', '0x2b\n'],
    ['bf200000000000009500000000000000', '000000', '0x3\n'],
  ])('runs %s on "%s"', async (program, memory, stdout) => {
    expect(await sluice(['vm', 'run', '--program', program, '--memory', memory])).toEqual({
      code: 0,
      stdout,
      stderr: '',
    });
  });

  it('reads bytecode from standard input', async () => {
    expect(
      await sluice(['vm', 'run', '--program', '-'], { stdin: 'b700000007000000\n9500000000000000\n' }),
    ).toMatchObject({ stdout: '0x7\n' });
  });

  it('ends a wild access with an error that names the instruction', async () => {
    const { code, stdout, stderr } = await sluice([
      'vm',
      'run',
      '--program',
      '71100800000000009500000000000000',
      '--memory',
      '00',
    ]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain('r0 = *(u8 *)(r1 +8)');
  });

  it.each(['zz', 'b7', '0000000000000000', 'ff'.repeat(64)])('refuses %s', async (program) => {
    const { code, stdout, stderr } = await sluice(['vm', 'run', '--program', program]);
    expect(stdout).toBe('');
    expect([1, 2]).toContain(code);
    expect(stderr).toMatch(/^sluice: /);
  });
});

describe('compile', () => {
  it('prints a listing with the rule beside each block', async () => {
    const { code, stdout } = await sluice(['compile', '-4', '-', '--hook', 'xdp'], { stdin: GOOD });
    expect(code).toBe(0);
    expect(stdout).toContain('-A INPUT -s 192.0.2.0/24 -j ACCEPT');
    expect(stdout).toMatch(/^\s*0: \([0-9a-f]{2}\) /m);
  });

  it('lists all rules that a hook cannot run, with the hooks that could', async () => {
    const { code, stdout, stderr } = await sluice(['compile', RULES, '--hook', 'xdp']);
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toContain('hint: could run at netfilter');
  });

  it('prints bytecode that is what the JSON form says', async () => {
    const raw = await sluice(['compile', '-4', '-', '--hook', 'xdp', '--format', 'raw'], { stdin: GOOD });
    const json = await sluice(['compile', '-4', '-', '--hook', 'xdp', '--json'], { stdin: GOOD });
    const { compile } = JSON.parse(json.stdout) as {
      compile: { version: number; programs: { instructions: { bytes: string }[] }[] };
    };
    expect(compile.version).toBe(1);
    expect(compile.programs[0]!.instructions.map(({ bytes }) => bytes).join('')).toBe(
      Buffer.from(raw.stdout, 'latin1').toString('hex'),
    );
  });
});
