import { describe, expect, it } from 'vitest';
import { type CommandContext, parseCommand } from './commandline.ts';
import type { Word } from './lexer.ts';
import { Reporter } from './report.ts';

/** The words of one call of iptables or ip6tables, without the program's name. */
function call(words: readonly string[], family: 'ipv4' | 'ipv6' = 'ipv4') {
  const reporter = new Reporter('command line');
  reporter.sourceLine = words.join(' ');
  const context: CommandContext = {
    family,
    table: 'filter',
    restore: false,
    acceptOldNegation: false,
    reporter,
    isChain: (name) => name === 'mine' || name === 'INPUT',
    chainNames: () => ['mine', 'INPUT'],
  };
  const placed: Word[] = [];
  let column = 1;
  for (const text of words) {
    placed.push({ text, column, length: text.length });
    column += text.length + 1;
  }
  return { parsed: parseCommand(placed, context), codes: reporter.diagnostics.map(({ code }) => code) };
}

describe('a call of iptables', () => {
  it.each([
    ['-t nat -L PREROUTING 3 -nvx --line-numbers', { kind: 'list', chain: 'PREROUTING', number: 3 }],
    ['-LINPUT', { kind: 'list', chain: 'INPUT', number: undefined }],
    ['--list-rules=mine', { kind: 'list-rules', chain: 'mine', number: undefined }],
    ['-L -Z', { kind: 'list', chain: undefined, number: undefined }],
    ['-Z -L mine', { kind: 'list', chain: 'mine', number: undefined }],
    ['-F', { kind: 'flush', chain: undefined }],
    ['-X mine', { kind: 'delete-chain', chain: 'mine' }],
    ['-E mine yours', { kind: 'rename-chain', chain: 'mine', newName: 'yours' }],
    ['-N new', { kind: 'new-chain', chain: 'new' }],
    ['-D INPUT 7', { kind: 'delete-number', chain: 'INPUT', number: 7 }],
    ['-Z INPUT 2', { kind: 'zero', chain: 'INPUT', number: 2 }],
    [
      '-P INPUT DROP -c 1 2',
      { kind: 'policy', chain: 'INPUT', policy: 'DROP', counters: { packets: 1n, bytes: 2n } },
    ],
  ])('%s', (line, command) => {
    const { parsed, codes } = call(line.split(' '));
    expect(codes).toEqual([]);
    expect(parsed?.command).toEqual(command);
  });

  it('carries rules', () => {
    const { parsed } = call('-w -t raw -I mine 2 -4 -s 1.1.1.1,2.2.2.2 -c 3,4 -v -v -j ACCEPT'.split(' '));
    expect(parsed).toMatchObject({
      table: 'raw',
      waitSec: Number.POSITIVE_INFINITY,
      listing: { verbose: 2, numeric: false, zero: false },
      command: { kind: 'insert', chain: 'mine', number: 2, rules: [{}, {}] },
    });
    expect(parsed?.command.kind === 'insert' && parsed.command.rules[0]?.counters).toEqual({
      packets: 3n,
      bytes: 4n,
    });
  });

  it('says what the listing is to be', () => {
    const { parsed } = call('-w 5 -W 100 -M modprobe -L -n -v -x --line-numbers -Z'.split(' '));
    expect(parsed?.waitSec).toBe(5);
    expect(parsed?.listing).toEqual({
      numeric: true,
      exact: true,
      lineNumbers: true,
      verbose: 1,
      zero: true,
    });
  });

  it.each([
    ['-6 -A INPUT', 'ILLEGAL_OPTION'],
    ['-t frob -A INPUT', 'UNKNOWN_TABLE'],
    ['-w soon -A INPUT', 'BAD_VALUE'],
    ['-A INPUT -j unknown', 'UNKNOWN_TARGET'],
    ['-V', 'ILLEGAL_OPTION,MISSING_COMMAND'],
    ['-F -L', 'DUPLICATE_OPTION'],
    ['-L -x -n -A INPUT', 'DUPLICATE_OPTION'],
    ['', 'MISSING_COMMAND'],
  ])('%s fails', (line, codes) => {
    const found = call(line === '' ? [] : line.split(' '));
    expect(found.parsed).toBeUndefined();
    expect(found.codes).toContain(codes.split(',')[0]);
  });

  it('knows options of IPv6', () => {
    expect(call('-A INPUT -m frag --fragfirst -s fe80::/10 -j ACCEPT'.split(' '), 'ipv6').codes).toEqual([]);
    expect(call('-A INPUT -f'.split(' '), 'ipv6').codes).toEqual(['ILLEGAL_OPTION']);
    expect(call('-A INPUT -p ah'.split(' '), 'ipv6').codes).toEqual(['BAD_VALUE']);
    expect(call('-4 -A INPUT'.split(' '), 'ipv6').codes).toEqual(['ILLEGAL_OPTION']);
  });
});
