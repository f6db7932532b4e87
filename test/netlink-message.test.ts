/** The netlink codec: what is written is read, and what is broken ends. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  attribute,
  decodeAttributes,
  decodeMessages,
  encodeMessage,
  join,
  listAttributes,
  nested,
  readU32,
  stringAttribute,
  u16Attribute,
  u32Attribute,
  u32BeAttribute,
} from '../src/kernel/netlink/message.ts';

const payload = fc.uint8Array({ maxLength: 40 });
const type = fc.integer({ min: 1, max: 0x3fff });

test('messages and attributes survive the round trip, in order', () => {
  const message = fc.record({
    type: fc.nat(0xffff),
    flags: fc.nat(0xffff),
    sequence: fc.nat(0xffffffff),
    attributes: fc.array(fc.tuple(type, payload), { maxLength: 5 }),
  });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 5 }), (messages) => {
      const datagram = join(
        messages.map((entry) =>
          encodeMessage(entry.type, entry.flags, entry.sequence, [
            Uint8Array.of(1, 2, 3, 4),
            ...entry.attributes.map(([kind, bytes]) => attribute(kind, bytes)),
          ]),
        ),
      );
      const read = [...decodeMessages(datagram)];
      expect(
        read.map(({ type: kind, flags, sequence, payload: body }) => ({
          type: kind,
          flags,
          sequence,
          attributes: [...listAttributes(body.subarray(4))],
        })),
      ).toEqual(messages);
    }),
  );
});

test('numbers have the order that their name says, nested attributes their flag', () => {
  expect([...u16Attribute(1, 0x1234)]).toEqual([6, 0, 1, 0, 0x34, 0x12, 0, 0]);
  expect([...u32Attribute(2, 0x12345678)]).toEqual([8, 0, 2, 0, 0x78, 0x56, 0x34, 0x12]);
  expect([...u32BeAttribute(3, 0x12345678)]).toEqual([8, 0, 3, 0, 0x12, 0x34, 0x56, 0x78]);
  expect([...stringAttribute(4, 'lo')]).toEqual([7, 0, 4, 0, 0x6c, 0x6f, 0, 0]);
  const outer = nested(5, u32Attribute(6, 7));
  expect([...outer.subarray(0, 4)]).toEqual([12, 0, 5, 0x80]);
  expect(readU32(decodeAttributes(decodeAttributes(outer).get(5)!).get(6)!)).toBe(7);
});

test('random bytes end, with what fits', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      for (const message of decodeMessages(bytes))
        expect(message.payload.length).toBeLessThanOrEqual(bytes.length);
      for (const [, value] of listAttributes(bytes)) expect(value.length).toBeLessThanOrEqual(bytes.length);
    }),
  );
});
