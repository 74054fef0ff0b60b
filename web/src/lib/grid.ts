// SPDX-License-Identifier: MIT
// What is typed into an axis of a grid, as values: lists with commas, ranges "10-30 (+5)" (each so far) and "0-1 [5]" (so
// many), names, on and off.
import { fit } from './params';
import type { Param } from './types';

export type Value = number | string | boolean;
export interface Axis {
    parameter: string;
    text: string;
}
export const MAX_VALUES = 64;
export const MAX_CELLS = 256;

/* Commas inside of quotes do not separate. */
export function split(text: string): string[] {
    return [...text.matchAll(/\s*"((?:[^"\\]|\\.)*)"\s*|([^,]+)/g)].map((m) => (m[1] !== undefined ? m[1].replace(/\\(.)/g, '$1') : (m[2] ?? '').trim())).filter((x) => x !== '');
}

function range(part: string): number[] | null {
    const m = /^(-?[\d.]+)\s*(?:-|\.\.)\s*(-?[\d.]+)\s*(?:\(\s*([+-]?[\d.]+)\s*\)|\[\s*(\d+)\s*\])?$/.exec(part);
    if (!m) return null;
    const from = Number(m[1]);
    const to = Number(m[2]);
    if (![from, to].every(Number.isFinite)) return null;
    if (m[4] !== undefined) {
        const n = Math.min(MAX_VALUES + 1, Number(m[4]));
        if (n < 2) return [from];
        return Array.from({ length: n }, (_, i) => Number((from + ((to - from) * i) / (n - 1)).toPrecision(10)));
    }
    const step = m[3] !== undefined ? Math.abs(Number(m[3])) : 1;
    if (!(step > 0)) return null;
    const n = Math.min(MAX_VALUES + 1, Math.floor(Math.abs(to - from) / step + 1e-9) + 1);
    return Array.from({ length: n }, (_, i) => Number((from + Math.sign(to - from) * step * i).toPrecision(10)));
}

/* The values of an axis, or the part that is not understood. */
export function parseAxis(p: Param, text: string): { values: Value[]; wrong: string | null } {
    const values: Value[] = [];
    for (const part of split(text)) {
        if (p.type === 'int' || p.type === 'real') {
            const many = range(part) ?? [Number(part.replace(/^\+/, ''))];
            for (const one of many) {
                const value = fit(p, one);
                if (!Number.isFinite(one) || value === null || (p.min !== null && one < p.min) || (p.max !== null && one > p.max)) return { values, wrong: part };
                if (!values.includes(value)) values.push(value);
            }
        } else if (p.type === 'bool') {
            const value = /^(on|true|yes|1)$/i.test(part) ? true : /^(off|false|no|0)$/i.test(part) ? false : null;
            if (value === null) return { values, wrong: part };
            if (!values.includes(value)) values.push(value);
        } else {
            if (p.words?.length && !p.words.includes(part)) return { values, wrong: part };
            if (!values.includes(part)) values.push(part);
        }
        if (values.length > MAX_VALUES) return { values: values.slice(0, MAX_VALUES), wrong: part };
    }
    return { values, wrong: null };
}

/* The axis that puts other words in the place of some: not a parameter of the table. */
export const REPLACE = 'prompt/search';

/* Its values: the first is what is searched in the prompts, each takes its place. */
export function parseReplace(text: string, prompts: string[]): { values: string[]; wrong: string | null } {
    const values = [...new Set(split(text))];
    const search = values[0];
    if (values.length > MAX_VALUES) return { values: values.slice(0, MAX_VALUES), wrong: values[MAX_VALUES] ?? '' };
    return { values, wrong: search !== undefined && !prompts.some((x) => x.includes(search)) ? search : null };
}

/* Index of the picture of a cell: the first axis runs fastest. */
export const cellIndex = (at: number[], sizes: number[]): number =>
    at.reduce((sum, v, i) => sum + v * sizes.slice(0, i).reduce((a, b) => a * b, 1), 0);
