/** LOG lines of real packets at every kind of hook, as the kernel's own LOG would write them. */
import { expect, test } from 'vitest';
import { applyPolicy, LogReader, logLine, removePolicies } from '../../src/host/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { parsed, policyName } from '../support/live-policy.ts';
import { type Host, withPair } from '../support/netns.ts';
import { LONG_MS } from '../support/patience.ts';

const hexOf = (mac: Uint8Array): string =>
  Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':');

/** The lines that a rule of `b` writes about what `send` does. */
async function linesOf(
  host: Host,
  attachment: {
    readonly hooks: readonly ('netfilter' | 'xdp' | 'tcx-ingress' | 'cgroup-egress')[];
    readonly devices?: readonly string[];
    readonly cgroup?: string;
  },
  rule: string,
  count: number,
  send: () => void,
): Promise<string[]> {
  const policy = policyName();
  const chains = [':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]'];
  const rulesets = [parsed(['*filter', ...chains, rule, 'COMMIT', ''].join('\n'))];
  try {
    await applyPolicy({ policy, namespaces: [host.netnsName], rulesets, ...attachment });
    const reader = new LogReader([policy]);
    try {
      send();
      const lines: string[] = [];
      const end = performance.now() + LONG_MS;
      while (lines.length < count && performance.now() < end)
        await reader.read((event) => lines.push(logLine(event)), 100);
      return lines;
    } finally {
      reader.close();
    }
  } finally {
    await removePolicies({ policy });
  }
}

describeKernel('LOG lines', () => {
  test('have the Ethernet header of what comes in, raw and decoded', () =>
    withPair(async ({ a, b }) => {
      const from = hexOf(a.device('b').mac);
      const to = hexOf(b.device('a').mac);
      const client = a.udp();
      const send = (): void => client.send(b.ipv4, 5001, 'out');
      for (const attachment of [
        { hooks: ['netfilter'] },
        { hooks: ['tcx-ingress'], devices: ['a'] },
        { hooks: ['xdp'], devices: ['a'] },
      ] as const) {
        for (const [flag, link] of [
          ['', `MAC=${to}:${from}:08:00 `],
          [' --log-macdecode', `MACSRC=${from} MACDST=${to} MACPROTO=0800 `],
        ] as const) {
          const rule = `-A INPUT -p udp -m udp --dport 5001 -j LOG --log-prefix "p "${flag}`;
          const [line = ''] = await linesOf(b, attachment, rule, 1, send);
          const what = `${attachment.hooks[0]}${flag}`;
          expect(line.replace(/ID=\d+/, 'ID=').replace(/SPT=\d+/, 'SPT='), what).toBe(
            `p IN=a OUT= ${link}SRC=10.11.0.1 DST=10.11.0.2 LEN=31 TOS=0x00 PREC=0x00 TTL=64 ID= DF PROTO=UDP SPT= DPT=5001 LEN=11 `,
          );
        }
      }
    }));

  test('have the Ethernet header of a packet in several pieces, too, and where its IP header begins', () =>
    withPair(async ({ a, b }) => {
      const macs = `${hexOf(b.device('a').mac)}:${hexOf(a.device('b').mac)}`;
      const rule = '-A INPUT -p udp -m udp --dport 5001 -j LOG';
      // More than a frame holds: what comes to INPUT is put together of fragments, and lies in as many places.
      const send = (): void => a.udp().send(b.ipv4, 5001, 'x'.repeat(4000));
      const [line = ''] = await linesOf(b, { hooks: ['netfilter'] }, rule, 1, send);
      expect(line).toMatch(
        new RegExp(
          `^IN=a OUT= MAC=${macs}:08:00 SRC=10\\.11\\.0\\.1 DST=10\\.11\\.0\\.2 LEN=4028 .* PROTO=UDP SPT=\\d+ DPT=5001 LEN=4008 $`,
        ),
      );
    }));

  test('have the loopback header, no header of what goes out, and the owner of its socket', () =>
    withPair(async ({ b }) => {
      const client = b.udp();
      const inside = await linesOf(b, { hooks: ['netfilter'] }, '-A INPUT -i lo -p udp -j LOG', 1, () =>
        client.send('127.0.0.1', 5001, 'x'),
      );
      expect(inside[0]).toMatch(/^IN=lo OUT= MAC=(00:){12}08:00 SRC=127\.0\.0\.1 /);
      const outgoing = '-A OUTPUT -p udp -m udp --dport 5001 -j LOG --log-uid';
      const out = await linesOf(b, { hooks: ['netfilter'] }, outgoing, 1, () =>
        client.send('10.11.0.1', 5001, 'x'),
      );
      expect(out[0]).toMatch(/^IN= OUT=a SRC=10\.11\.0\.2 .* DPT=5001 LEN=9 UID=0 GID=0 $/);
    }));
});
