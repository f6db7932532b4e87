/** Batched element commands (Linux 5.6): one system call for many elements, about ten times cheaper than one each. */
import { attr, BpfCommand, bpf, bpfError, tryBpf, UpdateFlag } from '../sys/bpf.ts';
import { Errno } from '../sys/errno.ts';
import { KernelArgumentError } from '../sys/error.ts';
import { decodeStruct, encodeStruct } from '../sys/struct.ts';
import type { BpfMap } from './map.ts';

/** Pairs laid out one after the other: `keys` holds `count * keySize` bytes, `values` `count * transferSize`. */
export interface MapBatch {
  readonly count: number;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

/**
 * Reads a whole map, `chunk` elements a call. Elements that others add or remove meanwhile may be missed or seen twice.
 * @throws {SyscallError} EINVAL/ENOTSUPP for map types without batches (use `entries()`)
 */
export function lookupBatch(map: BpfMap, chunk = 1024): MapBatch {
  const cursor = new Uint8Array(Math.max(8, map.keySize));
  const parts: { keys: Uint8Array; values: Uint8Array }[] = [];
  let total = 0;
  let room = Math.max(1, Math.min(chunk, map.maxEntries));
  let started = false;
  for (;;) {
    const keys = new Uint8Array(room * map.keySize);
    const values = new Uint8Array(room * map.transferSize);
    const request = {
      inBatch: started ? cursor : 0n,
      outBatch: cursor,
      keys,
      values,
      count: room,
      mapFd: map.fd.number,
    };
    const bytes = encodeStruct(attr.batch, request);
    const result = tryBpf(BpfCommand.MAP_LOOKUP_BATCH, bytes, request);
    if (result === -Errno.ENOSPC) {
      // One hash bucket holds more than fits: the kernel returned nothing, ask again with more room.
      room *= 2;
      if (room > 4 * Math.max(chunk, map.maxEntries))
        throw bpfError('MAP_LOOKUP_BATCH', -result, `reading ${map.fd.label}`);
      continue;
    }
    if (result < 0 && result !== -Errno.ENOENT)
      throw bpfError('MAP_LOOKUP_BATCH', -result, `reading ${map.fd.label}`);
    const { count } = decodeStruct(attr.batch, bytes);
    total += count;
    parts.push({
      keys: keys.subarray(0, count * map.keySize),
      values: values.subarray(0, count * map.transferSize),
    });
    if (result === -Errno.ENOENT) break;
    started = true;
  }
  return { count: total, keys: concat(parts.map((p) => p.keys)), values: concat(parts.map((p) => p.values)) };
}

/**
 * Stores many pairs. Not atomic: on an error the pairs before the failing one are stored.
 * @throws {KernelArgumentError} when the sizes do not fit
 */
export function updateBatch(map: BpfMap, batch: MapBatch, flag: number = UpdateFlag.BPF_ANY): void {
  checkSizes(map, batch.count, batch.keys, batch.values);
  if (batch.count === 0) return;
  const { keys, values, count } = batch;
  bpf(
    'MAP_UPDATE_BATCH',
    attr.batch,
    { keys, values, count, mapFd: map.fd.number, elementFlags: flag },
    `storing ${count} values in ${map.fd.label}`,
  );
}

/** Deletes many keys. @throws {SyscallError} ENOENT at the first key that is absent; those before it are deleted */
export function deleteBatch(map: BpfMap, keys: Uint8Array): void {
  const count = keys.length / map.keySize;
  checkSizes(map, count, keys);
  if (count === 0) return;
  bpf(
    'MAP_DELETE_BATCH',
    attr.batch,
    { keys, count, mapFd: map.fd.number },
    `deleting ${count} keys of ${map.fd.label}`,
  );
}

function checkSizes(map: BpfMap, count: number, keys: Uint8Array, values?: Uint8Array): void {
  if (keys.length !== count * map.keySize || (values && values.length !== count * map.transferSize)) {
    throw new KernelArgumentError(`${map.fd.label}: ${count} elements do not fit the size of keys or values`);
  }
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
