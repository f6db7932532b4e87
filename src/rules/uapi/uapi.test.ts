import { describe, expect, test } from 'vitest';
import type { Family } from '../../net/index.ts';
import { parseRuleset } from '../index.ts';
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

/** Sets by number, whatever their names. */
const SETS = {
  numberOf: (name: string) => ['one', 'two'].indexOf(name),
  nameOf: (number: number) => ['one', 'two'][number],
};

describe('payloads', () => {
  // What no iptables writes on every kernel: older revisions, and extensions that a kernel may lack.
  test.each<[family: Family, rule: string]>([
    ['ipv4', '-m hashlimit --hashlimit-upto 10/sec --hashlimit-burst 7 --hashlimit-name a'],
    ['ipv6', '-m hashlimit --hashlimit-above 512kb/s --hashlimit-mode srcip --hashlimit-name a'],
    ['ipv4', '-m set ! --match-set one src,dst'],
    ['ipv6', '-m set --match-set two dst'],
    ['ipv4', '-j SET --add-set one src --del-set two dst,src'],
    ['ipv6', '-m srh --srh-segs-left-gt 3 ! --srh-tag 7'],
    ['ipv6', '-j IDLETIMER --timeout 30 --label x'],
    ['ipv4', '-m nfacct --nfacct-name web'],
    ['ipv6', '-m nfacct --nfacct-name web'],
    ['ipv4', '-j SECMARK --selctx system_u:object_r:httpd_packet_t:s0'],
    ['ipv4', '-j LED --led-trigger-id "ssh" --led-delay 1000 --led-always-blink'],
    ['ipv6', '-j LED --led-trigger-id "ssh" --led-delay inf'],
    ['ipv4', '-m ipvs --vproto 6 --vaddr 10.0.0.0/8 --vport 80 --vdir REPLY --vmethod IPIP'],
    ['ipv6', '-m ipvs ! --vaddr fd00::1 --vportctl 21'],
    ['ipv4', '-m ipvs ! --ipvs'],
  ])('every revision keeps what it can say: %s %s', (family, text) => {
    const { ruleset, diagnostics } = parseRuleset(`*mangle\n-A FORWARD ${text}\nCOMMIT\n`, {
      file: 'rules',
      family,
    });
    expect(diagnostics).toEqual([]);
    const chain = ruleset.tables[0]!.chains.find(({ name }) => name === 'FORWARD')!;
    const { matches, target } = chain.rules[0]!;
    const use = target?.kind === 'extension' ? target : matches[0]!;
    const { extension, state } = use;
    const forms = extension.abi!.filter((form) => (form.families ?? extension.families).includes(family));
    expect(forms.length).toBeGreaterThan(0);
    for (const form of forms) {
      const view = new DataView(new ArrayBuffer(form.size));
      form.encode(state, view, { family, sets: SETS });
      const read = form.decode(view, { family, sets: SETS });
      expect(`${form.revision}${extension.print(read, { family })}`).toBe(
        `${form.revision}${extension.print(state, { family })}`,
      );
    }
  });
});
