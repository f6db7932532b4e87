/**
 * The rules as programs in the running kernel, asked by test runs: nothing is attached, no packet leaves. The way through
 * the host is the reference's, as for the interpreter.
 */
import type { CompiledPolicy } from '../../compile/index.ts';
import { currentNetnsCookie, netfilterContext, testRun } from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import type { EvaluationPacket } from '../../rules/index.ts';
import type { ReplayPacket } from './capture.ts';
import { ReplayClock } from './clock.ts';
import { CompiledTables, type ProgramRun } from './compiled.ts';
import type { CounterReport, Decision, ReplayEngine, ReplayOptions } from './engine.ts';
import { EvaluationEngine } from './evaluation.ts';
import { generationAddresses } from './host.ts';
import { LoadedPolicy } from './loaded.ts';

const ETH_HLEN = 14;
const LOCAL_OUT = 3;
/** What bpf_test_init() leaves of a page. */
const MAXIMUM_FRAME = 3712;

export class TestRunEngine implements ReplayEngine {
  readonly name = 'kernel';
  readonly #way: EvaluationEngine;
  readonly #loaded: LoadedPolicy;

  /**
   * @throws {UnsupportedRulesError} when rules of the nat table cannot be evaluated
   * @throws {KernelError} without privilege, koffi or a kernel that is new enough
   */
  constructor(policy: CompiledPolicy, options: ReplayOptions) {
    this.#loaded = new LoadedPolicy(policy, {
      cookie: currentNetnsCookie(),
      addresses: generationAddresses(options),
      sets: options.sets,
    });
    try {
      const tables = new CompiledTables({
        policy,
        run: (place, packet) => this.#run(place, packet),
        readCounters: this.#loaded.readCounters,
      });
      this.#way = new EvaluationEngine(options, { clock: new ReplayClock(), runTable: tables.run });
    } catch (error) {
      this.#loaded.close();
      throw error;
    }
  }

  /** @throws {PacketTooLongError} */
  decide(packet: ReplayPacket): Decision {
    return this.#way.decide(packet);
  }

  counters(): readonly CounterReport[] {
    return this.#way.counters();
  }

  close(): void {
    this.#loaded.close();
  }

  #run(place: number, { family, hook, bytes }: EvaluationPacket): ProgramRun | undefined {
    const dispatcher = this.#loaded.dispatchers.get(place);
    if (dispatcher === undefined) return undefined;
    const data = hook === LOCAL_OUT ? bytes : frameOf(family, bytes);
    if (data.length > MAXIMUM_FRAME) throw new PacketTooLongError(bytes.length);
    const context = netfilterContext(family, hook);
    const { returnValue } = testRun(dispatcher, { data, context, dataRoom: 0 });
    return { accepted: returnValue !== 0, handed: this.#loaded.takeHanded() };
  }
}

/** A packet that no test run takes: the kernel wants it in one page with its own structures. */
export class PacketTooLongError extends Error {
  readonly code = 'UNSUPPORTED_PACKET';
  readonly hint = '--engine interpreter takes packets of any length';
  constructor(bytes: number) {
    super(`a packet of ${bytes} bytes: test runs take ${MAXIMUM_FRAME - ETH_HLEN}`);
    this.name = 'PacketTooLongError';
  }
}

/** Test runs at all hooks but LOCAL_OUT take an Ethernet frame; its addresses are those of `lo`. */
function frameOf(family: Family, packet: Uint8Array): Uint8Array {
  const frame = new Uint8Array(ETH_HLEN + packet.length);
  frame.set(family === 'ipv4' ? [0x08, 0x00] : [0x86, 0xdd], ETH_HLEN - 2);
  frame.set(packet, ETH_HLEN);
  return frame;
}
