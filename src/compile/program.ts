/** What the compiler hands out: plain data, the same for the same input, made without a kernel. */
import type { AssembledProgram, AttachType, MapType, ProgramType } from '../isa/index.ts';
import type { Family } from '../net/index.ts';
import type { AttachPoint } from './attach.ts';

/** The rule that an instruction belongs to; `rule` 0 is the chain's policy. */
export interface RuleTag {
  readonly family: Family;
  readonly table: string;
  readonly chain: string;
  readonly rule: number;
}

/** A program of a generation (or a dispatcher), for one kind of attach point. */
export interface CompiledProgram {
  /** At most 15 bytes of [A-Za-z0-9_.]. */
  readonly name: string;
  readonly point: AttachPoint;
  readonly type: ProgramType;
  readonly attachType: AttachType;
  /** The same object where attach points run one program, which is to be loaded once. */
  readonly code: AssembledProgram<RuleTag>;
}

/** A map that programs refer to by name. */
export interface MapDescription {
  readonly name: string;
  readonly type: MapType;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
}
