/**
 * Nanoseconds per executed instruction of the interpreter, on the programs of ../shared/data/vmbench.
 *
 * Machines here flip between two speeds for seconds at a time, so programs are measured in interleaved rounds and the
 * 10th percentile of each one's rounds counts. Prints JSON; `target` is the design's.
 *
 * Run: `npm run bench interpreter`.
 */
import { type Context, XdpContext } from '../../src/vm/index.ts';
import { loadBench, readBenchPrograms } from '../../test/support/vmbench.ts';

const ROUNDS = 25;
const ROUND_MS = 12;
const TARGET_NS_PER_INSTRUCTION = 3;

interface Subject {
  readonly name: string;
  readonly run: () => void;
  readonly executed: number;
  readonly repeats: number;
  readonly samplesNs: number[];
}

function prepare(bench: ReturnType<typeof readBenchPrograms>[number]): Subject {
  const { machine, program } = loadBench(bench);
  let context: Context | undefined;
  if (bench.isXdp) context = new XdpContext(machine, machine.createPacket(2048).set(bench.packet));
  const run =
    context === undefined ? () => machine.runRaw(program, bench.packet) : () => program.run(context);
  // Long enough for the engine to compile the interpreter with its best compiler.
  const until = performance.now() + 400;
  let warm = 0;
  const start = performance.now();
  do {
    run();
    warm++;
  } while (performance.now() < until);
  const eachMs = (performance.now() - start) / warm;
  return {
    name: bench.name,
    run,
    executed: machine.executed,
    repeats: Math.max(1, Math.ceil(ROUND_MS / eachMs)),
    samplesNs: [],
  };
}

const subjects = readBenchPrograms().map(prepare);
for (let round = 0; round < ROUNDS; round++) {
  for (const { run, repeats, samplesNs } of subjects) {
    const start = performance.now();
    for (let repeat = 0; repeat < repeats; repeat++) run();
    samplesNs.push(((performance.now() - start) * 1e6) / repeats);
  }
}

const p10 = (samples: number[]): number =>
  samples.toSorted((a, b) => a - b)[Math.floor(samples.length / 10)]!;
const round2 = (value: number): number => Math.round(value * 100) / 100;
const programs = subjects.map(({ name, executed, samplesNs }) => {
  const nsPerRun = p10(samplesNs);
  return { name, executed, nsPerRun: round2(nsPerRun), nsPerInstruction: round2(nsPerRun / executed) };
});
process.stdout.write(
  `${JSON.stringify({ bench: 'interpreter', unit: 'ns', percentile: 10, rounds: ROUNDS, target: { nsPerInstruction: TARGET_NS_PER_INSTRUCTION }, programs }, null, 2)}\n`,
);
