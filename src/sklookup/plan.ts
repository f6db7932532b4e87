/** Differences between sets of bindings: what applying a file would change. */
import { type Binding, trafficKey } from './binding.ts';

/** What changes between two sets: bindings that mean the same traffic with another label are moved, not removed and added. */
export interface BindingPlan {
  readonly added: readonly Binding[];
  readonly removed: readonly Binding[];
  readonly moved: readonly { readonly from: Binding; readonly to: Binding }[];
  readonly kept: number;
}

/** The difference of two sets of bindings. */
export function planBindings(current: readonly Binding[], wanted: readonly Binding[]): BindingPlan {
  if (current.length === 0) return { added: [...wanted], removed: [], moved: [], kept: 0 };
  const before = new Map(current.map((binding) => [trafficKey(binding), binding]));
  const added: Binding[] = [];
  const moved: { from: Binding; to: Binding }[] = [];
  let kept = 0;
  for (const binding of wanted) {
    const name = trafficKey(binding);
    const old = before.get(name);
    if (old === undefined) added.push(binding);
    else if (old.label !== binding.label) moved.push({ from: old, to: binding });
    else kept++;
    before.delete(name);
  }
  return {
    added,
    removed: [...before.values()],
    moved,
    kept,
  };
}
