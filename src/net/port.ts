/** Inclusive ranges of 16-bit ports, host order. */

/** From `min` to `max`, both included: 0 <= min <= max <= 65535. */
export interface PortRange {
  readonly min: number;
  readonly max: number;
}

/** Every port. */
export const ALL_PORTS: PortRange = { min: 0, max: 0xffff };

/** Parses `port`, `min-max` or `min:max` in decimal; `undefined` when it is none of them or runs backwards. */
export function parsePortRange(text: string): PortRange | undefined {
  const found = /^([0-9]{1,5})(?:[-:]([0-9]{1,5}))?$/.exec(text);
  if (found === null) return undefined;
  const min = Number(found[1]);
  const max = found[2] === undefined ? min : Number(found[2]);
  return min <= max && max <= 0xffff ? { min, max } : undefined;
}

/** Prints `port`, or `min-max` where they differ. */
export function formatPortRange(range: PortRange): string {
  return range.min === range.max ? String(range.min) : `${range.min}-${range.max}`;
}

/** True when the port, in host order, lies in the range. */
export function portRangeContains(range: PortRange, port: number): boolean {
  return port >= range.min && port <= range.max;
}

/** Sorts the narrowest first, then by `min`: the order in which the most specific binding is met first. */
export function compareNarrowestFirst(a: PortRange, b: PortRange): number {
  return a.max - a.min - (b.max - b.min) || a.min - b.min;
}
