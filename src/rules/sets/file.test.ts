/** Text of sets: every error of a file with its place, and text that comes back as it was. */
import { describe, expect, it } from 'vitest';
import { formatDiagnostic } from '../diagnostic.ts';
import { parseCreate } from './create.ts';
import { formatEntry, parseEntry } from './entry.ts';
import { formatSet, parseSets } from './file.ts';

describe('files of sets', () => {
  it('come back as ipset prints them', () => {
    const text = [
      'create a hash:ip,port family inet hashsize 1024 maxelem 65536 timeout 0 counters comment skbinfo bucketsize 12 initval 0x2da29356',
      'add a 10.0.0.1,tcp:80 timeout 0 packets 0 bytes 0',
      'add a 10.0.0.1,icmp:echo-request timeout 4 packets 5 bytes 700 comment "of a host" skbmark 0x5/0xff skbprio 1:10 skbqueue 3',
      'create i hash:ip family inet6 hashsize 1024 maxelem 65536 bitmask ffff::ffff timeout 5 comment bucketsize 12',
      'add i 2001::1 timeout 3',
      'create q hash:ip,port family inet hashsize 1024 maxelem 65536 counters skbinfo bucketsize 12 initval 0x2da29356 netmask 24',
      'create k hash:ip,mark family inet markmask 0x000000ff hashsize 1024 maxelem 65536 forceadd bucketsize 12',
      'create n hash:net family inet6 hashsize 1024 maxelem 65536 bucketsize 12',
      'add n 2001:db8::/33 nomatch',
      'create b bitmap:ip range 10.0.0.0-10.0.255.255 netmask 24 timeout 3',
      'add b 10.0.1.0 timeout 2',
      'create m bitmap:ip,mac range 10.0.0.0-10.0.0.255 timeout 100 counters',
      'add m 10.0.0.1 timeout 50 packets 0 bytes 0',
      'add m 10.0.0.2,02:00:00:00:00:01 timeout 10 packets 3 bytes 200',
      'create l list:set size 8',
      'add l a',
      '',
    ].join('\n');
    const { sets, diagnostics } = parseSets(text, { file: 'sets' });
    expect(diagnostics).toEqual([]);
    expect(sets.map((set) => formatSet(set)).join('')).toBe(text);
  });

  it('tell every error with its line, and go on', () => {
    const text = [
      'create a hash:ip',
      'create a hash:ip',
      'create b hash:nonsense',
      'add a 10.0.0.256',
      'add missing 10.0.0.1',
      'add a 10.0.0.1 timeout 5',
      'create n hash:net',
      'add n 0.0.0.0/0',
      'add n 10.0.0.0/33',
      'create p bitmap:port',
      'frobnicate',
      'create m hash:ip maxelem 99999999999',
      'add n 10.0.0.0/8',
    ].join('\n');
    const { sets, diagnostics } = parseSets(text, { file: 'sets' });
    expect(diagnostics.map(({ span }) => span.line)).toEqual([2, 3, 4, 5, 6, 8, 9, 10, 11, 12]);
    expect(new Set(diagnostics.map(({ code }) => code))).toEqual(new Set(['SET_INVALID']));
    expect(formatDiagnostic(diagnostics[4]!)).toContain('create it with timeout');
    expect(sets.map(({ elements }) => elements.length)).toEqual([0, 1]);
  });
});

describe('sets', () => {
  it.each([
    's hash:net netmask 24',
    's hash:net,net bitmask 255.0.0.0',
    's hash:ip netmask 33',
    's hash:ip netmask 24 bitmask 255.0.0.0',
    's hash:ip bitmask 0.0.0.0',
    's hash:ip bitmask ffff::',
    's bitmap:ip range 10.0.0.0/24 bitmask 255.0.0.0',
    's bitmap:ip,mac range 10.0.0.0/15',
    's bitmap:ip,mac range 10.0.0.1/32',
    's bitmap:ip,mac range 10.0.0.0/24 netmask 25',
    's bitmap:ip,mac',
    's bitmap:port range 0-9 forceadd',
  ])('%s is refused', (create) => {
    expect(() => parseCreate(create.split(' '))).toThrow(expect.objectContaining({ code: 'SET_INVALID' }));
  });
});

describe('entries', () => {
  it.each([
    ['s hash:ip', '10.0.0.250-10.0.1.2', 9],
    ['s hash:ip', '10.0.0.0/30', 4],
    ['s hash:ip netmask 24', '10.0.0.0/16', 256],
    ['s hash:net', '10.0.0.1-10.0.0.6', 4],
    ['s hash:ip,port', '10.0.0.0/31,tcp:80-82', 6],
    ['s bitmap:port range 0-99', '10-20', 11],
  ])('%s: %s stands for several', (create, text, count) => {
    expect(parseEntry(parseCreate(create.split(' ')), text)).toHaveLength(count);
  });

  it('are printed as they are found', () => {
    const definition = parseCreate('s hash:net,port,net'.split(' '));
    const text = '10.0.0.0/8,udp:53,192.0.2.0/25';
    expect(formatEntry(definition, parseEntry(definition, text)[0]!)).toBe(text);
  });

  it.each([
    ['s hash:ip', '10.0.0.1,tcp:80'],
    ['s hash:ip', '0.0.0.0'],
    ['s hash:ip', '2001:db8::1'],
    ['s hash:ip netmask 24', '0.0.0.9'],
    ['s hash:ip', '0.0.0.0-0.0.0.3'],
    ['s hash:ip,port', '0.0.0.0,tcp:80'],
    ['s hash:ip,port', '10.0.0.1,gre:5'],
    ['s hash:ip,port', '10.0.0.1,icmp:nonsense'],
    ['s hash:net,iface', '10.0.0.0/8,physdev:eth0'],
    ['s hash:mac', '00:00:00:00:00:00'],
    ['s bitmap:ip,mac range 10.0.0.0/24', '10.0.0.1,00:00:00:00:00:00'],
    ['s bitmap:ip,mac range 10.0.0.0/24', '10.0.0.1-10.0.0.2'],
    ['s bitmap:ip,mac range 10.0.0.0/24', '10.0.1.1,02:00:00:00:00:01'],
    ['s hash:ip,mac', '10.0.0.1'],
    ['s bitmap:ip range 10.0.0.0/24', '10.0.1.0'],
    ['s hash:ip', '10.0.0.0/8'],
  ])('%s refuses %s', (create, text) => {
    expect(() => parseEntry(parseCreate(create.split(' ')), text)).toThrow(
      expect.objectContaining({ code: 'SET_INVALID' }),
    );
  });
});
