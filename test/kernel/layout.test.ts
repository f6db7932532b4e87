/** Every structure and constant we lay out by hand, against the running kernel's own description of itself (BTF). */
import { expect, test } from 'vitest';
import { kernelBtf, NetfilterHook } from '../../src/kernel/index.ts';
import { NftMessage } from '../../src/kernel/nft/protocol.ts';
import { attr, BpfCommand, MapFlag, UpdateFlag } from '../../src/kernel/sys/bpf.ts';
import { linkInfo, mapInfo, programInfo } from '../../src/kernel/sys/info.ts';
import type { FieldKind, Layout } from '../../src/kernel/sys/struct.ts';
import { describeKernel } from '../support/kernel.ts';

/** Our names and the kernel's member paths. */
const layouts: readonly (readonly [Layout, string, Readonly<Record<string, string>>])[] = [
  [
    attr.mapCreate,
    'bpf_attr',
    {
      mapType: 'map_type',
      keySize: 'key_size',
      valueSize: 'value_size',
      maxEntries: 'max_entries',
      mapFlags: 'map_flags',
      innerMapFd: 'inner_map_fd',
      numaNode: 'numa_node',
      mapName: 'map_name',
      mapExtra: 'map_extra',
    },
  ],
  [attr.element, 'bpf_attr', { mapFd: 'map_fd', key: 'key', value: 'value', flags: 'flags' }],
  [
    attr.batch,
    'bpf_attr',
    {
      inBatch: 'batch.in_batch',
      outBatch: 'batch.out_batch',
      keys: 'batch.keys',
      values: 'batch.values',
      count: 'batch.count',
      mapFd: 'batch.map_fd',
      elementFlags: 'batch.elem_flags',
      flags: 'batch.flags',
    },
  ],
  [
    attr.programLoad,
    'bpf_attr',
    {
      programType: 'prog_type',
      instructionCount: 'insn_cnt',
      instructions: 'insns',
      license: 'license',
      logLevel: 'log_level',
      logSize: 'log_size',
      logBuffer: 'log_buf',
      kernelVersion: 'kern_version',
      programFlags: 'prog_flags',
      programName: 'prog_name',
      ifindex: 'prog_ifindex',
      expectedAttachType: 'expected_attach_type',
      fdArray: 'fd_array',
      logTrueSize: 'log_true_size',
      fdArrayCount: 'fd_array_cnt',
    },
  ],
  [attr.object, 'bpf_attr', { path: 'pathname', fd: 'bpf_fd', fileFlags: 'file_flags', pathFd: 'path_fd' }],
  [attr.identifier, 'bpf_attr', { id: 'start_id', nextId: 'next_id', openFlags: 'open_flags' }],
  [attr.info, 'bpf_attr', { fd: 'info.bpf_fd', length: 'info.info_len', info: 'info.info' }],
  [
    attr.testRun,
    'bpf_attr',
    {
      programFd: 'test.prog_fd',
      returnValue: 'test.retval',
      dataSizeIn: 'test.data_size_in',
      dataSizeOut: 'test.data_size_out',
      dataIn: 'test.data_in',
      dataOut: 'test.data_out',
      repeat: 'test.repeat',
      durationNs: 'test.duration',
      contextSizeIn: 'test.ctx_size_in',
      contextSizeOut: 'test.ctx_size_out',
      contextIn: 'test.ctx_in',
      contextOut: 'test.ctx_out',
      flags: 'test.flags',
      cpu: 'test.cpu',
      batchSize: 'test.batch_size',
    },
  ],
  [
    attr.programQuery,
    'bpf_attr',
    {
      target: 'query.target_fd',
      attachType: 'query.attach_type',
      queryFlags: 'query.query_flags',
      attachFlags: 'query.attach_flags',
      programIds: 'query.prog_ids',
      count: 'query.prog_cnt',
      programAttachFlags: 'query.prog_attach_flags',
      linkIds: 'query.link_ids',
      linkAttachFlags: 'query.link_attach_flags',
      revision: 'query.revision',
    },
  ],
  [
    attr.linkCreate,
    'bpf_attr',
    {
      programFd: 'link_create.prog_fd',
      target: 'link_create.target_fd',
      attachType: 'link_create.attach_type',
      flags: 'link_create.flags',
      netfilterFamily: 'link_create.netfilter.pf',
      netfilterHook: 'link_create.netfilter.hooknum',
      netfilterPriority: 'link_create.netfilter.priority',
      netfilterFlags: 'link_create.netfilter.flags',
      relative: 'link_create.tcx.relative_fd',
      expectedRevision: 'link_create.tcx.expected_revision',
    },
  ],
  [
    attr.linkUpdate,
    'bpf_attr',
    {
      linkFd: 'link_update.link_fd',
      newProgramFd: 'link_update.new_prog_fd',
      flags: 'link_update.flags',
      oldProgramFd: 'link_update.old_prog_fd',
    },
  ],
  [attr.linkDetach, 'bpf_attr', { linkFd: 'link_detach.link_fd' }],
  [attr.freeze, 'bpf_attr', { mapFd: 'map_fd' }],
  [
    attr.bindMap,
    'bpf_attr',
    { programFd: 'prog_bind_map.prog_fd', mapFd: 'prog_bind_map.map_fd', flags: 'prog_bind_map.flags' },
  ],
  [
    mapInfo,
    'bpf_map_info',
    {
      type: 'type',
      id: 'id',
      keySize: 'key_size',
      valueSize: 'value_size',
      maxEntries: 'max_entries',
      flags: 'map_flags',
      name: 'name',
      extra: 'map_extra',
    },
  ],
  [
    programInfo,
    'bpf_prog_info',
    {
      type: 'type',
      id: 'id',
      tag: 'tag',
      jitedLength: 'jited_prog_len',
      xlatedLength: 'xlated_prog_len',
      jitedInstructions: 'jited_prog_insns',
      xlatedInstructions: 'xlated_prog_insns',
      loadTimeNs: 'load_time',
      createdByUid: 'created_by_uid',
      mapCount: 'nr_map_ids',
      mapIds: 'map_ids',
      name: 'name',
      ifindex: 'ifindex',
      runTimeNs: 'run_time_ns',
      runCount: 'run_cnt',
      recursionMisses: 'recursion_misses',
      verifiedInstructions: 'verified_insns',
    },
  ],
  [
    linkInfo,
    'bpf_link_info',
    {
      type: 'type',
      id: 'id',
      programId: 'prog_id',
      netfilterFamily: 'netfilter.pf',
      netfilterHook: 'netfilter.hooknum',
      netfilterPriority: 'netfilter.priority',
      netfilterFlags: 'netfilter.flags',
      ifindex: 'xdp.ifindex',
      tcxAttachType: 'tcx.attach_type',
      cgroupId: 'cgroup.cgroup_id',
      cgroupAttachType: 'cgroup.attach_type',
      netnsInode: 'netns.netns_ino',
      netnsAttachType: 'netns.attach_type',
    },
  ],
];

function sizeOf(kind: FieldKind): number {
  switch (kind) {
    case 'u8':
      return 1;
    case 'u16':
    case 'u16be':
      return 2;
    case 'u32':
    case 'u32be':
    case 's32':
      return 4;
    case 'u64':
    case 's64':
    case 'ptr':
      return 8;
    default:
      return Number(kind.slice(4));
  }
}

describeKernel('layouts', () => {
  for (const [layout, struct, members] of layouts) {
    test(`${struct}: ${Object.keys(members).join(' ')}`, () => {
      const btf = kernelBtf();
      const ours = Object.entries(layout.fields);
      expect(ours.map(([name]) => name).sort()).toEqual(Object.keys(members).sort());
      for (const [name, [offset, kind]] of ours) {
        const place = btf.member(struct, members[name]!);
        // An older kernel lacks the newest fields, and ignores their bytes while they are zero.
        if (place === undefined) continue;
        expect([name, offset, sizeOf(kind)]).toEqual([name, place.byteOffset, place.size]);
        expect(offset + sizeOf(kind)).toBeLessThanOrEqual(layout.size);
      }
      expect(ours.some(([name]) => btf.member(struct, members[name]!) !== undefined)).toBe(true);
    });
  }

  test('enumerations have the kernel’s numbers', () => {
    const btf = kernelBtf();
    const wrong: string[] = [];
    const check = (table: Readonly<Record<string, number>>, nameOf: (name: string) => string): void => {
      for (const [name, value] of Object.entries(table)) {
        const actual = btf.enumerator(nameOf(name));
        if (actual !== BigInt(value)) wrong.push(`${nameOf(name)}: ${value}, the kernel says ${actual}`);
      }
    };
    check(BpfCommand, (name) => (name === 'PROG_TEST_RUN' ? 'BPF_PROG_TEST_RUN' : `BPF_${name}`));
    check(MapFlag, (name) => name);
    check(UpdateFlag, (name) => name);
    check(NetfilterHook, (name) => `NF_INET_${name}`);
    check(NftMessage, (name) => `NFT_MSG_${name}`);
    expect(wrong).toEqual([]);
  });
});
