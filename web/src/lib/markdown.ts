// SPDX-License-Identifier: MIT
// Markdown as models write it, read into a tree. The tree holds text, never HTML: what the page shows is made of elements
// of its own (components/Markdown.svelte), so an answer cannot bring scripts, styles, frames or pictures with it. Reads
// unfinished text as well, because it is called for every piece of a stream.

export type Inline =
    | { kind: 'text' | 'code'; text: string }
    | { kind: 'strong' | 'em' | 'del'; inside: Inline[] }
    | { kind: 'link'; href: string; inside: Inline[] }
    | { kind: 'break' };

export type Block =
    | { kind: 'heading'; level: number; inside: Inline[] }
    | { kind: 'paragraph'; inside: Inline[] }
    | { kind: 'code'; language: string; text: string; open: boolean }
    | { kind: 'list'; ordered: boolean; start: number; items: Block[][] }
    | { kind: 'quote'; inside: Block[] }
    | { kind: 'table'; head: Inline[][]; rows: Inline[][][]; align: ('left' | 'right' | 'center' | null)[] }
    | { kind: 'rule' };

const MAX_DEPTH = 8;

/* Only addresses that lead somewhere else, never ones that do something. */
export function safeHref(href: string): string | null {
    return /^(https?:\/\/|mailto:)/i.test(href) ? href : null;
}

export function inline(text: string, depth = 0): Inline[] {
    const out: Inline[] = [];
    let plain = '';
    const flush = (): void => {
        if (plain) out.push({ kind: 'text', text: plain });
        plain = '';
    };
    for (let i = 0; i < text.length;) {
        const rest = text.slice(i, i + 4096);
        let m: RegExpExecArray | null;
        if (depth > MAX_DEPTH) {
            plain += text.slice(i);
            break;
        } else if ((m = /^\\([\\`*_{}[\]()#+\-.!|~<>])/.exec(rest))) {
            plain += m[1];
        } else if ((m = /^(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)/.exec(rest))) {
            flush();
            out.push({ kind: 'code', text: (m[2] ?? '').replace(/^ (.*) $/s, '$1') });
        } else if ((m = /^(\*\*|__)(?=\S)([\s\S]*?\S)\1/.exec(rest))) {
            flush();
            out.push({ kind: 'strong', inside: inline(m[2] ?? '', depth + 1) });
        } else if ((m = /^~~(?=\S)([\s\S]*?\S)~~/.exec(rest))) {
            flush();
            out.push({ kind: 'del', inside: inline(m[1] ?? '', depth + 1) });
        } else if ((m = /^\*(?=[^\s*])([\s\S]*?[^\s*])\*(?!\*)/.exec(rest)) || ((m = /^_(?=[^\s_])([\s\S]*?[^\s_])_(?![\w])/.exec(rest)) && !/\w$/.test(plain))) {
            flush();
            out.push({ kind: 'em', inside: inline(m[1] ?? '', depth + 1) });
        } else if ((m = /^!?\[([^\]\n]*)\]\(\s*<?([^\s)>]+)>?[^)\n]*\)/.exec(rest))) {
            flush();
            const href = safeHref(m[2] ?? '');
            const inside = inline(m[1] || m[2] || '', depth + 1);
            if (href) out.push({ kind: 'link', href, inside });
            else out.push(...inside);
        } else if ((m = /^<(https?:\/\/[^\s<>]+)>/.exec(rest)) || ((m = /^(https?:\/\/[^\s<>()]*[^\s<>().,;:!?'"])/.exec(rest)) && !/\w$/.test(plain))) {
            flush();
            out.push({ kind: 'link', href: m[1] ?? '', inside: [{ kind: 'text', text: m[1] ?? '' }] });
        } else if ((m = /^( {2,}|\\)?\n/.exec(rest))) {
            if (m[1]) {
                flush();
                out.push({ kind: 'break' });
            } else {
                plain += '\n';
            }
        } else if ((m = /^<br\s*\/?>/i.exec(rest))) {
            flush();
            out.push({ kind: 'break' });
        } else {
            plain += text[i];
            i++;
            continue;
        }
        i += m[0].length;
    }
    flush();
    return out;
}

const bullet = /^( {0,3})([-*+]|\d{1,9}[.)])( +|$)/;
const rule = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const separator = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

function cells(line: string): string[] {
    const inner = line.trim().replace(/^\|/, '').replace(/(?<!\\)\|$/, '');
    return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));
}

export function parse(source: string, depth = 0): Block[] {
    const lines = source.replaceAll('\r\n', '\n').split('\n');
    const out: Block[] = [];
    for (let i = 0; i < lines.length;) {
        const line = lines[i] as string;
        let m: RegExpExecArray | null;
        if (line.trim() === '') {
            i++;
        } else if ((m = /^ {0,3}(`{3,}|~{3,})\s*([\w+-]*)[^`]*$/.exec(line))) {
            const fence = m[1] as string;
            const body: string[] = [];
            let open = true;
            for (i++; i < lines.length; i++) {
                if ((lines[i] as string).trim().startsWith(fence)) {
                    open = false;
                    i++;
                    break;
                }
                body.push(lines[i] as string);
            }
            out.push({ kind: 'code', language: m[2] ?? '', text: body.join('\n'), open });
        } else if ((m = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/.exec(line))) {
            out.push({ kind: 'heading', level: (m[1] ?? '').length, inside: inline(m[2] ?? '') });
            i++;
        } else if (rule.test(line)) {
            out.push({ kind: 'rule' });
            i++;
        } else if (/^ {0,3}>/.test(line) && depth < MAX_DEPTH) {
            const body: string[] = [];
            for (; i < lines.length && /^ {0,3}>/.test(lines[i] as string); i++) body.push((lines[i] as string).replace(/^ {0,3}> ?/, ''));
            out.push({ kind: 'quote', inside: parse(body.join('\n'), depth + 1) });
        } else if ((m = bullet.exec(line)) && depth < MAX_DEPTH) {
            const ordered = /\d/.test(m[2] ?? '');
            const items: string[][] = [];
            for (; i < lines.length; i++) {
                const at = lines[i] as string;
                const next = bullet.exec(at);
                if (next && (next[1] ?? '').length <= (m[1] ?? '').length && !rule.test(at)) {
                    if (/\d/.test(next[2] ?? '') !== ordered) break;
                    items.push([at.slice(next[0].length)]);
                } else if (/^\s{2,}\S/.test(at)) {
                    items.at(-1)?.push(at.replace(/^ {1,4}/, ''));
                } else if (at.trim() === '' && (/^\s{2,}\S/.test(lines[i + 1] ?? '') || bullet.test(lines[i + 1] ?? ''))) {
                    items.at(-1)?.push('');
                } else if (at.trim() !== '' && lines[i - 1]?.trim() !== '' && !/^ {0,3}([#>|]|```)/.test(at)) {
                    items.at(-1)?.push(at);
                } else {
                    break;
                }
            }
            out.push({ kind: 'list', ordered, start: ordered ? Number.parseInt(m[2] ?? '1', 10) : 1, items: items.map((x) => parse(x.join('\n'), depth + 1)) });
        } else if (line.includes('|') && separator.test(lines[i + 1] ?? '') && (lines[i + 1] ?? '').includes('-')) {
            const head = cells(line);
            const align = cells(lines[i + 1] ?? '').map((c) => (/^:-+:$/.test(c) ? 'center' : /-:$/.test(c) ? 'right' : /^:-/.test(c) ? 'left' : null));
            const rows: Inline[][][] = [];
            for (i += 2; i < lines.length && (lines[i] as string).includes('|'); i++) {
                const row = cells(lines[i] as string);
                rows.push(head.map((_, k) => inline(row[k] ?? '')));
            }
            out.push({ kind: 'table', head: head.map((c) => inline(c)), rows, align });
        } else {
            const body: string[] = [];
            for (; i < lines.length; i++) {
                const at = lines[i] as string;
                if (at.trim() === '' || (body.length > 0 && (/^ {0,3}(#{1,6}\s|>|```|~~~)/.test(at) || rule.test(at) || /^ {0,3}([-*+]|1[.)]) +\S/.test(at)
                    || (at.includes('|') && separator.test(lines[i + 1] ?? '') && (lines[i + 1] ?? '').includes('-'))))) break;
                body.push(at);
            }
            out.push({ kind: 'paragraph', inside: inline(body.join('\n').trim()) });
        }
    }
    return out;
}

const words = (parts: Inline[]): string => parts.map((p) => ('text' in p ? p.text : 'inside' in p ? words(p.inside) : '\n')).join('');

/* The tables of an answer as rows of plain text, for CSV. */
export function tables(source: string): string[][][] {
    return parse(source).flatMap((b) => (b.kind === 'table' ? [[b.head.map(words), ...b.rows.map((r) => r.map(words))]] : []));
}

export function csv(rows: (string | number)[][]): string {
    const cell = (value: string | number): string => {
        let text = String(value);
        // A cell that begins like a formula must not become one in a spreadsheet.
        if (typeof value === 'string' && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
        return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return `${rows.map((row) => row.map(cell).join(',')).join('\r\n')}\r\n`;
}

/* The cells of CSV text: quotes, doubled quotes, line ends of any kind. */
export function readCsv(text: string): string[][] {
    const rows: string[][] = [[]];
    let cell = '';
    let quoted = false;
    for (let i = 0; i < text.length; i++) {
        const c = text[i] as string;
        if (quoted && c === '"' && text[i + 1] === '"') {
            cell += '"';
            i++;
        } else if (c === '"' && (quoted || cell === '')) {
            quoted = !quoted;
        } else if (!quoted && (c === ',' || c === '\n')) {
            rows.at(-1)?.push(cell.replace(/\r$/, ''));
            cell = '';
            if (c === '\n') rows.push([]);
        } else {
            cell += c;
        }
    }
    rows.at(-1)?.push(cell.replace(/\r$/, ''));
    return rows.filter((row) => row.length > 1 || row[0] !== '');
}
