/**
 * The unmodified iptables under `sluice exec` and against the kernel: the same commands end with the same exit codes, the
 * same words, the same listings and the same saved rules.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { inScratchNetns } from '../support/iptables.ts';
import { describeKernel } from '../support/kernel.ts';
import { superviseScript, supervisionMissing } from '../support/supervised.ts';

const SEQUENCES = process.env.SLUICE_SOAK === '1' ? 300 : 5;
const COMMANDS = process.env.SLUICE_SOAK === '1' ? 200 : 60;

/** Without the dates in saved rules. */
function comparable(text: string): string {
  return text.replace(/ on \w+ \w+ +\d+ [\d:]+ \d+$/gm, ' on DATE');
}

const chain = fc.constantFrom('INPUT', 'FORWARD', 'OUTPUT', 'one', 'two', 'three');
const userChain = fc.constantFrom('one', 'two', 'three');
const number = fc.integer({ min: 1, max: 4 });

function conditions(family: Family): fc.Arbitrary<string> {
  const address =
    family === 'ipv4'
      ? ['10.0.0.0/8', '192.0.2.7', '! 198.51.100.0/24']
      : ['fd00::/8', '2001:db8::7', '! 2001:db8:1::/48'];
  const own =
    family === 'ipv4'
      ? ['-p icmp --icmp-type echo-request', '-f', '-m ttl --ttl-lt 5']
      : ['-p icmpv6 --icmpv6-type 128', '-m hl --hl-lt 5', '-m frag --fragmore'];
  return fc
    .subarray(
      [
        ...address.map((text) => (text.startsWith('!') ? `! -s ${text.slice(2)}` : `-s ${text}`)),
        '-i lo',
        '! -o eth+',
        '-m mark --mark 0x1/0xff',
        '-m comment --comment "a \\"text\\""',
        '-m limit --limit 10/min --limit-burst 7',
        '-m conntrack --ctstate NEW,ESTABLISHED',
        '-m state --state INVALID',
        '-m addrtype --dst-type LOCAL',
        '-m length --length 20:100',
        '-m statistic --mode nth --every 3 --packet 1',
        '-m pkttype --pkt-type multicast',
        '-m dscp --dscp 10',
        '-m tos --tos 0x10/0x3f',
        '-p tcp --dport 22 --syn',
        '-p udp -m multiport --dports 53,1000:2000',
        '-p tcp -m multiport ! --ports 1,2',
        ...own,
      ],
      { maxLength: 2 },
    )
    .map((parts) => parts.join(' '));
}

const target = fc.constantFrom(
  '-j ACCEPT',
  '-j DROP',
  '-j RETURN',
  '',
  '-j one',
  '-g two',
  '-j three',
  '-j REJECT',
  '-j LOG --log-prefix "seen "',
  '-j MARK --set-mark 7',
  '-j NOSUCH',
);

/** One call of iptables; most are right, some are not. */
function command(family: Family): fc.Arbitrary<string> {
  const rule = fc.tuple(conditions(family), target).map((parts) => parts.join(' '));
  const counters = fc.constantFrom('', '-c 3 400 ');
  return fc.oneof(
    {
      weight: 8,
      arbitrary: fc.tuple(chain, counters, rule).map(([one, count, text]) => `-A ${one} ${count}${text}`),
    },
    {
      weight: 4,
      arbitrary: fc.tuple(chain, number, rule).map(([one, at, text]) => `-I ${one} ${at} ${text}`),
    },
    { weight: 2, arbitrary: fc.tuple(chain, rule).map(([one, text]) => `-D ${one} ${text}`) },
    { weight: 2, arbitrary: fc.tuple(chain, number).map(([one, at]) => `-D ${one} ${at}`) },
    {
      weight: 2,
      arbitrary: fc.tuple(chain, number, rule).map(([one, at, text]) => `-R ${one} ${at} ${text}`),
    },
    { weight: 1, arbitrary: fc.tuple(chain, rule).map(([one, text]) => `-C ${one} ${text}`) },
    { weight: 3, arbitrary: userChain.map((one) => `-N ${one}`) },
    { weight: 1, arbitrary: userChain.map((one) => `-X ${one}`) },
    { weight: 1, arbitrary: fc.tuple(userChain, userChain).map(([from, to]) => `-E ${from} ${to}`) },
    {
      weight: 1,
      arbitrary: fc
        .tuple(chain, fc.constantFrom('ACCEPT', 'DROP'))
        .map(([one, verdict]) => `-P ${one} ${verdict}`),
    },
    { weight: 1, arbitrary: chain.map((one) => `-Z ${one}`) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        '-F one',
        '-F OUTPUT',
        '-L -n -v -x',
        '-S',
        '-L INPUT --line-numbers -n',
        '-Z',
      ),
    },
  );
}

/** Every call with its exit code and words, then everything that can be seen. */
function script(commands: readonly string[], family: Family): string {
  const program = family === 'ipv4' ? 'iptables-legacy' : 'ip6tables-legacy';
  const lines = commands.map((words) => `${program} ${words} 2>&1; echo "exit $?"`);
  for (const table of ['filter', 'mangle', 'raw', 'security'])
    lines.push(`${program} -t ${table} -L -v -n -x; ${program} -t ${table} -S -v`);
  // Read again what was saved, with its counters.
  lines.push(
    `${program}-save -c > "$SAVED"; cat "$SAVED"; ${program} -F; ${program}-restore -c "$SAVED"; echo "exit $?"`,
  );
  lines.push(
    `${program}-save -c; ${program}-restore -n < "$SAVED"; echo "exit $?"; ${program}-save -c -t filter`,
  );
  return `SAVED=$(mktemp); ${lines.join('\n')}\nrm "$SAVED"`;
}

describeKernel(
  'iptables under supervision',
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'slc-exec-'));
    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    test.each(['ipv4', 'ipv6'] as const)('random %s commands: as against the kernel', (family) => {
      /** How many calls were done, and how many were refused. */
      const outcomes = [0, 0];
      fc.assert(
        fc.property(
          fc.array(command(family), { minLength: COMMANDS, maxLength: COMMANDS, size: 'max' }),
          (commands) => {
            const text = script(commands, family);
            const kernel = inScratchNetns(text);
            const ours = superviseScript(text, ['--save', join(folder, 'policy')]);
            expect(comparable(ours.stdout)).toBe(comparable(kernel.stdout));
            expect(ours.stderr).toBe(kernel.stderr);
            expect(ours.status).toBe(kernel.status);
            for (const code of [0, 1]) outcomes[code]! += kernel.stdout.split(`exit ${code}\n`).length - 1;
          },
        ),
        { numRuns: SEQUENCES, endOnFailure: true },
      );
      expect(Math.min(...outcomes)).toBeGreaterThan((SEQUENCES * COMMANDS) / 10);
    });
  },
  supervisionMissing,
);
