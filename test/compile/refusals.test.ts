/** Every ruleset becomes programs at every hook, or is refused with its rules named: nothing else comes of it. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CompileError, compilePolicy, HOOK_NAMES } from '../../src/compile/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { generatedRuleset } from '../support/generate/rulesets.ts';

const RULESETS = process.env.SLUICE_SOAK === '1' ? 20_000 : 40;

const LONG_REPLIES = [
  '*filter',
  ':INPUT DROP [0:0]',
  ':FORWARD DROP [0:0]',
  ':OUTPUT ACCEPT [0:0]',
  ':inner - [0:0]',
  '-A INPUT -i eth0 -p tcp -m tcp --tcp-option 8 -m mac --mac-source 02:00:00:00:00:01 -j inner',
  '-A INPUT -p sctp -m sctp --chunk-types all DATA,INIT -m limit --limit 5/min -j LOG --log-prefix "in: "',
  '-A INPUT -m ah --ahspi 1:9 --ahlen 12 --ahres -m frag --fragid 1:9 --fragmore -m hl --hl-gt 3 -j LOG',
  '-A INPUT -m conntrack --ctstate ESTABLISHED -m length --length 60:99 -m tos --tos 0x10 -j ACCEPT',
  '-A INPUT -j REJECT --reject-with icmp6-port-unreachable',
  '-A FORWARD -i eth0 -o eth1 -p udp -m udp --sport 53 --dport 1:99 -m pkttype --pkt-type unicast -j inner',
  '-A FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 128/0 -j REJECT --reject-with icmp6-adm-prohibited',
  '-A inner -m addrtype --src-type UNICAST --dst-type LOCAL -j REJECT --reject-with icmp6-no-route',
  'COMMIT',
  '',
].join('\n');

test('much of everything fits the stack, with answers', () => {
  const { ruleset } = parseRuleset(LONG_REPLIES, { file: 'much', family: 'ipv6' });
  const partial = compilePolicy([ruleset], { hooks: ['xdp', 'tcx-ingress'], allowPartial: true });
  expect(partial.programs).toHaveLength(2);
});

test.each(HOOK_NAMES)('%s', (hook) => {
  const either = fc.oneof(
    ...(['ipv4', 'ipv6'] as const).map((family) =>
      fc.boolean().chain((stateful) => generatedRuleset({ family, stateful, maximumRules: 12 })),
    ),
  );
  let compiled = 0;
  const property = fc.property(either, ({ family, text }) => {
    const { ruleset } = parseRuleset(text, { file: 'generated', family });
    try {
      compilePolicy([ruleset], { hooks: [hook] });
      compiled += 1;
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      expect(error.refusals.length).toBeGreaterThan(0);
      for (const { span, reason } of error.refusals)
        expect([span?.file, reason !== '']).toEqual(['generated', true]);
    }
  });
  fc.assert(property, { numRuns: RULESETS });
  expect(compiled).toBeGreaterThan(0);
});
