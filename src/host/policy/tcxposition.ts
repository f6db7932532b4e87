/** The place of a policy's tcx programs among those of others: first, last, or before or after one that is named. */
import {
  KernelError,
  openPinnedLink,
  openPinnedProgram,
  type Position,
  Program,
  queryPrograms,
} from '../../kernel/index.ts';
import { PolicyError } from './error.ts';

/**
 * Where tcx programs stand among those that are there when they come. Another program is told by its name, by
 * `program/ID` or `link/ID`, or by the path of a pin of it or of its link; only names and pins outlast a start of the machine.
 */
export type TcxPosition = 'first' | 'last' | `before:${string}` | `after:${string}`;

/** Reads what a command line says. @throws {PolicyError} `HOST_POLICY_USAGE` */
export function parseTcxPosition(text: string): TcxPosition {
  if (text === 'first' || text === 'last' || /^(before|after):./.test(text)) return text as TcxPosition;
  throw new PolicyError(
    'HOST_POLICY_USAGE',
    `"${text}" is no place among tcx programs`,
    'places are first, last, before:WHAT and after:WHAT, where WHAT is a name, program/ID, link/ID or the path of a pin',
  );
}

interface TcxPoint {
  readonly ifindex: number;
  readonly direction: 'ingress' | 'egress';
}

/**
 * The place at one device of the calling thread's namespace.
 * @throws {PolicyError} `HOST_POLICY_TARGET` when the program to stand before or after is not there, or several are
 */
export function tcxPlace(position: TcxPosition, device: TcxPoint): Position {
  if (position === 'first' || position === 'last') return position;
  const colon = position.indexOf(':');
  const what = position.slice(colon + 1);
  const neighbour = { programId: neighbourAt(what, device) };
  return position.startsWith('before') ? { before: neighbour } : { after: neighbour };
}

/** The id of the program that is meant, which no other at the same place has. */
function neighbourAt(what: string, { ifindex, direction }: TcxPoint): number {
  const attachType = direction === 'ingress' ? 'BPF_TCX_INGRESS' : 'BPF_TCX_EGRESS';
  const { programs } = queryPrograms(ifindex, attachType);
  const named = programs.map((each) => ({ ...each, name: programName(each.programId) }));
  const means = meaningOf(what);
  const found = named.filter(means);
  if (found.length === 1) return found[0]!.programId;
  const there = named.map(({ programId, linkId, name }) => `${name} (program/${programId}, link/${linkId})`);
  throw new PolicyError(
    'HOST_POLICY_TARGET',
    found.length === 0
      ? `${what} is not among the tcx ${direction} programs of device ${ifindex}`
      : `several tcx ${direction} programs of device ${ifindex} are named ${what}`,
    there.length === 0 ? 'none is there: leave --tcx-position out' : `there are: ${there.join(', ')}`,
  );
}

interface NamedProgram {
  readonly programId: number;
  readonly linkId: number;
  readonly name: string;
}

function meaningOf(what: string): (each: NamedProgram) => boolean {
  const [, kind, id] = /^(program|link)\/([0-9]+)$/.exec(what) ?? [];
  if (kind === 'program') return ({ programId }) => programId === Number(id);
  if (kind === 'link') return ({ linkId }) => linkId === Number(id);
  if (!what.startsWith('/')) return ({ name }) => name === what.slice(0, PROGRAM_NAME_LENGTH);
  const pinned = pinnedProgramId(what);
  return ({ programId }) => programId === pinned;
}

/** BPF_OBJ_NAME_LEN without the end: the kernel keeps no more of a name. */
const PROGRAM_NAME_LENGTH = 15;

function programName(id: number): string {
  using program = Program.byId(id);
  return program?.name ?? '';
}

function pinnedProgramId(path: string): number {
  try {
    using link = openPinned(path, openPinnedLink);
    if (link !== undefined) return link.describe().programId;
    using program = openPinned(path, openPinnedProgram);
    if (program !== undefined) return program.id;
  } catch (cause) {
    if (!(cause instanceof KernelError)) throw cause;
    throw new PolicyError('HOST_POLICY_TARGET', cause.message, NO_PIN_HINT, { cause });
  }
  throw new PolicyError('HOST_POLICY_TARGET', `${path} is the pin of no program and no link`, NO_PIN_HINT);
}

const NO_PIN_HINT = 'name a pin below a bpffs, or the program by its name';

/** `undefined` where another kind of object is pinned. */
function openPinned<T>(path: string, open: (path: string) => T | undefined): T | undefined {
  try {
    return open(path);
  } catch (error) {
    if (error instanceof KernelError && error.code === 'PIN_KIND') return undefined;
    throw error;
  }
}
