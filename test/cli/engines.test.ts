/** Replays by the compiled programs say what the reference says: of every packet, and in every counter. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { EvaluationEngine, InterpreterEngine } from '../../src/host/index.ts';
import { sluice } from '../support/cli.ts';
import { disagreements, engineFor, walkOptions, walkPackets } from '../support/replays.ts';
import { sharedDataFiles } from '../support/shared-data.ts';
import { parseWalkRules, readWalk } from '../support/walks.ts';

const example = (name: string): string => fileURLToPath(new URL(`../../examples/${name}`, import.meta.url));
const EDGE = [
  'run',
  example('edge.rules'),
  '--pcap',
  example('edge.pcapng'),
  '--local',
  '192.0.2.1',
  '--local',
  '10.1.0.1',
  '--route',
  '10.1.0.0/24=eth1',
  '--route',
  '0.0.0.0/0=eth0',
];

describe('run --engine interpreter', () => {
  it('prints what the reference prints, decisions and counters', async () => {
    for (const more of [[], ['--verify-checksums'], ['--seed', '7']]) {
      const reference = await sluice([...EDGE, ...more, '--json']);
      const interpreted = await sluice([...EDGE, ...more, '--json', '--engine', 'interpreter']);
      expect(interpreted).toEqual(reference);
      expect(reference.stdout.split('\n').length).toBeGreaterThan(30);
    }
  });

  it('cannot say why rules did not match', async () => {
    const { code, stderr } = await sluice([...EDGE, '--engine', 'interpreter', '--explain', '3']);
    expect(code).toBe(2);
    expect(stderr).toContain('--engine evaluate');
  });

  it('refuses rules that have no program, with their places', async () => {
    const stdin = '*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m recent --name x --set -j DROP\nCOMMIT\n';
    const words = ['run', '-4', '-', '--pcap', example('edge.pcapng'), '--engine', 'interpreter'];
    const { code, stdout, stderr } = await sluice(words, { stdin });
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toContain('<stdin>:3:');
  });
});

describe('run --engine kernel', () => {
  it('refuses all rules that real packets cannot tell, either, before it needs any privilege', async () => {
    const { code, stdout, stderr } = await sluice([...EDGE, '--engine', 'kernel']);
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr.match(/: error: /g)).toHaveLength(3);
    expect(stderr).toContain("the kernel's clock does not follow the capture (filter INPUT rule 7)");
    expect(stderr).toContain('(filter icmp-in rule 1)');
    expect(stderr).toContain('(filter services rule 4)');
    expect(stderr).toContain('--engine interpreter');
  });
});

const files = sharedDataFiles('kernel-walks');
/** Recorded rulesets that have programs, and their packets: none may be lost. */
const FILES_FLOOR = 42;
const PACKETS_FLOOR = 9706;

describe.skipIf(files.length === 0)(`recorded packets (${files.length} files)`, () => {
  it('are decided alike by the evaluator and by the interpreter', async () => {
    let compared = 0;
    let packetsCompared = 0;
    const found: unknown[] = [];
    for (const file of files) {
      const walk = readWalk(file);
      const ruleset = parseWalkRules(file, walk.canonical);
      const reference = engineFor(() => new EvaluationEngine(walkOptions(walk, ruleset)));
      if (reference === undefined) continue;
      const engine = engineFor(() => new InterpreterEngine(walkOptions(walk, ruleset)));
      if (engine === undefined) continue;
      const packets = walkPackets(walk, ruleset);
      for (const one of await disagreements(reference, engine, packets)) found.push({ file, ...one });
      expect({ file, counters: engine.counters() }).toEqual({ file, counters: reference.counters() });
      compared++;
      packetsCompared += packets.length;
    }
    console.log(`${packetsCompared} packets of ${compared} rulesets compared`);
    expect(found).toEqual([]);
    expect(compared).toBeGreaterThanOrEqual(FILES_FLOOR);
    expect(packetsCompared).toBeGreaterThanOrEqual(PACKETS_FLOOR);
  });
});
