/** What must be true of every set's table when nobody is changing it (src/compile/sets/layout.ts), whatever was done to it. */
import { SET_RECORD_SIZE, SETS_OFFSET } from '../../src/compile/index.ts';
import { SetHash } from '../../src/compile/sets/hash.ts';
import {
  BUCKET_SLOTS,
  Bucket,
  entryLayout,
  LENGTH_NODE_SIZE,
  LengthNode,
  MAX_DISTANCE,
  SetRecord,
  State,
  TAG_BITS,
} from '../../src/compile/sets/layout.ts';
import type { PolicyMachine } from '../../src/host/replay/machine.ts';
import { keyLayout, MAX_KEY_WORDS, type SetDefinition } from '../../src/rules/index.ts';

/** What is not as it must be in the table of the set with this place; `undefined` when all is. */
export function setFault(
  { arena }: PolicyMachine,
  slot: number,
  definition: SetDefinition,
): string | undefined {
  const { buffer } = arena.bytes;
  const words = new Uint32Array(buffer);
  const record = arena.base + SETS_OFFSET + slot * SET_RECORD_SIZE;
  const u32 = (at: number): number => words[at >>> 2]!;
  const { bucketSize, entrySize, keyWords } = entryLayout(definition);
  const [table, mask] = [u32(record + SetRecord.table), u32(record + SetRecord.bucketMask)];
  const multipliers = new BigUint64Array(buffer, record + SetRecord.multipliers, MAX_KEY_WORDS);
  const hash = new SetHash(multipliers, new BigUint64Array(buffer, record + SetRecord.start, 1)[0]!);
  const { networks, lengthsAt } = keyLayout(definition.type, definition.family);
  const beyond = new Uint32Array(mask + 1);
  const lengths = new Map<number, number>();
  const keys = new Set<string>();
  for (let bucket = 0; bucket <= mask; bucket++) {
    const at = table + bucket * bucketSize;
    for (let number = 0; number < BUCKET_SLOTS; number++) {
      const state = u32(at + Bucket.states + number * 4);
      const place = `slot ${number} of bucket ${bucket}`;
      if ((state & State.full) === 0) {
        if ((state & 0xffff) !== 0) return `${place} is being written`;
        continue;
      }
      const from = (at + Bucket.entries + number * entrySize) >>> 2;
      const key = words.subarray(from, from + keyWords);
      const hashed = hash.of(key, keyWords);
      const distance = (state >>> State.distanceShift) & MAX_DISTANCE;
      const home = (bucket - distance) & mask;
      if ((hashed & mask) >>> 0 !== home) return `${place} has an entry of bucket ${hashed & mask}`;
      if ((state & 0xffff) >>> State.tagShift !== hashed >>> (32 - TAG_BITS))
        return `${place} has another tag`;
      const text = key.join();
      if (keys.has(text)) return `${place} has an entry that is there twice`;
      keys.add(text);
      if (distance > 0) beyond[home]! += 1;
      for (let network = 0; network < networks; network++) {
        const length = (key[lengthsAt]! >>> (8 * network)) & 0xff;
        const of = network * 256 + length;
        lengths.set(of, (lengths.get(of) ?? 0) + 1);
      }
    }
  }
  const count = u32(record + SetRecord.count);
  if (count !== keys.size) return `${count} entries are counted, ${keys.size} are there`;
  if (count > definition.maxelem) return `${count} entries of ${definition.maxelem}`;
  for (const [bucket, wanted] of beyond.entries()) {
    const said = u32(table + bucket * bucketSize + Bucket.overflow);
    if (said !== wanted) return `bucket ${bucket} has ${wanted} entries elsewhere, not ${said}`;
  }
  const bits = definition.family === 'ipv4' ? 32 : 128;
  for (let network = 0; network < networks; network++) {
    const head = u32(record + SetRecord.lengths + network * 4);
    for (let length = 0; length <= bits; length++) {
      const said = u32(head - (bits + 1 - length) * LENGTH_NODE_SIZE + LengthNode.count);
      const wanted = lengths.get(network * 256 + length) ?? 0;
      if (said !== wanted) return `${wanted} networks of length ${length}, not ${said}`;
    }
  }
  return undefined;
}
