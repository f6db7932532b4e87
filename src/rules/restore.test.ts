import { describe, expect, it } from 'vitest';
import { formatDiagnostic } from './diagnostic.ts';
import { inferFamily } from './family.ts';
import { printRuleset } from './printer.ts';
import { parseRuleset } from './restore.ts';

const read = (
  text: string,
  options: { family?: 'ipv4' | 'ipv6'; acceptOldNegation?: boolean } = { family: 'ipv4' },
) => parseRuleset(text, { file: 'x.rules', ...options });

/** "CODE line:column of the marked text" for every diagnostic of a filter table with these lines. */
function findings(lines: readonly string[], family: 'ipv4' | 'ipv6' = 'ipv4', table = 'filter'): string[] {
  return read([`*${table}`, ...lines, 'COMMIT', ''].join('\n'), { family }).diagnostics.map(
    ({ code, span, sourceLine }) =>
      `${code} ${span.line} ${sourceLine.slice(span.column - 1, span.column - 1 + span.length)}`,
  );
}

function printed(lines: readonly string[], table = 'filter'): string[] {
  const { ruleset, diagnostics } = read([`*${table}`, ...lines, 'COMMIT', ''].join('\n'));
  expect(diagnostics.filter(({ severity }) => severity === 'error').map(formatDiagnostic)).toEqual([]);
  return printRuleset(ruleset)
    .split('\n')
    .filter((line) => line.startsWith('-A') || (line.startsWith(':') && !line.includes('ACCEPT')));
}

describe('errors of one rule', () => {
  it.each([
    ['-A INPUT -p tcp --dprt 22 -j ACCEPT', 'UNKNOWN_OPTION 2 --dprt'],
    ['-A INPUT --dport 22 -p tcp', 'UNKNOWN_OPTION 2 --dport'],
    ['-A INPUT -p tcp --d 22', 'AMBIGUOUS_OPTION 2 --d'],
    ['-A INPUT -p tcp --dport', 'MISSING_ARGUMENT 2 --dport'],
    ['-A INPUT -p', 'MISSING_ARGUMENT 2 -p'],
    ['-A INPUT -p tcp --tcp-flags ALL', 'MISSING_ARGUMENT 2 --tcp-flags'],
    ['-A INPUT -p tcp --tcp-flags ALL,FOO SYN', 'BAD_VALUE 2 ALL,FOO'],
    ['-A INPUT -p tcp --tcp-flags ALL BAR', 'BAD_VALUE 2 BAR'],
    ['-A INPUT -p tcp --syn --tcp-flags ALL SYN', 'BAD_VALUE 2 --tcp-flags'],
    ['-A INPUT -p tcp --syn=3', 'BAD_VALUE 2 --syn=3'],
    ['-A INPUT -p tcp --dport 1 --dport 2', 'DUPLICATE_OPTION 2 --dport'],
    ['-A INPUT -p tcp -p udp', 'DUPLICATE_OPTION 2 -p'],
    ['-A INPUT -j ACCEPT -j DROP', 'DUPLICATE_OPTION 2 -j'],
    ['-A INPUT -p frob', 'BAD_VALUE 2 frob'],
    ['-A INPUT ! -p all', 'BAD_VALUE 2 all'],
    ['-A INPUT -p tcp --dport 70000', 'BAD_VALUE 2 70000'],
    ['-A INPUT -p tcp --dport 9:3', 'BAD_VALUE 2 9:3'],
    ['-A INPUT -p tcp --dport htpt', 'BAD_VALUE 2 htpt'],
    ['-A INPUT -ptcp', 'BAD_VALUE 2 -ptcp'],
    ['-A INPUT -s 1.2.3.400', 'BAD_VALUE 2 1.2.3.400'],
    ['-A INPUT -s 1.2.3.4/33', 'BAD_VALUE 2 1.2.3.4/33'],
    ['-A INPUT -s example.net', 'BAD_VALUE 2 example.net'],
    ['-A INPUT -s fe80::1', 'BAD_VALUE 2 fe80::1'],
    ['-A INPUT ! -s 1.1.1.1,2.2.2.2', 'NEGATION 2 1.1.1.1,2.2.2.2'],
    ['-A INPUT ! -j ACCEPT', 'NEGATION 2 !'],
    ['-A INPUT ! -m limit', 'NEGATION 2 !'],
    ['-A INPUT -m limit ! --limit 3/s', 'NEGATION 2 !'],
    ['-A INPUT ! ! -s 1.1.1.1', 'NEGATION 2 !'],
    ['-A INPUT -j ACCEPT !', 'NEGATION 2 !'],
    ['-A INPUT -s ! 1.1.1.1', 'OLD_NEGATION 2 !'],
    ['-A INPUT -p tcp --dport ! 22', 'OLD_NEGATION 2 !'],
    ['-A INPUT -i ""', 'BAD_VALUE 2 ""'],
    ['-A INPUT -i averyveryverylongname', 'BAD_VALUE 2 averyveryverylongname'],
    ['-A INPUT -i a/b', 'BAD_VALUE 2 a/b'],
    ['-A INPUT -o eth0', 'ILLEGAL_OPTION 2 -o'],
    ['-A OUTPUT -i eth0', 'ILLEGAL_OPTION 2 -i'],
    ['-A INPUT -t nat', 'ILLEGAL_OPTION 2 -t'],
    ['-A INPUT -w 3', 'ILLEGAL_OPTION 2 -w'],
    ['-A INPUT -n', 'ILLEGAL_OPTION 2 -n'],
    ['-A INPUT -h', 'ILLEGAL_OPTION 2 -h'],
    ['-A INPUT -c 1', 'BAD_COUNTERS 2 1'],
    ['-A INPUT foo', 'BAD_ARGUMENT 2 foo'],
    ['-A INPUT -- foo', 'BAD_ARGUMENT 2 foo'],
    ['-A INPUT -Q', 'UNKNOWN_OPTION 2 -Q'],
    ['-A INPUT -j', 'MISSING_ARGUMENT 2 -j'],
    ['-A INPUT -j ACEPT', 'UNKNOWN_TARGET 2 ACEPT'],
    ['-A INPUT -j ""', 'BAD_VALUE 2 ""'],
    ['-A INPUT -g nowhere', 'UNKNOWN_CHAIN 2 nowhere'],
    ['-A INPUT -j OUTPUT', 'BUILTIN_CHAIN 2 OUTPUT'],
    ['-A INPUT -m frobnicate --foo 3 --bar', 'UNKNOWN_MATCH 2 frobnicate'],
    ['-A INPUT -m hl', 'UNKNOWN_MATCH 2 hl'],
    ['-A INPUT -j FROB --foo 3', 'UNKNOWN_TARGET 2 FROB'],
    ['-A INPUT -m conntrack', 'BAD_OPTIONS 2 -m conntrack'],
    ['-A INPUT -A OUTPUT', 'DUPLICATE_OPTION 2 -A'],
    ['-p tcp', 'MISSING_COMMAND 2 -p tcp'],
    ['-A INPTU -j ACCEPT', 'UNKNOWN_CHAIN 2 INPTU'],
    ['-A INPUT -m comment --comment "x', 'UNTERMINATED_QUOTE 2 "x'],
    ['[1:2 -A INPUT', 'BAD_COUNTERS 2 ['],
    ['[12] -A INPUT', 'BAD_COUNTERS 2 ['],
    ['[x:y] -A INPUT', 'BAD_COUNTERS 2 [x:y]'],
    [`-A INPUT ${'-v '.repeat(5000)}`, `LINE_TOO_LONG 2 -A INPUT ${'-v '.repeat(5000)}`.trimEnd()],
    ['-R INPUT -j ACCEPT', 'MISSING_ARGUMENT 2 -R'],
    ['-I INPUT 0 -j ACCEPT', 'BAD_VALUE 2 0'],
    ['-I INPUT 2 -j ACCEPT', 'NO_SUCH_RULE 2 INPUT'],
    ['-D INPUT 1', 'NO_SUCH_RULE 2 INPUT'],
    ['-D INPUT -j DROP', 'NO_SUCH_RULE 2 INPUT'],
    ['-C INPUT -j DROP', 'NO_SUCH_RULE 2 INPUT'],
    ['-P INPUT', 'MISSING_ARGUMENT 2 -P'],
    ['-P INPUT REJECT', 'POLICY 2 INPUT'],
    ['-P nowhere DROP', 'POLICY 2 nowhere'],
    ['-P INPUT DROP -s 1.1.1.1', 'ILLEGAL_OPTION 2 -s'],
    ['-N -x', 'CHAIN_NAME 2 -x'],
    ['-N DROP', 'CHAIN_NAME 2 DROP'],
    ['-N REJECT', 'CHAIN_NAME 2 REJECT'],
    ['-N "a b"', 'CHAIN_NAME 2 "a b"'],
    ['-N aaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'CHAIN_NAME 2 aaaaaaaaaaaaaaaaaaaaaaaaaaaaa'],
    ['-A aaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'CHAIN_NAME 2 aaaaaaaaaaaaaaaaaaaaaaaaaaaaa'],
    ['-X INPUT', 'BUILTIN_CHAIN 2 INPUT'],
    ['-E INPUT x', 'BUILTIN_CHAIN 2 INPUT'],
    ['-E nowhere x', 'UNKNOWN_CHAIN 2 nowhere'],
    ['-E nowhere', 'MISSING_ARGUMENT 2 -E'],
    ['-F nowhere', 'UNKNOWN_CHAIN 2 nowhere'],
    ['-Z INPUT 3', 'NO_SUCH_RULE 2 INPUT'],
    ['-L', 'WITHOUT_EFFECT 2 -L'],
    ['-S INPUT', 'WITHOUT_EFFECT 2 INPUT'],
    [':x', 'POLICY 2 x'],
    [':', 'CHAIN_NAME 2 :'],
    [':INPUT FOO [0:0]', 'POLICY 2 FOO'],
    [':x ACCEPT [0:0]', 'POLICY 2 x'],
    [':INPUT ACCEPT nonsense', 'BAD_COUNTERS 2 nonsense'],
    [':ACCEPT - [0:0]', 'CHAIN_NAME 2 ACCEPT'],
    ['*nat', 'BAD_ARGUMENT 2 *nat'],
    ['-R INPUT 1 -s 1.1.1.1,2.2.2.2', 'BAD_VALUE 2 -R'],
  ])('%s', (line, finding) => {
    const found = findings([line]);
    expect(found).toEqual([finding]);
  });

  it('are all shown, in order', () => {
    expect(
      findings(['-A INPUT -p tcp --dprt 1 -j ACEPT', '-A nowhere', '-A INPUT -s 1.2.3.4/99 -o x']),
    ).toEqual([
      'UNKNOWN_OPTION 2 --dprt',
      'UNKNOWN_TARGET 2 ACEPT',
      'UNKNOWN_CHAIN 3 nowhere',
      'ILLEGAL_OPTION 4 -o',
      'BAD_VALUE 4 1.2.3.4/99',
    ]);
  });

  it('come with a caret and a way out', () => {
    const [diagnostic] = read('*filter\n-A INPUT -p tcp --dprt 22 -j ACCEPT\nCOMMIT\n').diagnostics;
    expect(formatDiagnostic(diagnostic!)).toBe(
      [
        'x.rules:2:17: error: unknown option "--dprt"',
        '  -A INPUT -p tcp --dprt 22 -j ACCEPT',
        '                  ^^^^^^',
        '  hint: did you mean --dport?',
      ].join('\n'),
    );
  });
});

describe('what the kernel refuses', () => {
  it.each([
    [['-A INPUT -m tcp --dport 1'], 'filter', 'WRONG_PROTOCOL 2 -m tcp'],
    [['-A INPUT ! -p tcp -m tcp'], 'filter', 'WRONG_PROTOCOL 2 -m tcp'],
    [['-A INPUT -j REJECT --reject-with tcp-reset'], 'filter', 'WRONG_PROTOCOL 2 -j REJECT'],
    [['-A INPUT -j REJECT'], 'mangle', 'WRONG_TABLE 2 -j REJECT'],
    [['-A OUTPUT -m mac --mac-source 0:0:0:0:0:1'], 'filter', 'WRONG_HOOK 2 -m mac'],
    [
      [':x - [0:0]', '-A x -m mac --mac-source 0:0:0:0:0:1', '-A OUTPUT -j x'],
      'filter',
      'WRONG_HOOK 3 -m mac',
    ],
    [['-A INPUT -m limit --limit 1/day'], 'filter', 'REFUSED 2 -m limit'],
    [['-A INPUT -j DROP'], 'nat', 'NAT_DROP 2 DROP'],
    [['-P INPUT DROP'], 'nat', 'NAT_DROP 2 -P'],
    [[':x - [0:0]', '-A x -j x', '-A INPUT -j x'], 'filter', 'CHAIN_LOOP 3 -j x'],
    [
      [':x - [0:0]', ':y - [0:0]', '-A x -g y', '-A y -p tcp -j x', '-A INPUT -j x'],
      'filter',
      'CHAIN_LOOP 5 -j x',
    ],
  ])('%s', (lines, table, finding) => {
    expect(findings(lines, 'ipv4', table)).toEqual([finding]);
  });

  it('is not looked for where its walk does not come', () => {
    // No hook reaches the circle; after an unconditional verdict nothing is walked.
    expect(findings([':x - [0:0]', '-A x -j x'])).toEqual([]);
    expect(findings([':x - [0:0]', '-A INPUT -j ACCEPT', '-A INPUT -j x', '-A x -j x'])).toEqual([]);
    expect(findings([':x - [0:0]', '-A x -m mac --mac-source 0:0:0:0:0:1'])).toEqual([]);
  });
});

describe('files', () => {
  it.each([
    ['*filter\n-A INPUT\n', 'COMMIT_MISSING 3'],
    ['*filter\nCOMMIT', 'COMMIT_MISSING 2'],
    ['*frob\n-A INPUT\nCOMMIT\n', 'UNKNOWN_TABLE 1'],
    ['*frob\n', 'UNKNOWN_TABLE 1,COMMIT_MISSING 2'],
    ['-A INPUT\n', 'NOT_IN_TABLE 1'],
    ['COMMIT\n', 'NOT_IN_TABLE 1'],
    ['  \n', 'NOT_IN_TABLE 1'],
    ['*filter\r\n:INPUT ACCEPT [0:0]\r\nCOMMIT\r\n', 'CARRIAGE_RETURN 1'],
    ['*filter\n  \nCOMMIT\n', 'MISSING_COMMAND 2'],
    ['*filter\n:x - [0:0]\n:x - [0:0]\nCOMMIT\n', 'CHAIN_EXISTS 3'],
    ['# only\n\n', ''],
  ])('%j', (text, codes) => {
    expect(
      read(text)
        .diagnostics.map(({ code, span }) => `${code} ${span.line}`)
        .join(),
    ).toBe(codes);
  });

  it('say their family where it is certain', () => {
    expect(inferFamily('-A INPUT -s 1.2.3.4')).toBe('ipv4');
    expect(inferFamily('-A INPUT -d fe80::/10')).toBe('ipv6');
    expect(inferFamily('-A INPUT -p icmp -m icmp --icmp-type 8')).toBe('ipv4');
    expect(inferFamily('-A INPUT -m icmp6 --icmpv6-type 8')).toBe('ipv6');
    expect(inferFamily('# Generated by ip6tables-save v1.8.9')).toBe('ipv6');
    expect(inferFamily('-A INPUT -m comment --comment "-s 1.2.3.4"')).toBeUndefined();
    expect(inferFamily('-A INPUT -j ACCEPT')).toBeUndefined();
    expect(inferFamily('-A INPUT -s 1.2.3.4\n-A INPUT -s ::1')).toBeUndefined();
    expect(inferFamily('-4 -A INPUT -s 1.2.3.4')).toBeUndefined();
    expect(read('*filter\nCOMMIT\n', {}).diagnostics.map(({ code }) => code)).toEqual(['FAMILY_UNKNOWN']);
    expect(read('*filter\n-A INPUT -s ::1\nCOMMIT\n', {}).ruleset.family).toBe('ipv6');
  });

  it('take the old place of "!" where that is wanted', () => {
    const text = '*filter\n-A INPUT -s ! 1.1.1.1 -p tcp --dport ! 22\nCOMMIT\n';
    const { ruleset, diagnostics } = read(text, { family: 'ipv4', acceptOldNegation: true });
    expect(diagnostics.map(({ code, severity }) => `${code} ${severity}`)).toEqual([
      'OLD_NEGATION warning',
      'OLD_NEGATION warning',
    ]);
    expect(printRuleset(ruleset)).toContain('-A INPUT ! -s 1.1.1.1/32 -p tcp -m tcp ! --dport 22\n');
  });

  it('pass over lines of the other family', () => {
    expect(printed(['-4 -A INPUT -j DROP', '-6 -A INPUT -j ACCEPT', '-A INPUT --ipv6 --nonsense'])).toEqual([
      '-A INPUT -j DROP',
    ]);
  });

  it('replace a table that stands twice, but keep its policy', () => {
    const { ruleset } = read('*filter\n:INPUT DROP [0:0]\n-A INPUT\nCOMMIT\n*filter\n-A OUTPUT\nCOMMIT\n');
    expect(printRuleset(ruleset)).toBe(
      '*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT\nCOMMIT\n',
    );
  });
});

describe('commands', () => {
  it('change the table in order', () => {
    expect(
      printed([
        '-N a',
        '--new-chain b',
        '-A a -s 1.1.1.1,2.2.2.2 -d 3.3.3.3,4.4.4.4 -j ACCEPT',
        '-I a -s 5.5.5.5,6.6.6.6',
        '-I a 2 -g b',
        '-D a 3',
        '-R a 1 -j RETURN',
        '-D a -s 2.2.2.2 -d 4.4.4.4 -j ACCEPT',
        '-C a -j RETURN',
        '-E b c',
        '-P INPUT DROP',
        '-N d',
        '-X d',
        '-A OUTPUT -j c',
        '-F OUTPUT',
        '-Z',
      ]),
    ).toEqual([
      ':INPUT DROP [0:0]',
      ':a - [0:0]',
      ':c - [0:0]',
      '-A a -j RETURN',
      '-A a -g c',
      '-A a -s 1.1.1.1/32 -d 3.3.3.3/32 -j ACCEPT',
      '-A a -s 1.1.1.1/32 -d 4.4.4.4/32 -j ACCEPT',
      '-A a -s 2.2.2.2/32 -d 3.3.3.3/32 -j ACCEPT',
    ]);
  });

  it('cannot delete chains in use', () => {
    expect(findings(['-N a', '-A a', '-X a'])).toEqual(['CHAIN_IN_USE 4 a']);
    expect(findings(['-N a', '-A INPUT -j a', '-X'])).toEqual(['CHAIN_IN_USE 4 -X']);
    expect(findings(['-N a', '-N b', '-E a b'])).toEqual(['CHAIN_EXISTS 4 a']);
  });

  it('take options in any form and order', () => {
    expect(
      printed(
        [
          '--append INPUT --jum ACCEPT --proto TCP --dpo=http --src 010.0.0.1/0xff.0.0.0 ! --in-interface=',
        ].map((line) => line.replace(' ! --in-interface=', ' ! -i eth+')),
      ),
    ).toEqual(['-A INPUT -s 8.0.0.0/8 ! -i eth+ -p tcp -m tcp --dport 80 -j ACCEPT']);
    expect(printed(['-A FORWARD -vvf -o + -m tcp --sport 1 -p 6 -c 7,8'])).toEqual([
      '-A FORWARD -p tcp -f -m tcp --sport 1',
    ]);
  });

  it('prefer a chain to a target of the same name', () => {
    expect(printed([':LOG - [0:0]', '-A INPUT -j LOG --log-level 3'])).toEqual([
      ':LOG - [0:0]',
      '-A INPUT -j LOG',
    ]);
  });
});
