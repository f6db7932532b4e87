/**
 * The examples of the bpfilter series, with the same commands on loopback: under `sluice exec` they list, answer and drop
 * as against the kernel's own tables, and the programs say what each of their instructions is for.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { livePolicies, offloadAnswer, removePolicies } from '../../src/host/index.ts';
import { Errno } from '../../src/kernel/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { type Host, withNamespaces, withPair } from '../support/netns.ts';
import { supervisionMissing } from '../support/supervised.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));
const RULES = [
  '-A INPUT -s 127.0.0.2/32 -d 127.0.0.1/32 -i lo -j DROP',
  '-A INPUT -s 127.0.0.4/32 -d 127.0.0.3/32 -i lo -j DROP',
  '-A INPUT -s 127.0.0.5/32 -i lo -j DROP',
];
/** Commands of the series in turn, and the pings after them: destination, source, whether it is answered. */
const STEPS: readonly {
  readonly rules: readonly string[];
  readonly pings: readonly (readonly [to: string, from: string, answered: boolean])[];
}[] = [
  { rules: [], pings: [['127.0.0.1', '127.0.0.2', true]] },
  {
    rules: ['-i lo -s 127.0.0.2/32 -d 127.0.0.1/32'],
    pings: [
      ['127.0.0.1', '127.0.0.2', false],
      ['127.0.0.1', '127.0.0.1', true],
      ['127.0.0.2', '127.0.0.2', true],
    ],
  },
  {
    rules: ['-i lo -s 127.0.0.4/32 -d 127.0.0.3/32', '-i lo -s 127.0.0.5/32'],
    pings: [
      ['127.0.0.4', '127.0.0.4', true],
      // The request passes; the answer, from 127.0.0.4 to 127.0.0.3, does not.
      ['127.0.0.4', '127.0.0.3', false],
      ['127.0.0.1', '127.0.0.2', false],
      ['127.0.0.1', '127.0.0.5', false],
    ],
  },
];
const HOOKS = process.env.SLUICE_SOAK === '1' ? ['netfilter', 'tcx'] : ['netfilter'];
const ANSWER_MS = 10_000;
const SILENCE_MS = 200;

/** Everything that is seen: the listing after each step, and which pings were answered. */
function transcript(host: Host, run: (script: string) => string): string {
  host.sysctl('net/ipv4/ping_group_range', '0 0');
  const counters = 'iptables-legacy -t filter -L -v -n -x';
  const steps = STEPS.map(({ rules, pings }, step) => {
    const calls = rules.map((rule) => `iptables-legacy -t filter -A INPUT ${rule} -j DROP`);
    // A policy counts from its first rule on.
    const before = step > 1 ? [counters] : [];
    const listing = run([...before, ...calls, 'iptables-legacy -t filter -L -n'].join('\n'));
    const answers = pings.map(([to, from, answered]) => {
      using socket = host.ping(to, from);
      socket.send();
      return `${to} from ${from}: ${socket.receive(answered ? ANSWER_MS : SILENCE_MS)}`;
    });
    return [listing, ...answers].join('\n');
  });
  return [...steps, run(counters)].join('\n');
}

describeKernel(
  'the examples of the bpfilter series',
  () => {
    test.each(HOOKS)('at %s', async (hook) => {
      await withNamespaces(['a', 'b'], async ({ a, b }) => {
        const policy = `slc-${process.pid}-series`;
        const sluice = (...words: string[]): string => {
          const run = spawnSync(process.execPath, [PROGRAM, ...words], { encoding: 'utf8', timeout: 60_000 });
          expect(run.stderr).toBe('');
          return run.stdout;
        };
        const where =
          hook === 'netfilter' ? [] : ['--hook', 'tcx-ingress', '--hook', 'tcx-egress', '--dev', 'lo'];
        const options = ['exec', '--netns', a.netnsName, '--policy', policy, ...where, '--', 'sh', '-c'];
        try {
          const kernel = transcript(b, (script) =>
            b.exec('sh', ['-c', `export XTABLES_LOCKFILE=$(mktemp)\n${script}\nrm $XTABLES_LOCKFILE`]),
          );
          for (const [to, from, answered] of STEPS.flatMap(({ pings }) => pings))
            expect(kernel).toContain(`${to} from ${from}: ${answered}`);
          expect(transcript(a, (script) => sluice(...options, script))).toBe(kernel);
          // The listing of the programs has every rule, and behind each the instructions that are for it.
          const dump = sluice('dump', '--netns', a.netnsName, '--policy', policy);
          for (const rule of RULES) {
            const after = dump.split(rule)[1] ?? '';
            expect(after.split('\n').slice(1, 3).join('\n')).toMatch(/\d+: /);
          }
          expect(a.exec('iptables-legacy-save')).toBe('');
        } finally {
          await removePolicies({ policy });
        }
      });
    });

    // The ninth step, on devices without such hardware: what they answer is told, and nothing else happens.
    test('offload to a device', async () => {
      await withPair(async ({ a }) => {
        const rule = '-t filter -A INPUT -i b -s 192.168.2.2/32 -j DROP';
        const target = ['--netns', a.netnsName, '--policy', `slc-${process.pid}-offload`];
        const run = (...words: string[]): { status: number | null; said: string } => {
          const done = spawnSync(process.execPath, [PROGRAM, ...words], {
            encoding: 'utf8',
            input: '*filter\n:INPUT DROP\nCOMMIT\n',
            timeout: 60_000,
          });
          return { status: done.status, said: done.stdout + done.stderr };
        };
        const where = ['--hook', 'xdp', '--dev', 'lo', '--dev', 'b', '--offload'];
        const iptables = ['--', 'iptables-legacy', ...rule.split(' ')];
        for (const done of [
          run('exec', ...target, ...where, '--json', ...iptables),
          run('apply', '-4', '-', ...target, ...where, '--json'),
          run('apply', '-4', '-', ...target, ...where, '--json', '--dry-run'),
        ]) {
          expect(done.status).toBe(4);
          const { error } = JSON.parse(done.said) as { error: { code: string; message: string } };
          expect(error).toMatchObject({
            code: 'HOST_OFFLOAD_REFUSED',
            message: `${offloadAnswer('lo', { errno: Errno.EOPNOTSUPP, summary: '' })}; ${offloadAnswer('b', { errno: Errno.EINVAL, summary: '' })}`,
          });
        }
        const tcx = ['--hook', 'tcx-ingress', '--dev', 'b', '--offload'];
        expect(run('exec', ...target, ...tcx, ...iptables)).toMatchObject({
          status: 4,
          said: expect.stringContaining('hint: leave --offload out'),
        });
        expect(run('exec', ...target, '--offload', ...iptables).said).toContain(
          'add --hook xdp --dev DEVICE',
        );
        expect(livePolicies({ cookie: BigInt(a.cookie) })).toEqual([]);
        expect(a.exec('iptables-legacy-save')).toBe('');
      });
    });
  },
  supervisionMissing,
);
