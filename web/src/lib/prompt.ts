// SPDX-License-Identifier: MIT
// The prompt language as the page shows it: a tokenizer that marks weights, schedules, alternation, tags, wildcards and
// breaks in one pass. Tokens cover the text without gaps or overlaps, so that coloured text lies exactly under typed text.

export type Mark = 'text' | 'paren' | 'weight' | 'square' | 'bar' | 'tag' | 'wild' | 'brace' | 'break' | 'escape' | 'stray';

export interface Token {
    from: number;
    to: number;
    mark: Mark;
    /* How deep in brackets. */
    depth: number;
}

const closer: Record<string, string> = { '(': ')', '[': ']', '{': '}' };
const sticky = {
    tag: /<\w+:[^<>\n]+>/y,
    wild: /__[\w/.-]+?__/y,
    brk: /\b(BREAK|AND)\b/y,
    weight: /:\s*[+-]?(\d+\.?\d*|\.\d+)\s*(?=\))/y,
    when: /:\s*(\d+\.?\d*|\.\d+)?\s*(?=\])/y,
};

function at(re: RegExp, text: string, from: number): string | null {
    re.lastIndex = from;
    return re.exec(text)?.[0] ?? null;
}

export function tokenize(text: string): Token[] {
    const tokens: Token[] = [];
    const open: { sign: string; token: Token }[] = [];
    const push = (from: number, to: number, mark: Mark, depth = open.length): Token => {
        const last = tokens.at(-1);
        if (mark === 'text' && last?.mark === 'text' && last.depth === depth && last.to === from) {
            last.to = to;
            return last;
        }
        const token = { from, to, mark, depth };
        tokens.push(token);
        return token;
    };
    for (let i = 0; i < text.length;) {
        const c = text[i] as string;
        const inside = open.at(-1)?.sign;
        let found: string | null;
        if (c === '\\' && i + 1 < text.length) {
            push(i, i + 2, 'escape');
            i += 2;
        } else if (c === '<' && (found = at(sticky.tag, text, i))) {
            push(i, i + found.length, 'tag');
            i += found.length;
        } else if (c === '_' && (found = at(sticky.wild, text, i))) {
            push(i, i + found.length, 'wild');
            i += found.length;
        } else if ((c === 'B' || c === 'A') && (found = at(sticky.brk, text, i))) {
            push(i, i + found.length, 'break');
            i += found.length;
        } else if (closer[c]) {
            const mark = c === '(' ? 'paren' : c === '[' ? 'square' : 'brace';
            const token = push(i, i + 1, mark);
            open.push({ sign: c, token });
            i++;
        } else if (c === ')' || c === ']' || c === '}') {
            if (inside && closer[inside] === c) {
                open.pop();
                push(i, i + 1, c === ')' ? 'paren' : c === ']' ? 'square' : 'brace');
            } else {
                push(i, i + 1, 'stray');
            }
            i++;
        } else if (c === ':' && inside === '(' && (found = at(sticky.weight, text, i))) {
            push(i, i + found.length, 'weight');
            i += found.length;
        } else if (c === ':' && inside === '[') {
            found = at(sticky.when, text, i);
            push(i, i + (found?.length ?? 1), 'weight');
            i += found?.length ?? 1;
        } else if (c === '|' && (inside === '[' || inside === '{')) {
            push(i, i + 1, 'bar');
            i++;
        } else {
            push(i, i + 1, 'text');
            i++;
        }
    }
    for (const { token } of open) token.mark = 'stray';
    return tokens;
}

const STEP = 0.05;

/*
 * Raises or lowers the weight of the selection, or of the word or bracket around the caret: (word:1.05). A weight that
 * comes back to 1 loses its brackets.
 */
export function nudge(text: string, from: number, to: number, up: boolean): { text: string; from: number; to: number } {
    const around = /\(([^()]*):([\d.]+)\)/g;
    for (let m = around.exec(text); m; m = around.exec(text)) {
        const end = m.index + m[0].length;
        if (from < m.index || to > end) continue;
        const weight = Math.round((Number(m[2]) + (up ? STEP : -STEP)) * 100) / 100;
        if (weight <= 0) return { text, from, to };
        const inner = m[1] ?? '';
        const next = weight === 1 ? inner : `(${inner}:${weight})`;
        const start = m.index + (weight === 1 ? 0 : 1);
        return { text: text.slice(0, m.index) + next + text.slice(end), from: start, to: start + inner.length };
    }
    if (from === to) {
        const word = /[^\s,()[\]{}|:<>]/;
        while (from > 0 && word.test(text[from - 1] as string)) from--;
        while (to < text.length && word.test(text[to] as string)) to++;
    }
    if (from === to) return { text, from, to };
    const inner = text.slice(from, to);
    const next = `(${inner}:${up ? 1 + STEP : 1 - STEP})`;
    return { text: text.slice(0, from) + next + text.slice(to), from: from + 1, to: from + 1 + inner.length };
}

export interface Hint {
    /* The part of the text that a choice replaces. */
    from: number;
    to: number;
    kind: 'wildcard' | 'lora';
    /* What was typed of the name. */
    start: string;
}

/* What is being written at the caret that could be completed: __wildcard or <lora:name. */
export function hintAt(text: string, caret: number): Hint | null {
    const line = text.slice(Math.max(0, caret - 120), caret);
    const lora = /<lora:([^<>:\n]*)$/.exec(line);
    if (lora) return { from: caret - lora[0].length, to: text[caret] === '>' ? caret + 1 : caret, kind: 'lora', start: lora[1] ?? '' };
    const wild = /(?:^|[^\w])(__([\w/.-]*))$/.exec(line);
    // Two underscores that end a wildcard begin none.
    if (!wild || /__[\w/.-]+__$/.test(line)) return null;
    return { from: caret - (wild[1] as string).length, to: caret, kind: 'wildcard', start: wild[2] ?? '' };
}

export const asWord = (kind: Hint['kind'] | 'embedding', name: string): string => (kind === 'wildcard' ? `__${name}__` : kind === 'lora' ? `<lora:${name}:1>` : name);
