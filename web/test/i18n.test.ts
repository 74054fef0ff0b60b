// SPDX-License-Identifier: MIT
// The language files against each other and against the sources.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'svelte/compiler';
import { describe, expect, it } from 'vitest';
import de from '../src/locales/de.json';
import en from '../src/locales/en.json';
import fr from '../src/locales/fr.json';
import { fill } from '../src/lib/i18n.svelte';

const src = join(import.meta.dirname, '..', 'src');
const sources = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((f) => /\.(svelte|ts)$/.test(f))
    .map((f) => readFileSync(join(src, f), 'utf8')).join('\n');
const holes = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1] as string).sort();

describe.each([['de', de as Record<string, string>], ['fr', fr as Record<string, string>]])('%s', (_name, table) => {
    it('has exactly the English keys', () => {
        expect(Object.keys(table).sort()).toEqual(Object.keys(en).sort());
    });
    it('keeps every placeholder', () => {
        for (const [key, text] of Object.entries(en)) expect([key, holes(table[key] ?? '')]).toEqual([key, holes(text)]);
    });
    it('is translated', () => {
        const same = Object.entries(en).filter(([key, text]) => text.replace(/\{[^}]*\}/g, '').length > 18 && !key.startsWith('example.') && table[key] === text);
        expect(same).toEqual([]);
    });
});

describe.each([['en', en as Record<string, string>], ['de', de as Record<string, string>], ['fr', fr as Record<string, string>]])('counts in %s', (name, table) => {
    const counted = Object.entries(table).flatMap(([key, text]) => [...text.matchAll(/\{\w+\|([^}]*)\}/g)].map((m) => [key, m[1] as string] as const));
    it('have a form for one and one for all others, and those differ', () => {
        expect(counted.length).toBeGreaterThan(8);
        for (const [key, forms] of counted) expect([key, forms]).toEqual([key, expect.stringMatching(/^one:([^|:]+)\|other:(?!\1$)[^|:]+$/)]);
    });
    it('follow the rules of the language', () => {
        const one = fill(table['system.hour'] ?? '', { n: 1 }, name).replace('1', '');
        const two = fill(table['system.hour'] ?? '', { n: 2 }, name).replace('2', '');
        const none = fill(table['system.hour'] ?? '', { n: 0 }, name).replace('0', '');
        const thousands = fill(table['system.hour'] ?? '', { n: '1,234' }, name).replace('1,234', '');
        expect([one === two, thousands === two, none === (name === 'fr' ? one : two)]).toEqual([false, true, true]);
    });
});

describe('en', () => {
    it('has every key that the sources name', () => {
        const named = [...sources.matchAll(/\bt\('([\w.]+)'/g)].map((m) => m[1] as string);
        expect(named.length).toBeGreaterThan(100);
        expect(named.filter((key) => !(key in en))).toEqual([]);
    });
    it('has no key that nothing uses', () => {
        const prefixes = [...sources.matchAll(/[`']([a-z]+(?:\.[a-z]+)*\.)\$\{/g)].map((m) => m[1] as string);
        const unused = Object.keys(en).filter((key) => !sources.includes(`'${key}'`) && !prefixes.some((p) => key.startsWith(p)));
        expect(unused).toEqual([]);
    });
    it('says nothing twice under one key', () => {
        const text = readFileSync(join(src, 'locales', 'en.json'), 'utf8');
        const keys = [...text.matchAll(/^\s*"([^"]+)":/gm)].map((m) => m[1] as string);
        expect(new Set(keys).size).toBe(keys.length);
    });
});

/* Words in a template that no language file can reach: texts between tags, and attributes that people read or hear. */
function literals(source: string): string[] {
    const found: string[] = [];
    const heard = new Set(['alt', 'aria-label', 'aria-description', 'aria-roledescription', 'aria-valuetext', 'label', 'placeholder', 'title', 'empty']);
    const walk = (node: unknown, attribute = ''): void => {
        if (Array.isArray(node)) node.forEach((n) => walk(n, attribute));
        if (typeof node !== 'object' || node === null || Array.isArray(node)) return;
        const n = node as Record<string, unknown>;
        if (n.type === 'Text' && (attribute === '' || heard.has(attribute))) found.push(String(n.data));
        // {'words'}, also as a branch of {a ? 'words' : b}; names in calls and comparisons are not shown.
        if (attribute === '' || heard.has(attribute)) {
            if (n.type === 'Literal' && typeof n.value === 'string') found.push(n.value);
            if (n.type === 'TemplateElement') found.push(String((n.value as { cooked: string }).cooked));
        }
        if (['CallExpression', 'MemberExpression', 'BinaryExpression', 'ArrowFunctionExpression', 'StyleDirective', 'ClassDirective', 'OnDirective'].includes(String(n.type))) return;
        for (const [key, value] of Object.entries(n)) {
            if (['metadata', 'context', 'key', 'test', 'declaration'].includes(key) || (n.type === 'EachBlock' && key === 'expression')) continue;
            walk(value, n.type === 'Attribute' ? String(n.name) : attribute);
        }
    };
    const { fragment } = parse(source, { modern: true });
    walk(fragment);
    // Two letters in a row, without references such as &nbsp; make a word.
    return found.map((x) => x.trim()).filter((x) => /\p{L}{2}/u.test(x));
}

describe('templates', () => {
    /* Not words of a language: names, keys of a keyboard, formats, what a value looks like, what an axis of a grid reads. */
    const same = new Set(['limn', 'Ctrl ↵', 'lk_…', 'Markdown', 'JSON', 'CSV', 'PNG, JPEG, WebP, GIF, TIFF · MP4, WebM, MOV, MKV · PDF', 'on, off']);
    const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.svelte'));
    it('hold no words outside of the language files', () => {
        expect(files.length).toBeGreaterThan(20);
        const told = files.flatMap((f) => literals(readFileSync(join(src, f), 'utf8')).filter((x) => !same.has(x)).map((x) => `${f}: ${x}`));
        expect(told).toEqual([]);
    });
    it('are searched: the search finds each kind', () => {
        expect(literals('<p title="Hello there">{t("x.y")}</p>')).toEqual(['Hello there']);
        expect(literals('<p>Some words</p>{#if a}<b>{a ? "other words" : t("k.k")}</b>{/if}')).toEqual(['Some words', 'other words']);
        expect(literals('<input placeholder={`name of ${x}`} class="wide one" />')).toEqual(['name of']);
        expect(literals('<i class="words" data-testid="more words" style:left="1px">{n === "draw" ? 1 : 2}</i>')).toEqual([]);
    });
    it('say nothing untranslated in passing', () => {
        expect([...sources.matchAll(/\bui\.say\(\s*(['"`][^'"`]*\p{L}{2}[^'"`]*)/gu)].map((m) => m[1])).toEqual([]);
    });
});
