/**
 * Rules that differ from the live ones by a few are edited into the live tables: while packets come none is lost, none is
 * decided by a mixture of two rulesets, and all are counted.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import {
  type ApplyReport,
  type ApplyRequest,
  applyPolicy,
  removePolicies,
  requireLive,
} from '../../src/host/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { filterRules, parsed, request } from '../support/live-policy.ts';
import { type Host, withNamespaces, withPair } from '../support/netns.ts';

const PORT = 5000;
const EDITS = process.env.SLUICE_SOAK === '1' ? 2000 : 40;

/** More rules than become code, none of which fits what is sent. */
const FILLING = Array.from(
  { length: 400 },
  (_, at) => `-A INPUT -s 198.18.${at >> 8}.${at & 255}/32 -p tcp -m tcp --dport ${1 + at} -j DROP`,
);
const ACCEPT = `-A INPUT -p udp -m udp --dport ${PORT} -j ACCEPT`;

/** Sends datagrams until its standard input ends, and then writes how many. */
const SENDER = `
const socket = require('node:dgram').createSocket('udp4');
let sent = 0;
let done = 0;
const timer = setInterval(() => {
  for (let turn = 0; turn < 5; turn++) {
    sent++;
    socket.send('x', ${PORT}, process.argv[1], () => done++);
  }
}, 1);
process.stdin.on('end', () => {
  clearInterval(timer);
  const wait = setInterval(() => {
    if (done < sent) return;
    clearInterval(wait);
    socket.close();
    process.stdout.write(String(sent));
  }, 1);
}).resume();
`;

function startSender(from: Host, to: string): ChildProcess {
  return spawn('nsenter', [`--net=/run/netns/${from.netnsName}`, process.execPath, '-e', SENDER, to], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
}

async function stopSender(child: ChildProcess): Promise<number> {
  let text = '';
  child.stdout!.on('data', (data: Buffer) => {
    text += data.toString();
  });
  child.stdin!.end();
  await once(child, 'close');
  return Number(text);
}

type Counts = ReadonlyMap<string, bigint>;

/** Packets by rule line, and of INPUT's policy. */
function countsOf(policy: string): Counts {
  const counts = new Map<string, bigint>();
  const { rulesets } = requireLive({ policy });
  for (const { chains } of rulesets[0]!.tables) {
    for (const { name, rules, counters } of chains) {
      counts.set(`:${name}`, counters.packets);
      for (const [index, rule] of rules.entries()) counts.set(`${name} ${index + 1}`, rule.counters.packets);
    }
  }
  return counts;
}

function withChains(lines: readonly string[]): ApplyRequest['rulesets'] {
  const chains = [
    ':INPUT DROP [0:0]',
    ':FORWARD DROP [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    ':one - [0:0]',
    ':two - [0:0]',
  ];
  return [parsed(['*filter', ...chains, ...lines, 'COMMIT', ''].join('\n'))];
}

describeKernel('edits of live tables', () => {
  test(
    'under traffic: nothing lost, nothing mixed, everything counted',
    () =>
      withPair(async ({ a, b }) => {
        const udp = '-p udp -m udp';
        const filling = [...FILLING];
        // Whoever is met says so; a packet that met both or neither would show.
        const lines = (which: 'one' | 'two', place: number): string[] => [
          ...filling.slice(0, place),
          `-A INPUT ${udp} --dport ${PORT} -j ${which}`,
          ...filling.slice(place),
          '-A INPUT -s 198.51.100.1/32 -j one',
          '-A INPUT -s 198.51.100.1/32 -j two',
          ACCEPT,
          `-A one ${udp}`,
          `-A two ${udp}`,
        ];
        const wanted = request(b, []);
        const { policy } = wanted;
        await applyPolicy({ ...wanted, rulesets: withChains(lines('one', 0)) });
        const sender = startSender(a, b.ipv4);
        try {
          let edited = 0;
          const reasons: string[] = [];
          for (let turn = 1; turn <= EDITS; turn++) {
            if (turn % 3 === 0) filling.splice((turn * 37) % filling.length, 1);
            else
              filling.splice(
                (turn * 53) % filling.length,
                0,
                `-A INPUT -s 203.0.113.${turn % 250}/32 -j DROP`,
              );
            const rulesets = withChains(lines(turn % 2 === 0 ? 'one' : 'two', (turn * 91) % filling.length));
            const report: ApplyReport = await applyPolicy({ ...wanted, rulesets });
            if (report.editedRules === undefined) reasons.push(report.notEdited ?? '');
            else edited += 1;
            await new Promise((resolve) => setImmediate(resolve));
          }
          const sent = BigInt(await stopSender(sender));
          expect(sent).toBeGreaterThan(0n);
          const counts = countsOf(policy);
          const last = filling.length + 4;
          expect({
            accepted: counts.get(`INPUT ${last}`),
            either: counts.get('one 1')! + counts.get('two 1')!,
          }).toEqual({ accepted: sent, either: sent });
          expect({ edited: edited > reasons.length * 4, reasons }).toEqual({ edited: true, reasons });
        } finally {
          sender.kill();
          await removePolicies({ policy });
        }
      }),
    60_000,
  );

  test('without a confirmation the tables before run again, and count on', () =>
    withPair(async ({ a, b }) => {
      const wanted = request(b, [...FILLING, ACCEPT]);
      const { policy } = wanted;
      const server = b.udp(PORT);
      const reaches = (): boolean => {
        a.udp().send(b.ipv4, PORT, 'x');
        return server.receive(100) !== undefined;
      };
      try {
        await applyPolicy(wanted);
        expect(reaches()).toBe(true);
        const rulesets = [filterRules(['-A INPUT -p udp -j DROP', ...FILLING, ACCEPT])];
        const report = await applyPolicy({ ...wanted, rulesets, confirmSeconds: 1 });
        expect(report.editedRules).toBe(1);
        expect(reaches()).toBe(false);
        const deadline = Date.now() + 10_000;
        while (!reaches() && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
        expect(countsOf(policy).get(`INPUT ${FILLING.length + 1}`)).toBeGreaterThanOrEqual(2n);
        // What was given up is not edited, and what is live again is.
        const again = await applyPolicy({ ...wanted, rulesets: [filterRules([ACCEPT, ...FILLING, ACCEPT])] });
        expect(again.notEdited ?? '').not.toBe('a commit waits for confirmation');
        expect(reaches()).toBe(true);
      } finally {
        await removePolicies({ policy });
      }
    }));

  test('in several namespaces together', () =>
    withNamespaces(['first', 'second'], async ({ first, second }) => {
      const wanted: ApplyRequest = {
        ...request(first, [...FILLING, ACCEPT]),
        namespaces: [first.netnsName, second.netnsName],
      };
      const { policy } = wanted;
      try {
        await applyPolicy(wanted);
        const lines = [...FILLING.slice(0, 200), '-A INPUT -p tcp -j DROP', ...FILLING.slice(201), ACCEPT];
        const report = await applyPolicy({ ...wanted, rulesets: [filterRules(lines)] });
        expect(report).toMatchObject({ editedRules: 2, programs: { loaded: 0 } });
        for (const { cookie } of report.namespaces) {
          const live = requireLive({ policy, cookie: BigInt(cookie) });
          expect(live.problems).toEqual([]);
          expect(live.rulesets[0]!.tables[0]!.chains[0]!.rules).toHaveLength(lines.length);
        }
      } finally {
        await removePolicies({ policy });
      }
    }));

  test('what needs more than tables is loaded whole, and says why', () =>
    withPair(async ({ b }) => {
      const wanted = request(b, [...FILLING, ACCEPT]);
      try {
        await applyPolicy(wanted);
        const of = async (lines: readonly string[]): Promise<ApplyReport> =>
          await applyPolicy({ ...wanted, rulesets: [filterRules(lines)] });
        const logged = await of([...FILLING, '-A INPUT -p udp -j LOG', ACCEPT]);
        expect(logged).toMatchObject({ notEdited: 'a rule for chain INPUT: log needs more than tables' });
        const stated = await of([...FILLING, '-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT']);
        expect(stated.notEdited).toBe('rules ask for connections, which nothing follows yet');
        const refused = of([...FILLING, '-A INPUT -m string --string x --algo bm -j ACCEPT']);
        await expect(refused).rejects.toMatchObject({ code: 'COMPILE_REFUSED' });
      } finally {
        await removePolicies({ policy: wanted.policy });
      }
    }));
});
