// SPDX-License-Identifier: MIT
// From the server's parameter table to a form: which control a parameter gets, what a typed text means, which values are
// sent. Pure functions; the form itself is components/ParamForm.svelte.
import type { Named, Param, Values } from './types';

/* Shown when the form is in its short state; the others wait behind "all", search and the marks of changed values. */
export const basic = new Set(['styles', 'model', 'loras', 'width', 'height', 'count', 'batch_size', 'steps', 'sampler',
    'schedule', 'cfg_scale', 'seed']);
/* Drawn by the page itself, elsewhere than in the form. */
export const elsewhere = new Set(['prompt', 'negative_prompt', 'width', 'height', 'init_image', 'mask']);
/* Of no use here: the page always asks for PNG files that carry their recipe. */
export const unused = new Set(['format', 'quality', 'lossless', 'compression', 'metadata']);

export type Control = 'slider' | 'number' | 'switch' | 'choice' | 'names' | 'seed' | 'text';

export function controlOf(p: Param): Control {
    if (p.flags.includes('random') || /(^|_)seed$/.test(p.name)) return 'seed';
    if (p.type === 'bool') return 'switch';
    if (p.type === 'enum') return 'choice';
    if (p.type === 'list') return 'names';
    if (p.list || /^(model|vae|refiner)$/.test(p.name)) return 'choice';
    if (p.type === 'int' || p.type === 'real') return p.ui ? 'slider' : 'number';
    return 'text';
}

/* Where a number lands when it is put into the parameter's range and on its raster; null when it is none. */
export function fit(p: Param, text: string | number): number | null {
    let value = typeof text === 'number' ? text : Number(text.trim().replace(',', '.'));
    if (!Number.isFinite(value) || (typeof text === 'string' && text.trim() === '')) return null;
    if (p.type === 'int') value = Math.round(value);
    if (p.multiple && p.multiple > 1) value = Math.round(value / p.multiple) * p.multiple;
    if (p.min !== null) value = Math.max(p.min, value);
    if (p.max !== null) value = Math.min(p.max, value);
    return Number(value.toPrecision(12));
}

/* The slider's own ends may be narrower than what may be typed. */
export function sliderRange(p: Param, value: number): { min: number; max: number; step: number } {
    const ui = p.ui ?? { min: p.min ?? 0, max: p.max ?? 100, step: p.type === 'int' ? 1 : 0.01 };
    return { min: Math.min(ui.min, value), max: Math.max(ui.max, value), step: ui.step };
}

export function title(name: string): string {
    const text = name.replaceAll('_', ' ');
    return text.charAt(0).toUpperCase() + text.slice(1);
}

export function matches(p: Param, label: string, query: string): boolean {
    const q = query.trim().toLowerCase();
    if (!q) return true;
    const hay = [p.name, label, p.help, p.group, ...p.aliases].join(' ').toLowerCase();
    return q.split(/\s+/).every((word) => hay.includes(word));
}

/* What happens when it is left alone, or null when that is not one value (the model decides, a new one each time). */
export const defaultOf = (p: Param): unknown => (p.default_note ? null : p.default);

/*
 * The table as it is for one model: what the model recommends is what happens when a parameter is left alone. A schedule
 * is recommended for the sampler beside it only.
 */
export function advised(params: Param[], advice: Values | undefined, sampler: unknown): Param[] {
    if (!advice) return params;
    const other = sampler !== undefined && sampler !== advice.sampler;
    return params.map((p) => {
        const value = p.flags.includes('model_default') && !(other && p.name === 'schedule') ? advice[p.name] : undefined;
        return value === undefined ? p : { ...p, default: value as Param['default'] };
    });
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/* Set, and set to something else than what would happen anyway. */
export function changed(p: Param, values: Values): boolean {
    const value = values[p.name];
    return value !== undefined && value !== '' && !same(value, defaultOf(p)) && !(Array.isArray(value) && value.length === 0);
}

/* The body of a request: only what the user has set, in the table's order. */
export function bodyOf(params: Param[], values: Values): Values {
    const body: Values = {};
    for (const p of params) {
        const value = values[p.name];
        if (value === undefined || value === null || value === '') continue;
        if (Array.isArray(value) && value.length === 0) continue;
        body[p.name] = value;
    }
    return body;
}

/* Takes over what a recipe says and the table knows; what a recipe leaves open becomes unset again. */
export function fromRecipe(params: Param[], recipe: Values): Values {
    const values: Values = {};
    for (const p of params) {
        const value = recipe[p.name];
        if (value === undefined || value === null || unused.has(p.name)) continue;
        if (p.flags.includes('image')) continue;
        // What a model may decide by itself is not left to it: the recipe may be of another one.
        if (same(value, defaultOf(p)) && p.name !== 'seed' && !p.flags.includes('model_default')) continue;
        values[p.name] = value;
    }
    return values;
}

/* "NAME:0.8:0.5" of the loras list in its parts. A name may hold colons of its own only if no number follows. */
export function splitLora(text: string): { name: string; weight: number; text: number | null } {
    const m = /^(.*?)(?::(-?[\d.]+))?(?::(-?[\d.]+))?$/.exec(text);
    return { name: m?.[1] ?? text, weight: m?.[2] ? Number(m[2]) : 1, text: m?.[3] ? Number(m[3]) : null };
}

export function joinLora(lora: { name: string; weight: number; text: number | null }): string {
    if (lora.text !== null) return `${lora.name}:${lora.weight}:${lora.text}`;
    return lora.weight === 1 ? lora.name : `${lora.name}:${lora.weight}`;
}

/* As the server compares names: "DPM++ 2M" is dpmpp_2m. */
const folded = (name: string): string => name.toLowerCase().replace(/[\s_]/g, '').replaceAll('+', 'p');
const stem = (name: string): string => folded(name.replace(/^.*[\\/]/, '').replace(/\.(safetensors|ckpt|gguf|sft|pt)$/i, ''));

/*
 * The names in a recipe as this server has them: other programs call samplers otherwise, and files have other folders and
 * endings. What is not here is left out and told. `names` answers null for a value that is none of a list.
 */
export function settleNames(params: Param[], recipe: Values, names: (p: Param) => Named[] | null): { values: Values; missing: string[] } {
    const values: Values = { ...recipe };
    const missing: string[] = [];
    const find = (list: Named[], name: string): string | undefined =>
        (list.find((n) => n.name === name) ?? list.find((n) => [n.name, ...(n.aliases ?? [])].some((x) => folded(x) === folded(name))) ?? list.find((n) => stem(n.name) === stem(name)))?.name;
    for (const p of params) {
        const value = recipe[p.name];
        const list = typeof value === 'string' || Array.isArray(value) ? names(p) : null;
        if (!list || value === '') continue;
        const settled = (Array.isArray(value) ? (value as string[]) : [value as string]).flatMap((one) => {
            const lora = p.name === 'loras' ? splitLora(one) : null;
            const found = find(list, lora?.name ?? one);
            if (found === undefined) missing.push(lora?.name ?? one);
            return found === undefined ? [] : [lora ? joinLora({ ...lora, name: found }) : found];
        });
        if (settled.length === 0) delete values[p.name];
        else values[p.name] = Array.isArray(value) ? settled : settled[0];
    }
    return { values, missing };
}

export function nameMatches(n: Named, query: string): boolean {
    const q = query.trim().toLowerCase();
    return !q || [n.name, n.label ?? '', n.help ?? '', ...(n.aliases ?? [])].join(' ').toLowerCase().includes(q);
}

export const ratios: [number, number][] = [[1, 1], [5, 4], [4, 3], [3, 2], [16, 9], [21, 9]];

/* Width and height of a ratio with about the same number of pixels as `area`, on the model's raster of 8. */
export function sizeFor(ratio: [number, number], area: number): [number, number] {
    const snap = (v: number): number => Math.max(16, Math.round(v / 8) * 8);
    const width = Math.sqrt((area * ratio[0]) / ratio[1]);
    return [snap(width), snap((width * ratio[1]) / ratio[0])];
}
