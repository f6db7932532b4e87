/** The base conditions of a rule while it is read: addresses, devices, protocol, fragment, target, counters. */
import type { CommandContext } from './commandline.ts';
import { OptionError } from './extension.ts';
import type { Word } from './lexer.ts';
import type { LiveRuleContext } from './loaded.ts';
import type { BaseMatch, Counters, DeviceName, MaskedAddress } from './model.ts';
import { parseProtocol, protocolName, protocolNames } from './names/protocols.ts';
import type { BaseOptionKey } from './options.ts';
import type { Place, Reporter } from './report.ts';
import { didYouMean } from './suggestion.ts';
import type { TargetWords } from './target.ts';
import { parseMaskedAddresses } from './text/address.ts';
import { parseDevice } from './text/device.ts';
import { byteLength } from './text/utf8.ts';

const NEGATABLE: ReadonlySet<BaseOptionKey> = new Set([
  'source',
  'destination',
  'protocol',
  'in-interface',
  'out-interface',
  'fragments',
]);
/** do_command4 reads these arguments from the word after the option even when they are attached to it. */
const OWN_WORD: ReadonlySet<BaseOptionKey> = new Set([
  'source',
  'destination',
  'protocol',
  'in-interface',
  'out-interface',
  'jump',
]);
/** XT_EXTENSION_MAXNAMELEN less the terminator. */
const MAXIMUM_TARGET_NAME = 28;
/** IPv6 extension headers that never are the protocol of a packet. */
const EXTENSION_HEADERS = [43, 44, 51, 60];

interface GivenAddress {
  readonly word: Word;
  readonly negate: boolean;
}

export class BaseOptions {
  target: TargetWords | undefined;
  givenCounters: Counters | undefined;
  private readonly reporter: Reporter;
  private readonly rule: LiveRuleContext;
  private readonly given = new Map<BaseOptionKey, Word>();
  private source: GivenAddress | undefined;
  private destination: GivenAddress | undefined;
  private readonly match: BaseMatch = {};

  constructor(context: CommandContext, rule: LiveRuleContext, counters: Counters | undefined) {
    this.reporter = context.reporter;
    this.rule = rule;
    this.givenCounters = counters;
  }

  static isNegatable(key: BaseOptionKey): boolean {
    return NEGATABLE.has(key);
  }

  static needsOwnWord(key: BaseOptionKey): boolean {
    return OWN_WORD.has(key);
  }

  /** False, with a report, when the option was given before. */
  private once(key: BaseOptionKey, word: Word): boolean {
    if (this.given.has(key)) {
      this.reporter.error('DUPLICATE_OPTION', `option "${word.text}" stands twice`, word);
      return false;
    }
    this.given.set(key, word);
    return true;
  }

  set(key: BaseOptionKey, word: Word, value: Word | undefined, negate: boolean): void {
    if (!this.once(key, word)) return;
    switch (key) {
      case 'source':
        this.source = { word: value!, negate };
        return;
      case 'destination':
        this.destination = { word: value!, negate };
        return;
      case 'protocol':
        this.setProtocol(value!, negate);
        return;
      case 'in-interface':
        this.setDevice('inDevice', value!, negate);
        return;
      case 'out-interface':
        this.setDevice('outDevice', value!, negate);
        return;
      default:
        if (this.rule.family === 'ipv6')
          this.reporter.error(
            'ILLEGAL_OPTION',
            'option "-f" is for IPv4 only',
            word,
            'use -m frag for IPv6 fragments',
          );
        this.match.fragment = { negate };
    }
  }

  private setProtocol(value: Word, negate: boolean): void {
    const number = parseProtocol(value.text);
    if (number === undefined) {
      this.reporter.error(
        'BAD_VALUE',
        `unknown protocol "${value.text}"`,
        value,
        didYouMean(value.text, protocolNames()),
      );
      return;
    }
    if (number === 0 && negate) {
      this.reporter.error('BAD_VALUE', 'a rule for no protocol at all never matches', value);
      return;
    }
    if (this.rule.family === 'ipv6' && !negate && EXTENSION_HEADERS.includes(number))
      this.reporter.warning(
        'BAD_VALUE',
        `protocol "${value.text}" never matches: it is an extension header in IPv6`,
        value,
        'use the match for that header',
      );
    // IPv6 keeps "-p all": with it the kernel walks the extension headers, and drops packets it cannot walk.
    if (number === 0 && this.rule.family === 'ipv4') return;
    this.match.protocol = { number, negate };
    this.rule.protocol = this.match.protocol;
    const written = value.text.toLowerCase();
    const name = /^[0-9]/.test(written) ? protocolName(number) : written;
    if (name !== undefined) this.rule.protocolMatch = name;
  }

  private setDevice(side: 'inDevice' | 'outDevice', value: Word, negate: boolean): void {
    let device: DeviceName;
    try {
      device = parseDevice(value.text, negate);
    } catch (error) {
      if (!(error instanceof OptionError)) throw error;
      this.reporter.error('BAD_VALUE', error.message, value);
      return;
    }
    if (/[/ ]/.test(value.text))
      this.reporter.warning('BAD_VALUE', `no device can be named "${value.text}"`, value);
    this.match[side] = device;
  }

  /** Returns whether the target's extension is to be loaded. */
  setTarget(name: Word, option: Word, goto: boolean): boolean {
    if (!this.once('jump', option)) return false;
    const length = byteLength(name.text);
    if (length === 0 || length > MAXIMUM_TARGET_NAME || /\s/.test(name.text)) {
      this.reporter.error(
        'BAD_VALUE',
        `"${name.text}" cannot be the name of a target`,
        name,
        `names have 1 to ${MAXIMUM_TARGET_NAME} bytes and no blanks`,
      );
      return false;
    }
    this.target = { name, option, goto };
    return !goto;
  }

  setCounters(counters: Counters, word: Word): void {
    if (this.once('set-counters', word)) this.givenCounters = counters;
  }

  freshCounters(): Counters {
    return this.givenCounters === undefined ? { packets: 0n, bytes: 0n } : { ...this.givenCounters };
  }

  /** "! not allowed with multiple source or destination IP addresses". */
  finish(): void {
    const many = [this.source, this.destination].some((given) => given?.word.text.includes(','));
    const negated = [this.source, this.destination].find((given) => given?.negate);
    if (many && negated !== undefined)
      this.reporter.error(
        'NEGATION',
        '"!" does not go with several addresses in one rule',
        negated.word,
        'use several rules, or a user chain',
      );
  }

  /** -o makes no sense where no device is chosen yet, -i not where none was passed. */
  checkDevices(chain: string): void {
    const wrong = (key: BaseOptionKey, chains: readonly string[]): void => {
      const word = this.given.get(key);
      if (word !== undefined && chains.includes(chain))
        this.reporter.error('ILLEGAL_OPTION', `option "${word.text}" does not go with chain ${chain}`, word);
    };
    wrong('out-interface', ['PREROUTING', 'INPUT']);
    wrong('in-interface', ['POSTROUTING', 'OUTPUT']);
  }

  /** For commands without a rule. */
  refuseRuleOptions(countersAllowed: boolean): void {
    for (const [key, word] of this.given) {
      if (countersAllowed && key === 'set-counters') continue;
      this.reporter.error('ILLEGAL_OPTION', `option "${word.text}" does not go with this command`, word);
    }
  }

  private addresses(given: GivenAddress | undefined): (MaskedAddress | undefined)[] {
    if (given === undefined) return [undefined];
    try {
      return parseMaskedAddresses(given.word.text, this.rule.family).map(({ address, mask }) => ({
        address,
        mask,
        negate: given.negate,
      }));
    } catch (error) {
      if (!(error instanceof OptionError)) throw error;
      const place: Place = given.word;
      this.reporter.error('BAD_VALUE', error.message, place, error.hint);
      return [];
    }
  }

  /** One base match for each pair of source and destination address; none after an error. */
  addressCombinations(): BaseMatch[] {
    const combinations: BaseMatch[] = [];
    const destinations = this.addresses(this.destination);
    for (const source of this.addresses(this.source)) {
      for (const destination of destinations) {
        const base: BaseMatch = {};
        if (source !== undefined) base.source = source;
        if (destination !== undefined) base.destination = destination;
        combinations.push(Object.assign(base, this.match));
      }
    }
    return combinations;
  }
}
