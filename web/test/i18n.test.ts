// SPDX-License-Identifier: MIT
// The language files against each other and against the sources.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import de from '../src/locales/de.json';
import en from '../src/locales/en.json';
import fr from '../src/locales/fr.json';

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
        const same = Object.entries(en).filter(([key, text]) => text.length > 18 && !key.startsWith('example.') && table[key] === text);
        expect(same).toEqual([]);
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
