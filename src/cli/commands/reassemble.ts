import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { wholeFrame } from '../../host/index.ts';
import {
  type CapturedIp,
  ETH_P_IP,
  ETH_P_IPV6,
  type ReassembleResult,
  type ReassembleSummary,
  type ReassemblyModel,
  reassemble as reassembleCapture,
} from '../../netstack/index.ts';
import {
  type CapturedPacket,
  Frame,
  LinkType,
  loadFrame,
  pcapHeader,
  pcapRecord,
  protocolName,
  readCapture,
} from '../../wire/index.ts';
import { type Command, UsageError } from '../command.ts';
import { type CliEnvironment, readInput } from '../environment.ts';
import { ExitCode } from '../exit.ts';
import { reportFailure } from '../failure.ts';
import { counted } from '../output/count.ts';

const MODELS = ['host', 'netfilter'] as const satisfies readonly ReassemblyModel[];

/** Nanoseconds: rounding would make packets of one burst simultaneous. */
const OUTPUT_FORMAT = { littleEndian: true, resolution: 'ns' } as const;

type Delivered = Extract<ReassembleResult, { kind: 'delivered' }>;
type Dropped = Extract<ReassembleResult, { kind: 'dropped' }>;

/** The IP packets of a capture, each under its number in the file. */
function* ipPackets(packets: readonly CapturedPacket[]): Generator<CapturedIp> {
  const frame = new Frame();
  for (const { number, data, originalLength, linkType, timestampNs } of packets) {
    const bytes = wholeFrame(data, originalLength);
    loadFrame(frame, bytes, linkType);
    const { etherType, networkOffset } = frame;
    if (etherType !== ETH_P_IP && etherType !== ETH_P_IPV6) continue;
    yield { index: number, bytes: bytes.subarray(networkOffset), etherType, timestampNs };
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function deliveredLine({ index, protocol, length, fragments, bytes }: Delivered): string {
  const from = fragments === 0 ? 'whole' : `${fragments} fragments`;
  return `${String(index).padStart(5)}  ${protocolName(protocol)}  ${length} bytes  ${from}  ${sha256(bytes)}\n`;
}

function droppedLine({ index, reason, fragments }: Dropped): string {
  const lost = fragments === 0 ? '' : ` (${counted(fragments, 'fragment')})`;
  return `${String(index ?? '-').padStart(5)}  dropped: ${reason}${lost}\n`;
}

function resultJson(result: ReassembleResult): Readonly<Record<string, unknown>> {
  if (result.kind === 'dropped') {
    const { index, reason, fragments } = result;
    return { dropped: { ...(index === undefined ? {} : { packet: index }), reason, fragments } };
  }
  const { index, family, protocol, length, fragments, bytes } = result;
  return { delivered: { packet: index, family, protocol, length, fragments, sha256: sha256(bytes) } };
}

function summaryText({ packets, fragments, delivered, dropped, counters }: ReassembleSummary): string {
  const lines = Object.entries(counters).map(([name, value]) => `${name} ${value}\n`);
  return `${counted(packets, 'packet')}, ${counted(fragments, 'fragment')}: ${delivered} delivered, ${dropped} dropped\n${lines.join('')}`;
}

interface Reassembled {
  readonly summary: ReassembleSummary;
  /** Records of the file to write, in order. */
  readonly records: readonly Uint8Array[];
}

async function reassembleAll(
  packets: readonly CapturedPacket[],
  options: { model: ReassemblyModel; wholePackets: boolean; json: boolean; keep: boolean },
  environment: CliEnvironment,
): Promise<Reassembled> {
  const records: Uint8Array[] = [];
  const times = new Map(packets.map(({ number, timestampNs }) => [number, timestampNs]));
  const results = reassembleCapture(ipPackets(packets), options);
  for (;;) {
    const next = results.next();
    if (next.done === true) return { summary: next.value, records };
    const result = next.value;
    if (options.keep && result.kind === 'delivered') {
      const timestampNs = times.get(result.index) ?? 0n;
      records.push(pcapRecord({ timestampNs, data: result.bytes }, OUTPUT_FORMAT));
    }
    const text = options.json
      ? `${JSON.stringify(resultJson(result))}\n`
      : result.kind === 'delivered'
        ? deliveredLine(result)
        : droppedLine(result);
    await environment.stdout.write(text);
  }
}

export const reassemble: Command = {
  name: 'reassemble',
  summary: 'put the fragments of a capture together as Linux does',
  description:
    'Every packet is taken to be for this host, at the time of the capture. A line for each datagram: the number of the packet that\ncompleted it, protocol, length, SHA-256 of the IP packet; or why it was dropped. Then the counters under their /proc names.\nBytes that the capture cut off count as zero. With --json: a line {"delivered":…} or {"dropped":…} each, then {"summary":…}.',
  arguments: [{ name: 'CAPTURE', summary: 'pcap or pcapng file, "-" for standard input' }],
  options: [
    {
      long: 'model',
      value: 'MODEL',
      choices: MODELS,
      completes: 'choices',
      summary:
        'host: on delivery (default); netfilter: as conntrack and links with the defrag flag have it done',
    },
    { long: 'all', short: 'a', summary: 'packets that came whole, too' },
    {
      long: 'write',
      short: 'w',
      value: 'OUT',
      completes: 'file',
      summary: 'write what was delivered to a pcap file of raw IP packets',
    },
  ],
  examples: [
    { line: 'sluice reassemble office.pcap', says: 'what arrived of the datagrams that were cut' },
    {
      line: 'sluice reassemble office.pcap --model netfilter --all -w whole.pcap',
      says: 'the traffic as a program behind nf_defrag sees it',
    },
  ],
  async run(invocation, environment) {
    const [file = '-'] = invocation.arguments;
    const out = invocation.text('write');
    if (out === '-') throw new UsageError('-w takes a file: standard output has the lines');
    const json = invocation.flag('json');
    const model = (invocation.text('model') ?? 'host') as ReassemblyModel;
    const { packets, error } = readCapture(await readInput(file, environment));
    const options = { model, wholePackets: invocation.flag('all'), json, keep: out !== undefined };
    const { summary, records } = await reassembleAll(packets, options, environment);
    // The summary counts what reached IP; people count what is in the file.
    const totals = { ...summary, packets: packets.length };
    await environment.stdout.write(
      json ? `${JSON.stringify({ summary: { version: 1, model, ...totals } })}\n` : summaryText(totals),
    );
    if (out !== undefined) {
      await writeFile(out, [pcapHeader(LinkType.RAW, OUTPUT_FORMAT), ...records]);
    }
    const cut = packets.filter(({ data, originalLength }) => data.length < originalLength).length;
    if (cut > 0 && !json) {
      await environment.stderr.write(
        `sluice: the capture cut ${cut} packets short; what is missing counts as zero\n`,
      );
    }
    if (error !== undefined) {
      const words = json ? ['--json'] : [];
      return await reportFailure(Object.assign(error, { file }), words, environment);
    }
    return ExitCode.OK;
  },
};
