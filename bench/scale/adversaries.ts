/** The IPv4 rulesets made to blow tables up, with random packets in their networks. */
import { ADVERSARIES, adversaryText } from '../../test/support/adversaries.ts';
import { xorshift } from '../../test/support/xorshift.ts';
import { FLOW_COUNT, INPUT, type Scenario } from './scenario.ts';

export function adversaries(): Scenario[] {
  return ADVERSARIES.filter(({ family }) => family === 'ipv4').map((adversary) => {
    const random = xorshift(3);
    return {
      family: 'adversaries',
      name: `adversary: ${adversary.name}`,
      rules: adversary.rules().length,
      place: INPUT,
      save: adversaryText(adversary),
      flows: Array.from({ length: FLOW_COUNT }, () => ({
        source: 0x0a000000 | (random() & 0x00ffffff),
        destination: 0x0a000000 | (random() & 0x003fffff),
        protocol: [6, 17][random() & 1]!,
        sourcePort: random() & 0xffff,
        destinationPort: random() & 0xffff,
      })),
    };
  });
}
