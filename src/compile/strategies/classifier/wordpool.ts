/**
 * Runs of words of one length, each kept once and named by a number. All lie in one piece of memory: hundreds of thousands
 * of small arrays would be most of what compiling costs.
 */
const FIRST_ROOM = 64;

export class WordPool {
  readonly #width: number;
  #words: Uint32Array;
  /** Hash of each run, by number. */
  #hashes: Int32Array = new Int32Array(FIRST_ROOM);
  /** A run's number plus 1 by its hash, or at the next free place; at most half full. */
  #places: Uint32Array = new Uint32Array(FIRST_ROOM * 2);
  #count = 0;

  /** `width`: words of a run. */
  constructor(width: number) {
    this.#width = width;
    this.#words = new Uint32Array(FIRST_ROOM * width);
  }

  /** Number of the run with these words, which are copied if it is new. */
  intern(words: Uint32Array): number {
    const hash = hashWords(words);
    const mask = this.#places.length - 1;
    let place = spread(hash) & mask;
    for (let run = this.#places[place]!; run !== 0; run = this.#places[place]!) {
      if (this.#hashes[run - 1] === hash && this.#isRun(run - 1, words)) return run - 1;
      place = (place + 1) & mask;
    }
    if (this.#count === this.#hashes.length) {
      this.#grow();
      return this.intern(words);
    }
    const run = this.#count;
    this.#count += 1;
    this.#places[place] = run + 1;
    this.#hashes[run] = hash;
    this.#words.set(words, run * this.#width);
    return run;
  }

  /** The words of a run; not to be kept while runs are added. */
  words(run: number): Uint32Array {
    return this.#words.subarray(run * this.#width, (run + 1) * this.#width);
  }

  #isRun(run: number, words: Uint32Array): boolean {
    const own = this.#words;
    const start = run * this.#width;
    for (let at = 0; at < words.length; at++) if (own[start + at] !== words[at]) return false;
    return true;
  }

  #grow(): void {
    const room = this.#count * 2;
    const words = new Uint32Array(room * this.#width);
    words.set(this.#words);
    this.#words = words;
    const hashes = new Int32Array(room);
    hashes.set(this.#hashes);
    this.#hashes = hashes;
    this.#places = new Uint32Array(room * 2);
    const mask = this.#places.length - 1;
    for (let run = 0; run < this.#count; run++) {
      let place = spread(hashes[run]!) & mask;
      while (this.#places[place] !== 0) place = (place + 1) & mask;
      this.#places[place] = run + 1;
    }
  }
}

function hashWords(words: Uint32Array): number {
  let hash = 0x811c9dc5 | 0;
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    if (word !== 0) hash = Math.imul(hash ^ word ^ Math.imul(at, 0x9e3779b1), 0x01000193) ^ (hash >>> 15);
  }
  return hash;
}

/** Lets all bits of a hash have a say in its lowest. */
function spread(hash: number): number {
  const mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return mixed ^ (mixed >>> 13);
}
