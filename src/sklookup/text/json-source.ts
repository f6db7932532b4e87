/** JSON (RFC 8259) read with the place of every value, so that findings can point at it. */

export type JsonNode = { readonly at: number; readonly end: number } & (
  | { readonly kind: 'object'; readonly members: ReadonlyMap<string, JsonNode> }
  | { readonly kind: 'array'; readonly items: readonly JsonNode[] }
  | { readonly kind: 'value'; readonly value: string | number | boolean | null }
);

/** Where the text is no JSON, and what was wanted there. */
export class JsonSyntaxError extends Error {
  readonly at: number;
  constructor(at: number, message: string) {
    super(message);
    this.name = 'JsonSyntaxError';
    this.at = at;
  }
}

const DEEPEST = 32;
const SCALAR = /"(?:[^"\\\n]|\\.)*"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null/y;

/** @throws {JsonSyntaxError} */
export function readJson(text: string): JsonNode {
  const reader = new Reader(text);
  const node = reader.value(0);
  reader.end();
  return node;
}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  value(depth: number): JsonNode {
    if (depth > DEEPEST) throw new JsonSyntaxError(this.#at, 'nested too deeply');
    const next = this.#peek();
    if (next === '{') return this.#object(depth);
    if (next === '[') return this.#array(depth);
    return this.#scalar();
  }

  end(): void {
    if (this.#peek() !== undefined) throw new JsonSyntaxError(this.#at, 'text behind the end');
  }

  #peek(): string | undefined {
    while (' \t\r\n'.includes(this.#text[this.#at] ?? 'x')) this.#at++;
    return this.#text[this.#at];
  }

  #expect(character: string): void {
    if (this.#peek() !== character) throw new JsonSyntaxError(this.#at, `"${character}" is missing`);
    this.#at++;
  }

  #scalar(): JsonNode {
    const at = this.#at;
    SCALAR.lastIndex = at;
    const found = SCALAR.exec(this.#text)?.[0];
    if (found === undefined) throw new JsonSyntaxError(at, 'a value is missing');
    this.#at += found.length;
    try {
      return { at, end: this.#at, kind: 'value', value: JSON.parse(found) };
    } catch {
      throw new JsonSyntaxError(at, 'this is no string');
    }
  }

  #array(depth: number): JsonNode {
    const at = this.#at++;
    const items: JsonNode[] = [];
    if (this.#peek() === ']') this.#at++;
    else {
      for (;;) {
        items.push(this.value(depth + 1));
        if (this.#peek() !== ',') break;
        this.#at++;
      }
      this.#expect(']');
    }
    return { at, end: this.#at, kind: 'array', items };
  }

  #object(depth: number): JsonNode {
    const at = this.#at++;
    const members = new Map<string, JsonNode>();
    if (this.#peek() === '}') this.#at++;
    else {
      for (;;) {
        this.#peek();
        const name = this.#scalar();
        if (name.kind !== 'value' || typeof name.value !== 'string')
          throw new JsonSyntaxError(name.at, 'a name is a string');
        if (members.has(name.value)) throw new JsonSyntaxError(name.at, `"${name.value}" is said twice`);
        this.#expect(':');
        members.set(name.value, this.value(depth + 1));
        if (this.#peek() !== ',') break;
        this.#at++;
      }
      this.#expect('}');
    }
    return { at, end: this.#at, kind: 'object', members };
  }
}
