/** What an `apply` would change, found out without changing anything: --dry-run. */
import { NO_MARK_CHANGES } from '../../compile/index.ts';
import { findBpffs, withNetns } from '../../kernel/index.ts';
import { parseRuleset } from '../../rules/index.ts';
import { type ApplyRequest, aidsOf, compileRequest } from './apply.ts';
import { type Change, diffRulesets } from './difference.ts';
import { linkNames } from './links.ts';
import { withWayBeginnings } from './roles.ts';
import { knownSets } from './sets.ts';
import { PolicyStore } from './store.ts';
import { kernelHz } from './surroundings.ts';
import { closeTargets, openTargets, wantedLinks } from './target.ts';
import { tcxPlace } from './tcxposition.ts';

export interface ApplyPlan {
  readonly policy: string;
  readonly programs: number;
  readonly instructions: number;
  readonly notices: readonly string[];
  readonly namespaces: readonly {
    readonly name: string;
    readonly changes: readonly Change[];
    readonly linksToMake: readonly string[];
    readonly linksToRemove: readonly string[];
  }[];
}

/** @throws {CompileError} @throws {PolicyError} */
export function planPolicy(request: ApplyRequest): ApplyPlan {
  const compiled = compileRequest(request, kernelHz(), NO_MARK_CHANGES, knownSets(request));
  const aids = aidsOf(request.rulesets, compiled, request.hooks);
  const codes = new Set(compiled.programs.map(({ code }) => code));
  const points = withWayBeginnings(compiled.programs.map(({ point }) => point));
  const targets = openTargets(request.namespaces ?? [], request.devices ?? []);
  const bpffs = findBpffs();
  const store = bpffs === undefined ? undefined : PolicyStore.open(bpffs, request.policy);
  try {
    return {
      policy: request.policy,
      programs: codes.size,
      instructions: [...codes].reduce((sum, { instructions }) => sum + instructions.length, 0),
      notices: compiled.notices,
      namespaces: targets.map((target) => {
        const links = wantedLinks(points, aids.chains, target, request.cgroup);
        const wanted = links.map(({ name }) => name);
        const present = store === undefined ? [] : linkNames(store, target.cookie);
        const record = store?.records.find(target.cookie);
        const document = record && store?.documentAt(record.running);
        const { tcxPosition } = request;
        for (const { name, point, ifindex } of links) {
          if (tcxPosition === undefined || point.flavour !== 'tcx' || present.includes(name)) continue;
          const { direction } = point;
          withNetns(target.netns, () => tcxPlace(tcxPosition, { ifindex: ifindex!, direction }));
        }
        const live = (document?.rulesets ?? []).map(
          ({ family, text }) => parseRuleset(text, { file: 'live rules', family }).ruleset,
        );
        return {
          name: target.name,
          changes: diffRulesets(live, request.rulesets),
          linksToMake: wanted.filter((name) => !present.includes(name)),
          linksToRemove: present.filter((name) => !wanted.includes(name)),
        };
      }),
    };
  } finally {
    store?.close();
    closeTargets(targets);
  }
}
