import { describe, expect, it } from 'vitest';
import { formatHostMask, parseHostAddress, parseHostMask, parsePrefixLength } from './host.ts';

describe('addresses of options', () => {
  it('has the short forms of inet_aton, not those of -s and -d', () => {
    expect([...parseHostAddress('10.1', 'ipv4')]).toEqual([10, 0, 0, 1]);
    expect([...parseHostAddress('1.2.3', 'ipv4')]).toEqual([1, 2, 0, 3]);
    expect([...parseHostAddress('0x7f000001', 'ipv4')]).toEqual([127, 0, 0, 1]);
    expect(() => parseHostAddress('1.256', 'ipv6')).toThrow();
    expect(() => parseHostAddress('256.1', 'ipv4')).toThrow();
  });

  it('keeps host bits, and takes a mask with holes for all bits', () => {
    expect(formatHostMask(parseHostMask('10.0.0.1/8', 'ipv4'))).toBe('10.0.0.1/8');
    expect(formatHostMask(parseHostMask('10.0.0.1/255.255.0.0', 'ipv4'))).toBe('10.0.0.1/16');
    expect(formatHostMask(parseHostMask('10.0.0.1/255.0.255.0', 'ipv4'))).toBe('10.0.0.1');
    expect(formatHostMask(parseHostMask('fe80::1/ffff::', 'ipv6'))).toBe('fe80::1/16');
  });

  it('a number beyond the prefix lengths is an address, and so a mask', () => {
    expect(parsePrefixLength('32', 'ipv4')).toBe(32);
    expect(parsePrefixLength('33', 'ipv4')).toBe(-1);
    expect(() => parsePrefixLength('129', 'ipv6')).toThrow();
  });
});
