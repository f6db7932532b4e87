/** `-m cluster`: net/netfilter/xt_cluster.c. */
import { jhash2, reciprocalScale } from '../../../net/index.ts';
import type { ConntrackView } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { requireAll, requireOne } from '../../text/requirement.ts';
import { AbiErrno, AbiError, refuse } from '../../uapi/errno.ts';
import { connectionOf } from '../ct-state.ts';

/** XT_CLUSTER_NODES_MAX */
const MAXIMUM_NODES = 32;

interface ClusterState {
  totalNodes: number | undefined;
  /** How the nodes of this host were given. */
  by: 'node' | 'mask' | undefined;
  /** Bit n - 1 for node n. */
  nodeMask: number;
  negate: boolean;
  hashSeed: number | undefined;
}

function setNodes(state: ClusterState, by: 'node' | 'mask', nodeMask: number, negated: boolean): void {
  if (state.by !== undefined)
    throw new OptionError('only one of --cluster-local-node and --cluster-local-nodemask is possible', {
      argument: -1,
    });
  state.by = by;
  state.nodeMask = nodeMask;
  state.negate = negated;
}

function hex8(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}

/**
 * Bit of the node that the connection's source belongs to (xt_cluster_hash). Of an IPv6 address the kernel hashes the first
 * word alone (it divides the number of words by their size); words are as a little-endian processor reads them.
 */
function nodeBit({ totalNodes, hashSeed }: ClusterState, { original }: ConntrackView): number {
  const { source } = original;
  const view = new DataView(source.buffer, source.byteOffset, source.length);
  return (1 << reciprocalScale(jhash2([view.getUint32(0, true)], hashSeed!), totalNodes!)) >>> 0;
}

export const cluster: MatchExtension = defineMatch<ClusterState>({
  name: 'cluster',
  families: ['ipv4', 'ipv6'],
  summary: 'Connections that a hash of their source assigns to this host of a cluster',
  options: [
    {
      name: 'cluster-total-nodes',
      arguments: 1,
      syntax: 'number',
      summary: 'How many hosts the cluster has',
      apply(state, [value]) {
        state.totalNodes = boundedNumber(value!, 1, MAXIMUM_NODES);
      },
    },
    {
      name: 'cluster-local-node',
      arguments: 1,
      negatable: true,
      syntax: 'number',
      summary: 'Which of them this host is, from 1',
      apply(state, [value], negated) {
        setNodes(state, 'node', (1 << (boundedNumber(value!, 1, MAXIMUM_NODES) - 1)) >>> 0, negated);
      },
    },
    {
      name: 'cluster-local-nodemask',
      arguments: 1,
      negatable: true,
      syntax: 'mask',
      summary: 'Which of them this host stands for, as bits',
      apply(state, [value], negated) {
        // iptables reads no more than 32 here, and so not what iptables-save prints.
        setNodes(state, 'mask', boundedNumber(value!, 1, UINT32_MAX), negated);
      },
    },
    {
      name: 'cluster-hash-seed',
      arguments: 1,
      syntax: 'number',
      summary: 'Seed of the hash, the same on all hosts',
      apply(state, [value]) {
        state.hashSeed = boundedNumber(value!, 0, UINT32_MAX);
      },
    },
  ],
  initial: () => ({
    totalNodes: undefined,
    by: undefined,
    nodeMask: 0,
    negate: false,
    hashSeed: undefined,
  }),
  finish(state) {
    requireAll('cluster', {
      'cluster-total-nodes': state.totalNodes !== undefined,
      'cluster-hash-seed': state.hashSeed !== undefined,
    });
    requireOne('cluster', {
      'cluster-local-node': state.by === 'node',
      'cluster-local-nodemask': state.by === 'mask',
    });
    if (state.nodeMask >= 2 ** state.totalNodes!)
      throw new OptionError(`the cluster has only ${state.totalNodes} nodes`, { argument: -1 });
  },
  print: (state) =>
    `${state.negate ? ' !' : ''} --cluster-local-nodemask ${hex8(state.nodeMask)} --cluster-total-nodes ${state.totalNodes} --cluster-hash-seed ${hex8(state.hashSeed!)}`,
  // struct xt_cluster_match_info
  abi: [
    {
      name: 'cluster',
      revision: 0,
      size: 16,
      decode(view) {
        const [totalNodes, nodeMask] = [view.getUint32(0, true), view.getUint32(4, true)];
        if (totalNodes > MAXIMUM_NODES) refuse(`a cluster has no ${totalNodes} nodes`);
        if (nodeMask >= 2 ** totalNodes) throw new AbiError(AbiErrno.EDOM, 'a node is beyond the last one');
        return {
          totalNodes,
          by: 'mask',
          nodeMask,
          negate: (view.getUint32(12, true) & 1) !== 0,
          hashSeed: view.getUint32(8, true),
        };
      },
      encode({ totalNodes, nodeMask, negate, hashSeed }, view) {
        view.setUint32(0, totalNodes!, true);
        view.setUint32(4, nodeMask, true);
        view.setUint32(8, hashSeed!, true);
        view.setUint32(12, negate ? 1 : 0, true);
      },
    },
  ],
  // It also makes a frame to many one to this host, where only its link address says so: nothing behind the rules asks for that.
  semantics: {
    evaluate(state, packet) {
      const connection = connectionOf(packet);
      if (connection === undefined) return false;
      return ((nodeBit(state, connection) & state.nodeMask) !== 0) !== state.negate;
    },
    explain(state, packet) {
      const connection = connectionOf(packet);
      if (connection === undefined) return 'the packet belongs to no connection';
      return `the connection belongs to node ${Math.log2(nodeBit(state, connection)) + 1}`;
    },
  },
});
