/**
 * Random sequences of iptables commands on a live policy and, in another namespace, on the kernel's tables: the same exit
 * codes and words, and after the same packets the same counters.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { removePolicies } from '../../src/host/index.ts';
import { isErrno } from '../../src/kernel/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { type Host, withNamespaces } from '../support/netns.ts';
import { supervisionMissing } from '../support/supervised.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));
const SOAK = process.env.SLUICE_SOAK === '1';
const SEQUENCES = SOAK ? 40 : 1;
const COMMANDS = SOAK ? 60 : 30;
const PACKETS = 1000;
const PORTS = [1000, 1001, 1002, 1003];
const EPERM = 1;

const chain = fc.constantFrom('INPUT', 'INPUT', 'OUTPUT', 'one', 'two');
const userChain = fc.constantFrom('one', 'two');
const number = fc.integer({ min: 1, max: 4 });
const rule: fc.Arbitrary<string> = fc
  .tuple(
    fc.subarray(
      [
        '-s 127.0.0.2',
        '! -d 127.0.0.2/31',
        '-i lo',
        '-o lo',
        '-p udp --dport 1001',
        '-p udp -m multiport --dports 1000,1002:1003',
        '-m length --length 28:60',
        '-m mark ! --mark 7',
        '-m comment --comment x',
        '-p tcp',
      ],
      { maxLength: 2 },
    ),
    fc.constantFrom('-j ACCEPT', '-j DROP', '-j RETURN', '', '', '-j NOSUCH', '-j one', '-g two', '-j two'),
  )
  .filter(([parts]) => parts.filter((part) => part.startsWith('-p')).length < 2)
  .map(([parts, target]) => [...parts, target].join(' '));

const command = fc.oneof(
  {
    weight: 8,
    arbitrary: chain.chain((one) =>
      fc.tuple(fc.constantFrom('', '-c 3 400 '), rule).map(([count, text]) => `-A ${one} ${count}${text}`),
    ),
  },
  {
    weight: 4,
    arbitrary: chain.chain((one) => fc.tuple(number, rule).map(([at, text]) => `-I ${one} ${at} ${text}`)),
  },
  { weight: 2, arbitrary: fc.tuple(chain, number).map(([one, at]) => `-D ${one} ${at}`) },
  {
    weight: 2,
    arbitrary: chain.chain((one) => fc.tuple(number, rule).map(([at, text]) => `-R ${one} ${at} ${text}`)),
  },
  { weight: 2, arbitrary: userChain.map((one) => `-N ${one}`) },
  { weight: 1, arbitrary: userChain.map((one) => `-X ${one}`) },
  { weight: 1, arbitrary: fc.tuple(userChain, userChain).map(([from, to]) => `-E ${from} ${to}`) },
  { weight: 1, arbitrary: fc.constantFrom('-P INPUT DROP', '-P INPUT ACCEPT', '-F two', '-Z', '-Z INPUT') },
);

/** Each packet by the same numbers in both namespaces. Receivers are there, so that nothing answers. */
function sendPackets(host: Host): void {
  const receivers = PORTS.map((port) => host.udp(port, '0.0.0.0'));
  const senders = [1, 2, 3].map((last) => host.udp(0, `127.0.0.${last}`));
  for (let index = 0; index < PACKETS; index++) {
    const data = new Uint8Array((index * 7) % 64);
    try {
      senders[index % 3]!.send(`127.0.0.${1 + (index % 4)}`, PORTS[(index >> 2) % 4]!, data);
    } catch (error) {
      // Dropped on its way out.
      if (!isErrno(error, EPERM)) throw error;
    }
  }
  for (const socket of [...receivers, ...senders]) socket.close();
}

function comparable(text: string): string {
  return text.replace(/^#.*\n/gm, '');
}

/** So many rules are tables, and commands edit those; long runs alone wait for that program to be verified. */
const filling = fc.constantFrom(...(SOAK ? [0, 250] : [0]));

function restoreFilling(count: number): string {
  if (count === 0) return '';
  const rules = Array.from(
    { length: count },
    (_, index) => `-A INPUT -s 10.99.${index >> 8}.${index & 255}\n`,
  );
  return `iptables-legacy-restore <<'END'\n*filter\n${rules.join('')}COMMIT\nEND`;
}

const SHOW = 'iptables-legacy -L -v -n -x; iptables-legacy-save -c -t filter';

describeKernel(
  'iptables on a live policy and on the kernel',
  () => {
    test('random commands, then the same packets', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(command, { minLength: COMMANDS, maxLength: COMMANDS, size: 'max' }),
          filling,
          async (commands, count) => {
            const calls = ['-N one', '-A INPUT', ...commands].map(
              (words) => `iptables-legacy ${words} 2>&1; echo "exit $?"`,
            );
            const [before, after] = [[restoreFilling(count), ...calls.slice(0, -5)], calls.slice(-5)].map(
              (part) => [...part, SHOW].join('\n'),
            );
            await withNamespaces(['a', 'b'], async ({ a, b }) => {
              const policy = `slc-${process.pid}-packets`;
              const words = ['exec', '--netns', a.netnsName, '--policy', policy, '--', 'sh', '-c'];
              const live = (script: string): string =>
                spawnSync(process.execPath, [PROGRAM, ...words, script], {
                  encoding: 'utf8',
                  timeout: 120_000,
                }).stdout;
              const kernel = (script: string): string =>
                b.exec('sh', ['-c', `export XTABLES_LOCKFILE=$(mktemp)\n${script}\nrm $XTABLES_LOCKFILE`]);
              try {
                expect(comparable(live(before!))).toBe(comparable(kernel(before!)));
                for (const host of [a, b]) sendPackets(host);
                // Counters of what stays go on over further changes.
                expect(comparable(live(`${SHOW}\n${after}`))).toBe(comparable(kernel(`${SHOW}\n${after}`)));
              } finally {
                await removePolicies({ policy });
              }
            });
          },
        ),
        { numRuns: SEQUENCES, endOnFailure: true },
      );
    });
  },
  supervisionMissing,
);
