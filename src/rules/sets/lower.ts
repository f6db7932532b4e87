/** What of a packet makes the key of a set, as programs find it. */
import type { SetKey, SetKeySource } from '../../ir/index.ts';
import type { Family } from '../../net/index.ts';
import type { RuleContext } from '../extension.ts';
import type { SetReference } from '../text/set-reference.ts';
import { neverFits } from './packet.ts';
import type { SetPlace } from './place.ts';
import { keyLayout } from './type.ts';

type WordSource = 'ip.source' | 'ip.destination' | 'in' | 'out' | 'mac.source' | 'mac.destination';

/**
 * Keys in the set, or in the members of a list of sets; none where no packet can be found: too few directions, another
 * family. The sets are known to be there.
 */
export function lowerSetKeys(reference: SetReference, { family, sets }: RuleContext): SetKey[] {
  const place = sets!.get(reference.name)!;
  const { type, members } = place.definition;
  const places = type.method === 'list' ? members.map(({ name }) => sets!.get(name)!) : [place];
  return places
    .filter(({ definition }) => !neverFits(definition, reference, family))
    .map((one) => lowerKey(one, reference, family));
}

function lowerKey({ definition, slot }: SetPlace, reference: SetReference, family: Family): SetKey {
  const layout = keyLayout(definition.type, definition.family);
  const words = new Array<SetKeySource>(layout.words);
  if (layout.lengthsAt >= 0) words[layout.lengthsAt] = { from: 'lengths', word: 0 };
  for (const [index, dimension] of definition.type.dimensions.entries()) {
    const source = reference.directions[index] === 'src';
    const at = layout.at[index]!;
    const side = source ? 'source' : 'destination';
    const put = (from: WordSource, count: number): void => {
      for (let word = 0; word < count; word++) words[at + word] = { from, word };
    };
    switch (dimension) {
      case 'ip':
      case 'net':
        put(`ip.${side}`, family === 'ipv4' ? 1 : 4);
        break;
      case 'port':
      case 'tcp-port':
        words[at] = { from: `${dimension}.${side}`, word: 0 };
        break;
      case 'mark':
        words[at] = { from: 'mark', word: 0 };
        break;
      case 'mac':
        put(`mac.${side}`, 2);
        break;
      case 'iface':
        put(source ? 'in' : 'out', 4);
        break;
      case 'set':
        throw new RangeError(`${definition.name} is a list`);
    }
  }
  return { slot, words, identity: layout.identity, networks: layout.networks as SetKey['networks'] };
}
