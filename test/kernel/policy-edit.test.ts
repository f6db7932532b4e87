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
  LogReader,
  removePolicies,
  requireLive,
} from '../../src/host/index.ts';
import { parseSets, printRuleset } from '../../src/rules/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { filterRules, parsed, request } from '../support/live-policy.ts';
import { type Host, withNamespaces, withPair } from '../support/netns.ts';
import { LONG_MS } from '../support/patience.ts';

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
    120_000,
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
        const deadline = Date.now() + LONG_MS;
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

  test(
    'LOG, MARK, REJECT, rates, states, sets and chains come and go; what lives says so',
    () =>
      withPair(async ({ a, b }) => {
        const { sets } = parseSets('create s hash:ip\nadd s 192.0.2.7\n', { file: 'sets' });
        const mangle = (lines: readonly string[]) =>
          parsed(
            `*mangle\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n${[...FILLING, ...lines].join('\n')}\nCOMMIT\n`,
          ).tables;
        const filter = (lines: readonly string[], chains: readonly string[] = []) =>
          parsed(
            `*filter\n:INPUT DROP [0:0]\n${chains.map((chain) => `:${chain} - [0:0]\n`).join('')}${lines.join('\n')}\nCOMMIT\n`,
          ).tables;
        const looking = '-A INPUT -m set --match-set s src -j DROP';
        const wanted = request(b, []);
        const { policy } = wanted;
        const server = b.udp(PORT);
        const reaches = (): boolean => {
          a.udp().send(b.ipv4, PORT, 'x');
          return server.receive(200) !== undefined;
        };
        const apply = async (
          marks: readonly string[],
          lines: readonly string[],
          chains: readonly string[] = [],
        ) => {
          const tables = [...mangle(marks), ...filter(lines, chains)];
          const report = await applyPolicy({ ...wanted, rulesets: [{ family: 'ipv4', tables }] });
          expect(report).toMatchObject({ editedRules: expect.any(Number), programs: { loaded: 0 } });
          const [ruleset] = requireLive({ policy }).rulesets;
          expect(printRuleset(ruleset!)).toBe(printRuleset({ family: 'ipv4', tables }));
          return report;
        };
        try {
          const tables = [...mangle([]), ...filter([...FILLING, looking, ACCEPT])];
          await applyPolicy({ ...wanted, rulesets: [{ family: 'ipv4', tables }], sets });
          expect(reaches()).toBe(true);
          const mark = '-A INPUT -p udp -j MARK --set-xmark 0x5/0xffffffff';
          const marked = (value: string): string => `-A INPUT -p udp -m mark --mark ${value} -j ACCEPT`;
          const reject = '-A INPUT -p udp -j REJECT --reject-with icmp-admin-prohibited';
          // The mark that a rule sets in one table is asked for in the other.
          await apply([mark], [...FILLING, looking, marked('0x5'), reject]);
          expect(reaches()).toBe(true);
          await apply([], [...FILLING, looking, marked('0x5'), reject]);
          expect(reaches()).toBe(false);
          const log = '-A one -p udp -j LOG --log-prefix "in one: "';
          const reader = new LogReader([policy]);
          try {
            await apply(
              [],
              [...FILLING, looking, '-A INPUT -j one', log, '-A one -p udp -j ACCEPT'],
              ['one'],
            );
            expect(reaches()).toBe(true);
            // Another place, read after that.
            await apply(
              [],
              [looking, '-A INPUT -j one', '-A one -p tcp', log, '-A one -p udp -j ACCEPT'],
              ['one'],
            );
            expect(reaches()).toBe(true);
            const lines: string[] = [];
            const deadline = Date.now() + LONG_MS;
            while (lines.length < 2 && Date.now() < deadline)
              await reader.read(
                (event) => void lines.push(`${event.point?.rule.rule} ${event.point?.prefix}`),
                100,
              );
            expect(lines).toEqual(['1 in one: ', '2 in one: ']);
          } finally {
            reader.close();
          }
          const state =
            '-A INPUT -p udp -m conntrack --ctstate NEW,ESTABLISHED -m limit --limit 1/hour --limit-burst 1 -j ACCEPT';
          await apply([], [looking, '-A INPUT -m set --match-set s dst -j DROP', state]);
          expect([reaches(), reaches()]).toEqual([true, false]);
          const live = requireLive({ policy });
          expect(live.problems).toEqual([]);
          expect(live.document.aids).toMatchObject({ conntrack: true, rejects: { ipv4: [8] } });
        } finally {
          await removePolicies({ policy });
        }
      }),
    120_000,
  );

  test('what needs another program is loaded whole, and says why', () =>
    withPair(async ({ b }) => {
      const wanted = request(b, [...FILLING, ACCEPT]);
      const { sets } = parseSets('create s hash:ip\n', { file: 'sets' });
      try {
        await applyPolicy({ ...wanted, sets });
        const of = async (lines: readonly string[]): Promise<ApplyReport> =>
          await applyPolicy({ ...wanted, rulesets: [filterRules(lines)] });
        const looked = await of([...FILLING, '-A INPUT -m set --match-set s src -j DROP', ACCEPT]);
        expect(looked.notEdited).toBe('the program looks no sets up, which the one for rules with sets does');
        const added = await of([...FILLING, '-A INPUT -j SET --add-set s src', ACCEPT]);
        expect(added.notEdited).toBe('the program changes no sets, which the one for rules that do does');
        const more = await of([
          ...FILLING,
          '-A INPUT -j SET --add-set s src',
          '-A INPUT -p udp -j SET --del-set s dst',
          ACCEPT,
        ]);
        expect(more).toMatchObject({ editedRules: 1, programs: { loaded: 0 } });
        const refused = of([...FILLING, '-A INPUT -m string --string x --algo bm -j ACCEPT']);
        await expect(refused).rejects.toMatchObject({ code: 'COMPILE_REFUSED' });
      } finally {
        await removePolicies({ policy: wanted.policy });
      }
    }));
});
