import { existsSync } from 'node:fs';
import { Machine } from '../../../vm/index.ts';
import { type Command, UsageError } from '../../command.ts';
import { type CliEnvironment, readInput } from '../../environment.ts';
import { ExitCode } from '../../exit.ts';

/** Bytes of a hex text; white space does not count. @throws {UsageError} */
function parseHex(text: string, what: string): Uint8Array {
  const digits = text.replace(/\s+/g, '');
  if (digits.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(digits)) {
    throw new UsageError(
      `${what} is neither a file nor hexadecimal bytes`,
      'two digits a byte, white space is ignored',
    );
  }
  return Buffer.from(digits, 'hex');
}

/** Bytecode from hex, a file of hex or raw bytes, or standard input. */
async function readProgram(argument: string, environment: CliEnvironment): Promise<Uint8Array> {
  if (argument !== '-' && !existsSync(argument))
    return parseHex(argument, `--program ${JSON.stringify(argument.slice(0, 40))}`);
  const bytes = await readInput(argument, environment);
  const text = Buffer.from(bytes).toString('latin1');
  return /^[0-9a-fA-F\s]*$/.test(text) ? parseHex(text, argument) : bytes;
}

export const vmRun: Command = {
  name: 'vm run',
  summary: 'run eBPF bytecode on bytes and print r0',
  description:
    'r1 holds the address of the memory, r2 its length, r10 the end of a 512-byte stack. Whatever the program tries to touch outside\nof them ends it with an error that names the instruction; so does an instruction budget. Nothing is loaded into the kernel.',
  arguments: [],
  options: [
    {
      long: 'program',
      value: 'HEX|FILE|-',
      completes: 'file',
      summary: 'bytecode: hexadecimal, or a file of hexadecimal or raw bytes',
    },
    { long: 'memory', value: 'HEX', summary: 'the bytes that the program runs on; none by default' },
    {
      long: 'engine',
      value: 'ENGINE',
      choices: ['interpreter'],
      completes: 'choices',
      summary: 'what runs it',
    },
    {
      long: 'no-verify',
      summary:
        'run a program although it would be refused before it runs; every access is checked as it happens',
    },
  ],
  examples: [{ line: 'sluice vm run --program b7000000020000009500000000000000', says: 'prints 0x2' }],
  async run(invocation, environment) {
    const program = invocation.text('program');
    if (program === undefined) throw new UsageError('no program given', 'give it with --program');
    const bytecode = await readProgram(program, environment);
    const memory = parseHex(invocation.text('memory') ?? '', '--memory').slice();
    const machine = new Machine();
    const loaded = machine.load(bytecode, { name: 'program' });
    const result = machine.runRaw(loaded, memory);
    const r0 = `0x${result.toString(16)}`;
    const line = invocation.flag('json')
      ? JSON.stringify({
          vm: { version: 1, r0, instructions: machine.executed, memory: Buffer.from(memory).toString('hex') },
        })
      : r0;
    await environment.stdout.write(`${line}\n`);
    return ExitCode.OK;
  },
};
