/** How policies stand at devices: XDP in the driver or in the stack, tcx before or after others; and that this stays so. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { livePolicies, removePolicies, requireLive } from '../../src/host/index.ts';
import { R0 } from '../../src/isa/index.ts';
import { attachTcx, Program, pin } from '../../src/kernel/index.ts';
import { sluice } from '../support/cli.ts';
import { describeKernel } from '../support/kernel.ts';
import { filterText, policyName } from '../support/live-policy.ts';
import { type Host, withPair } from '../support/netns.ts';
import { LONG_MS } from '../support/patience.ts';
import { assemble, CountingProgram } from '../support/program.ts';

const TC_NEXT = -1;

/** Runs `use` with words that apply rules that let UDP port 5000 in, and takes the policy away again. */
async function withRules(
  host: Host,
  use: (
    apply: (...words: string[]) => ReturnType<typeof sluice>,
    policy: string,
    folder: string,
  ) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'slc-devices-'));
  const file = join(folder, 'rules');
  writeFileSync(file, filterText(['-A INPUT -p udp -m udp --dport 5000 -j ACCEPT']));
  const policy = policyName();
  try {
    const always = ['apply', '-4', file, '--netns', host.netnsName, '--policy', policy];
    await use((...words) => sluice([...always, ...words]), policy, folder);
  } finally {
    await removePolicies({ policy }).catch(() => []);
    rmSync(folder, { recursive: true, force: true });
  }
}

const standing = (policy: string): (string | undefined)[] =>
  requireLive({ policy }).links.map(({ stands }) => stands);

describeKernel('policies at devices', () => {
  test('xdp runs where it was told to, through replacement, save and restore', () =>
    withPair(async ({ a, b }) => {
      const [open, shut, client] = [b.udp(5000), b.udp(5001), a.udp()];
      const decides = (): void => {
        client.send(b.ipv4, 5001, 'x');
        client.send(b.ipv4, 5000, 'y');
        expect(open.receiveText(LONG_MS)).toBe('y');
        expect(shut.receive(0)).toBeUndefined();
      };
      for (const [mode, stands] of [
        ['generic', 'generic'],
        ['native', 'native'],
        ['auto', 'native'],
      ] as const) {
        await withRules(b, async (apply, policy, folder) => {
          const at = ['--hook', 'xdp', '--dev', 'a'];
          expect(await apply(...at, '--xdp-mode', mode)).toMatchObject({ code: 0 });
          expect(standing(policy)).toEqual([stands]);
          decides();
          const { links } = requireLive({ policy });
          expect(await apply(...at)).toMatchObject({ code: 0 });
          expect(requireLive({ policy }).links).toEqual(links);
          const { generation } = requireLive({ policy });
          const other = await apply(...at, '--xdp-mode', mode === 'native' ? 'generic' : 'native');
          expect(other.code).toBe(4);
          expect(other.stderr).toContain(`runs at xdp in the mode ${mode}`);
          expect(other.stderr).toContain('remove it first, or leave --xdp-mode out');
          expect(requireLive({ policy })).toMatchObject({ generation, problems: [] });
          expect((await sluice(['status', '--policy', policy])).stdout).toMatch(
            new RegExp(`xdp_[0-9]+ ${stands}`),
          );
          const saved = join(folder, 'saved.json');
          writeFileSync(saved, (await sluice(['save', '--json', '--policy', policy])).stdout);
          await removePolicies({ policy });
          expect(await sluice(['restore', saved])).toMatchObject({ code: 0 });
          expect(standing(policy)).toEqual([stands]);
          expect(requireLive({ policy }).document.manner.xdpMode).toBe(mode);
          decides();
        });
      }
    }));

  test('a driver that has no XDP is told, with the way out, and nothing is left', () =>
    withPair(({ b }) =>
      withRules(b, async (apply, policy) => {
        const refused = await apply('--hook', 'xdp', '--dev', 'lo', '--xdp-mode', 'native');
        expect(refused.code).toBe(4);
        expect(refused.stderr).toContain('cannot run XDP natively');
        expect(refused.stderr).toContain('--xdp-mode generic');
        expect(livePolicies({ policy })).toEqual([]);
        expect(await apply('--hook', 'xdp', '--dev', 'lo')).toMatchObject({ code: 0 });
        expect(standing(policy)).toEqual(['generic']);
      }),
    ));

  test('tcx stands before or after the programs of others', () =>
    withPair(async ({ a, b }) => {
      const other = b.keep(new CountingProgram('BPF_PROG_TYPE_SCHED_CLS', TC_NEXT));
      const { index } = b.device('a');
      b.keep(b.run(() => attachTcx(other.program, { ifindex: index, direction: 'ingress' })));
      const [open, client] = [b.udp(5000), a.udp()];
      for (const [position, place, sees] of [
        ['first', '1 of 2', 1],
        ['last', '2 of 2', 2],
      ] as const) {
        await withRules(b, async (apply, policy) => {
          const at = ['--hook', 'tcx-ingress', '--dev', 'a'];
          expect(await apply(...at, '--tcx-position', position)).toMatchObject({ code: 0 });
          expect(standing(policy)).toEqual([place]);
          const before = other.count;
          // Who stands behind the policy sees only what it lets through.
          client.send(b.ipv4, 5001, 'x');
          client.send(b.ipv4, 5000, 'y');
          expect(open.receiveText(LONG_MS)).toBe('y');
          expect(other.count - before).toBe(sees);
          expect(await apply(...at)).toMatchObject({ code: 0 });
          expect(standing(policy)).toEqual([place]);
          const turned = await apply(...at, '--tcx-position', position === 'first' ? 'last' : 'first');
          expect(turned.stderr).toContain(`stands ${position} at tcx`);
          expect(turned.code).toBe(4);
        });
      }
    }));

  test('tcx stands before or after one that is named: by name, id, link or pin; what is not there, or there twice, is told', () =>
    withPair(async ({ b }) => {
      const { index } = b.device('a');
      const others = ['slc_front', 'slc_middle', 'slc_twin', 'slc_twin'].map((name) => {
        const instructions = assemble((asm) => asm.mov(R0, TC_NEXT).exit());
        const program = b.keep(Program.load({ type: 'BPF_PROG_TYPE_SCHED_CLS', name, instructions }));
        const link = b.keep(b.run(() => attachTcx(program, { ifindex: index, direction: 'ingress' })));
        return { program, link };
      });
      const middle = others[1]!;
      const folder = `/sys/fs/bpf/slc-${process.pid}-pins`;
      try {
        pin(middle.program, `${folder}/program`);
        pin(middle.link, `${folder}/link`);
        for (const what of [
          'slc_middle',
          `program/${middle.program.id}`,
          `link/${middle.link.id}`,
          `${folder}/program`,
          `${folder}/link`,
        ]) {
          for (const [side, place] of [
            ['before', '2 of 5'],
            ['after', '3 of 5'],
          ] as const) {
            await withRules(b, async (apply, policy) => {
              const at = ['--hook', 'tcx-ingress', '--dev', 'a'];
              const there = ['--tcx-position', `${side}:${what}`];
              expect(await apply(...at, ...there, '--dry-run')).toMatchObject({ code: 0 });
              expect(await apply(...at, ...there)).toMatchObject({ code: 0 });
              expect(standing(policy)).toEqual([place]);
              // Again, with other rules and without the words: the link stays where it is.
              expect(await apply(...at, '--allow-partial')).toMatchObject({ code: 0 });
              expect(standing(policy)).toEqual([place]);
            });
          }
        }
        await withRules(b, async (apply, policy) => {
          const at = ['--hook', 'tcx-ingress', '--dev', 'a', '--tcx-position'];
          for (const more of [[], ['--dry-run']]) {
            for (const [place, why, exit = 4] of [
              ['before:nobody', 'nobody is not among the tcx ingress programs'],
              ['after:slc_twin', 'several tcx ingress programs'],
              ['before:program/4294967295', 'is not among'],
              [`before:${folder}/nothing`, 'is the pin of no program and no link'],
              ['before:', 'is no place among tcx programs', 2],
              ['middle', 'is no place among tcx programs', 2],
            ] as const) {
              const { code, stderr } = await apply(...at, place, ...more);
              expect(stderr).toContain(why);
              expect(stderr).toMatch(/hint: ./);
              expect(code).toBe(exit);
            }
          }
          expect(livePolicies({ policy })).toEqual([]);
        });
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }));

  test('options that no hook has a use for are refused', () =>
    withPair(({ b }) =>
      withRules(b, async (apply, policy) => {
        for (const words of [
          ['--xdp-mode', 'native'],
          ['--tcx-position', 'first'],
          ['--hook', 'xdp', '--dev', 'a', '--tcx-position', 'first'],
        ])
          expect(await apply(...words)).toMatchObject({
            code: 2,
            stderr: expect.stringContaining('is for the hook'),
          });
        expect(livePolicies({ policy })).toEqual([]);
      }),
    ));
});
