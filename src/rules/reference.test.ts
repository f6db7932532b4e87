import { expect, it } from 'vitest';
import { BASE_OPTION_NAMES } from './options.ts';
import { iptablesReference } from './reference.ts';
import { allExtensions } from './registry.ts';

it('has every option of every extension, with what it means', () => {
  const text = iptablesReference();
  for (const extension of allExtensions()) {
    expect(extension.summary, extension.name).toMatch(/^\S.*[^.]$/);
    for (const option of extension.options) {
      expect(option.summary, `${extension.name} ${option.name}`).toMatch(/^\S.*[^.]$/);
      if (option.arguments !== 0) expect(option.syntax, `${extension.name} ${option.name}`).toBeTruthy();
      expect(text).toContain(`\`--${option.name}\``);
    }
  }
  for (const name of BASE_OPTION_NAMES.keys()) expect(text).toContain(`--${name}`);
});
