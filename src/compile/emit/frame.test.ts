import { describe, expect, test } from 'vitest';
import { Frame } from './frame.ts';

describe('the stack of a program', () => {
  test('words lie in the upper halves of their slots, blocks begin at multiples of 8', () => {
    const frame = new Frame();
    expect(frame.word('a')).toBe(-4);
    expect(frame.block('b', 20)).toBe(-32);
    expect(frame.word('c')).toBe(-36);
    expect([frame.word('a'), frame.block('b', 20), frame.size]).toEqual([-4, -32, 40]);
  });

  test('what is given up is used again, and cannot be named any more', () => {
    const frame = new Frame();
    const kept = frame.word('kept');
    const { size } = frame;
    frame.word('a');
    frame.block('b', 40);
    frame.release(size);
    expect(frame.size).toBe(size);
    expect(frame.block('c', 48)).toBe(-size - 48);
    expect(frame.word('kept')).toBe(kept);
    expect(() => frame.word('a')).toThrow('a has been given up');
    expect(() => frame.block('b', 8)).toThrow('b has been given up');
  });

  test('there are 512 bytes, less 16', () => {
    const frame = new Frame();
    frame.block('all', 496);
    expect(() => frame.word('more')).toThrow('no room on the stack for more');
  });
});
