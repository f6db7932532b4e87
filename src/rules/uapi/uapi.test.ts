import { describe, expect, test } from 'vitest';
import { findRevision } from './lookup.ts';
import { decodeEntriesRequest, decodeInfoRequest, decodeReplaceHeader } from './requests.ts';

describe('requests', () => {
  test('lengths are refused before anything is read', () => {
    const none = new Uint8Array(0);
    expect(() => decodeInfoRequest(none, 83)).toThrow(expect.objectContaining({ errno: 22 }));
    expect(() => decodeEntriesRequest(none, 39)).toThrow(expect.objectContaining({ errno: 22 }));
    expect(() => decodeReplaceHeader(none, 95)).toThrow(expect.objectContaining({ errno: 22 }));
  });

  test('a table without room for counters is EINVAL, one with too many ENOMEM', () => {
    const request = new Uint8Array(96);
    expect(() => decodeReplaceHeader(request, 96)).toThrow(expect.objectContaining({ errno: 22 }));
    new DataView(request.buffer).setUint32(84, 0x7fff_ffff, true);
    expect(() => decodeReplaceHeader(request, 96)).toThrow(expect.objectContaining({ errno: 12 }));
  });
});

describe('revisions', () => {
  test('a known one is there, another is EPROTONOSUPPORT, an unknown name ENOENT', () => {
    expect(findRevision('match', 'ipv4', 'conntrack', 3)).toBeUndefined();
    expect(findRevision('target', 'ipv6', '', 0)).toBeUndefined();
    expect(() => findRevision('match', 'ipv4', 'tcp', 9)).toThrow(expect.objectContaining({ errno: 93 }));
    expect(() => findRevision('match', 'ipv6', 'icmp', 0)).toThrow(expect.objectContaining({ errno: 2 }));
  });
});
