/** Names of IP sets, and which addresses and ports of the packet are looked up in them (extensions/libxt_set.h). */
import { OptionError } from '../extension.ts';
import { byteLength } from './utf8.ts';

/** IPSET_MAXNAMELEN - 1 */
const NAME_BYTES = 31;
/** IPSET_DIM_MAX */
const MAXIMUM_DIMENSIONS = 6;

export type SetDirection = 'src' | 'dst';

/** A set with, for each of its dimensions, the side of the packet that is looked up. */
export interface SetReference {
  readonly name: string;
  readonly directions: readonly SetDirection[];
}

/** The two words `name src|dst[,…]`. @throws {OptionError} */
export function parseSetReference(name: string, directions: string): SetReference {
  if (byteLength(name) > NAME_BYTES)
    throw new OptionError(`set name "${name}" is longer than ${NAME_BYTES} bytes`);
  const words = directions.split(',');
  if (words.length > MAXIMUM_DIMENSIONS)
    throw new OptionError(`sets have at most ${MAXIMUM_DIMENSIONS} dimensions`, { argument: 1 });
  return {
    name,
    directions: words.map((word) => {
      if (word !== 'src' && word !== 'dst')
        throw new OptionError(`"${word}" is neither src nor dst`, { argument: 1 });
      return word;
    }),
  };
}

/** "name src,dst" */
export function formatSetReference({ name, directions }: SetReference): string {
  return `${name} ${directions.join(',')}`;
}
