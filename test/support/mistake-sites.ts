/**
 * Places of the compiler's code that write something (an instruction of a program, a word of the tables), and the smallest
 * mistake that each can make: a jump has the opposite condition, a mask misses a bit, another number is one too large, a pointer
 * one word too far, a program returns something else.
 */
import { ImageWriter } from '../../src/compile/strategies/classifier/writer.ts';
import { Assembler } from '../../src/isa/index.ts';

type Condition = Parameters<Assembler<unknown>['jump']>[0];
const OPPOSITE: Readonly<Record<Condition, Condition>> = {
  '==': '!=',
  '!=': '==',
  '<': '>=',
  '>=': '<',
  '>': '<=',
  '<=': '>',
  's<': 's>=',
  's>=': 's<',
  's>': 's<=',
  's<=': 's>',
  '&': '==',
};

type Call = readonly unknown[];
type Slip = (call: Call) => Call;

const jump: Slip = ([condition, ...rest]) => [OPPOSITE[condition as Condition], ...rest];
const last =
  (change: (value: number) => number): Slip =>
  (call) =>
    call.with(-1, typeof call.at(-1) === 'number' ? change(call.at(-1) as number) : call.at(-1));
const oneMore = last((value) => value + 1);
/** A mask without its lowest bit; one without bits gets one. */
const oneBitLess = last((value) => (value === 0 ? 1 : value & (value - 1)));
/** Of a pointer, its tag the same; of a rule's number the next. An empty cell stays empty. */
const oneWordFurther = last((value) => (value === 0 ? 0 : value + 4));

/** Whose methods write, and the mistake of each. */
const WRITERS: readonly { readonly prototype: object; readonly slips: Readonly<Record<string, Slip>> }[] = [
  {
    prototype: Assembler.prototype,
    slips: {
      jump,
      jump32: jump,
      add: oneMore,
      sub: oneMore,
      rsh: oneMore,
      rsh32: oneMore,
      lsh: oneMore,
      mov: oneMore,
      mov32: oneMore,
      xor: oneMore,
      xor32: oneMore,
      or: oneMore,
      and: oneBitLess,
      and32: oneBitLess,
      store: oneMore,
      return: last((value) => value ^ 1),
    },
  },
  {
    prototype: ImageWriter.prototype,
    slips: { u32: oneMore, u16: oneMore, u8: oneMore, pointer: oneWordFurther, cell: oneWordFurther },
  },
];

/** What writes for many callers: a mistake is one caller's. */
const SHARED_WRITERS = /^(#node|#between|#way)$/;
/** Whose words are told apart. */
const NODE_WRITER = '#node';
/** Words of a part that are told apart. */
const PLACES = 10;

/** A call that writes. */
export interface Site {
  /** "predicates/limit.ts emitBucket jump": unique only together with the place. */
  readonly name: string;
  readonly line: number;
  readonly column: number;
}

function keyOf({ name, line, column }: Site): string {
  return `${name} ${line}:${column}`;
}

function methodOf(key: string): string {
  return / (\w+)(?: word \d+)? \d+:\d+$/.exec(key)![1]!;
}

const files = new Map<string, string | undefined>();

/** The file below src/compile; `undefined` for others. */
function fileOf(name: string): string | undefined {
  if (!files.has(name)) files.set(name, /src\/compile\/([\w/-]+\.ts)/.exec(name)?.[1]);
  return files.get(name);
}

function frameAt(caller: NodeJS.CallSite | undefined): { file: string; owner: string } | undefined {
  const file = fileOf(caller?.getFileName() ?? '');
  if (file === undefined) return undefined;
  const owner = caller!.getFunctionName() ?? 'module';
  return { file, owner: owner.slice(owner.lastIndexOf('.') + 1) };
}

/** The site that a call comes from; `undefined` outside of the emitters that are watched. */
function siteOf(
  method: string,
  emitters: RegExp,
  word: number | undefined,
  below: (...given: unknown[]) => unknown,
): Site | undefined {
  const holder: { stack?: readonly NodeJS.CallSite[] } = {};
  Error.captureStackTrace(holder, below);
  const callers = holder.stack ?? [];
  let depth = 0;
  while (SHARED_WRITERS.test(frameAt(callers[depth])?.owner ?? '')) depth += 1;
  const caller = callers[depth];
  const frame = frameAt(caller);
  if (frame === undefined || !emitters.test(frame.file)) return undefined;
  const inNode = word !== undefined && frameAt(callers[0])?.owner === NODE_WRITER;
  const shared = inNode ? ` word ${Math.min(word, PLACES)}` : '';
  return {
    name: `${frame.file} ${frame.owner} ${method}${shared}`,
    line: caller!.getLineNumber()!,
    column: caller!.getColumnNumber()!,
  };
}

/** Words that one site writes one after the other: after a few, all of them are its own. */
interface Fill {
  key: string | undefined;
  /** Where the next word would be. */
  next: number;
  length: number;
}
const FILLING = 8;

type Method = (this: unknown, ...given: unknown[]) => unknown;

/**
 * Runs `use` with all that writes watched. The site with the key `wrong` makes its mistake; `met` is told of every site at
 * which a mistake would change something.
 */
export function watch(
  emitters: RegExp,
  wrong: string | undefined,
  met: ((key: string, site: Site) => void) | undefined,
  use: () => void,
): void {
  const restore: (() => void)[] = [];
  const replace = (prototype: object, name: string, make: (original: Method) => Method): void => {
    const holder = prototype as Record<string, Method>;
    const original = holder[name]!;
    holder[name] = make(original);
    restore.push(() => {
      holder[name] = original;
    });
  };
  // Where the part begins that an image got last.
  let part = 0;
  replace(
    ImageWriter.prototype,
    'reserve',
    (original) =>
      function (...call) {
        part = original.apply(this, call) as number;
        return part;
      },
  );
  for (const { prototype, slips } of WRITERS) {
    for (const [name, slip] of Object.entries(slips)) {
      // Looking where a call comes from costs more than all the rest.
      if (wrong !== undefined && methodOf(wrong) !== name) continue;
      replace(prototype, name, (original) => {
        const writesImage = prototype === ImageWriter.prototype;
        const fill: Fill = { key: undefined, next: -1, length: 0 };
        const watched: Method = function (...call) {
          const slipped = slip(call);
          if (slipped.every((value, index) => value === call[index])) return original.apply(this, call);
          const at = writesImage ? (call[0] as number) : 0;
          const filling = writesImage && at === fill.next;
          if (!filling || fill.length < FILLING) {
            const site = siteOf(name, emitters, writesImage ? (at - part) >>> 2 : undefined, watched);
            const key = site === undefined ? undefined : keyOf(site);
            if (key !== undefined) met?.(key, site!);
            fill.length = filling && key === fill.key ? fill.length + 1 : 0;
            fill.key = key;
          }
          fill.next = at + (name === 'u8' ? 1 : 4);
          return original.apply(this, wrong !== undefined && fill.key === wrong ? [...slipped] : call);
        };
        return watched;
      });
    }
  }
  // Call sites as they are: making text of them would cost more than all the rest.
  const { prepareStackTrace, stackTraceLimit } = Error;
  Error.prepareStackTrace = (_error, sites) => sites;
  Error.stackTraceLimit = 3;
  try {
    use();
  } finally {
    Object.assign(Error, { prepareStackTrace, stackTraceLimit });
    for (const one of restore) one();
  }
}
