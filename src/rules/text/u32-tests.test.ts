import { describe, expect, it } from 'vitest';
import { formatU32Tests, parseU32Tests } from './u32-tests.ts';

describe('tests of u32', () => {
  it.each([
    ['6 & 0xFF = 1 && 4 & 0x3FFF = 0:5,7', '0x6&0xff=0x1&&0x4&0x3fff=0x0:0x5,0x7'],
    ['0>>22&0x3C@ 4 <<8=0x1', '0x0>>0x16&0x3c@0x4<<0x8=0x1'],
    ['0=5:5', '0x0=0x5'],
  ])('%s', (text, printed) => {
    expect(formatU32Tests(parseU32Tests(text))).toBe(printed);
    expect(formatU32Tests(parseU32Tests(printed))).toBe(printed);
  });

  it.each([
    ['', 1],
    ['0', 2],
    ['0=', 3],
    ['0=4294967296', 3],
    ['0<1=0', 2],
    ['0=1&2', 4],
    ['0=1&&', 6],
    ['=1', 1],
  ])('%j is refused at character %i', (text, place) => {
    expect(() => parseU32Tests(text)).toThrow(`at character ${place}`);
  });

  it('ten of everything fit', () => {
    const ten = (one: string, between: string): string => new Array<string>(10).fill(one).join(between);
    expect(parseU32Tests(ten('0=1', '&&'))).toHaveLength(10);
    expect(() => parseU32Tests(`${ten('0=1', '&&')}&&0=1`)).toThrow('at most 10 tests');
    expect(parseU32Tests(`0=${ten('1', ',')}`)[0]!.ranges).toHaveLength(10);
    expect(() => parseU32Tests(`0=${ten('1', ',')},1`)).toThrow('at most 10 values');
    expect(parseU32Tests(`${ten('1', '&')}=0`)[0]!.steps).toHaveLength(9);
    expect(() => parseU32Tests(`${ten('1', '&')}&1=0`)).toThrow('at most 10 numbers');
  });
});
