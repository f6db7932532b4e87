/** What this machine allows, as `doctor` will say it; and what is said where nothing is allowed. */
import { readdirSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import {
  BpfMap,
  createNetns,
  driver,
  KernelUnavailableError,
  kernelFacts,
  kernelIsAtLeast,
  listIds,
  probeKernel,
  requireKernel,
  useDriver,
} from '../../src/kernel/index.ts';
import { describeKernel } from '../support/kernel.ts';

describeKernel('feature probes', () => {
  afterEach(() => useDriver(undefined));

  test('every probe answers, each missing feature with a way out, and nothing is left behind', () => {
    const count = (): number[] => [
      readdirSync('/proc/self/fd').length,
      listIds('link').length,
      listIds('program').filter((id) => id > 0).length,
    ];
    probeKernel();
    const before = count();
    const { facts, features } = probeKernel();
    expect(count()[0]).toBe(before[0]);
    for (const feature of features) {
      expect(feature.detail).not.toBe('');
      if (!feature.available) expect(feature.hint ?? '').not.toBe('');
    }
    const names = features.map((feature) => feature.name);
    expect(new Set(names).size).toBe(names.length);
    expect(facts.missingCapabilities.filter((name) => facts.capabilities.includes(name))).toEqual([]);
    // The tests of this folder run here, so these must be.
    for (const name of [
      'linux',
      'ffi',
      'bpf',
      'btf',
      'jit',
      'arena',
      'netfilter',
      'defragmentation',
      'xdp',
      'tcx',
      'conntrack',
    ]) {
      expect([name, features.find((feature) => feature.name === name)?.available]).toEqual([name, true]);
    }
  });

  test('without privilege every use is a typed error that says what to do, and the report still comes', () => {
    // A driver that answers every call as the kernel answers an unprivileged process.
    const real = driver();
    useDriver({ ...real, syscall: () => -1 });
    expect(() =>
      BpfMap.create({ type: 'BPF_MAP_TYPE_HASH', name: 'm', keySize: 4, valueSize: 4, maxEntries: 1 }),
    ).toThrow(expect.objectContaining({ code: 'SYSCALL_EPERM', hint: expect.stringContaining('root') }));
    const { features } = probeKernel();
    const bpf = features.find((feature) => feature.name === 'bpf');
    expect(bpf).toMatchObject({ available: false, hint: expect.stringContaining('root') });
    expect(features.find((feature) => feature.name === 'network-namespaces')?.available).toBe(false);
  });

  test('a process that gives up its privilege is told so by the kernel itself', () => {
    requireKernel();
    const open = readdirSync('/proc/self/fd').length;
    process.seteuid?.(65534);
    try {
      expect(requireKernel).toThrow(
        expect.objectContaining({ code: 'KERNEL_NO_PRIVILEGE', hint: expect.stringContaining('root') }),
      );
      expect(requireKernel).toThrow(KernelUnavailableError);
      expect(() =>
        BpfMap.create({
          type: 'BPF_MAP_TYPE_LPM_TRIE',
          name: 'm',
          keySize: 8,
          valueSize: 4,
          maxEntries: 1,
          flags: 1,
        }),
      ).toThrow(expect.objectContaining({ code: 'SYSCALL_EPERM' }));
      expect(() => createNetns()).toThrow(expect.objectContaining({ code: 'SYSCALL_EPERM' }));
      const { features, facts } = probeKernel();
      expect(facts.missingCapabilities).toContain('CAP_BPF');
      expect(features.find((feature) => feature.name === 'linux')).toMatchObject({ available: false });
    } finally {
      process.seteuid?.(0);
    }
    requireKernel();
    expect(readdirSync('/proc/self/fd').length).toBe(open);
  });

  test('versions compare by number, whatever the distribution appends', () => {
    const cases: readonly (readonly [string, boolean])[] = [
      ['6.9.0', true],
      ['6.9-rc1', true],
      ['6.8.12-generic', false],
      ['6.10.3-arch1-1', true],
      ['5.15.0', false],
      ['10.0', true],
    ];
    expect(cases.map(([running]) => kernelIsAtLeast('6.9', running))).toEqual(
      cases.map(([, outcome]) => outcome),
    );
  });

  test('without an FFI the error names the package to install', () => {
    const error = new KernelUnavailableError('KERNEL_NO_FFI', 'koffi cannot be loaded', 'npm install koffi');
    useDriver({
      ...driver(),
      syscall: () => {
        throw error;
      },
    });
    expect(() => listIds('map')).toThrow(error);
    const { features } = probeKernel();
    expect(features.find((feature) => feature.name === 'bpf')).toMatchObject({
      available: false,
      hint: 'npm install koffi',
    });
  });

  test('facts are read without any call', () => {
    useDriver({
      ...driver(),
      syscall: () => {
        throw new Error('called');
      },
    });
    expect(kernelFacts()).toMatchObject({
      release: expect.stringMatching(/^\d+\.\d+/),
      lockdown: expect.any(String),
    });
  });
});
