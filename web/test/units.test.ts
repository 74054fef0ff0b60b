// SPDX-License-Identifier: MIT
import { describe, expect, it } from 'vitest';
import { advised, bodyOf, changed, controlOf, fit, fromRecipe, joinLora, matches, sizeFor, splitLora } from '../src/lib/params';
import { nudge, tokenize } from '../src/lib/prompt';
import type { Param } from '../src/lib/types';
import { filterOf, heightOf, inView, layout, parseSearch, rowAt, withFilter } from '../src/lib/virtual';
import { crc32, zip } from '../src/lib/zip';

const param = (more: Partial<Param>): Param => ({
    name: 'steps', type: 'int', group: 'sampling', help: 'number of denoising steps', unit: null, default: 20, default_note: null,
    min: 1, max: 1000, multiple: null, words: null, list: null, ui: { min: 4, max: 60, step: 1 }, aliases: [], flags: [], ...more,
});

describe('prompt', () => {
    const marks = (text: string): string[] => tokenize(text).filter((k) => k.mark !== 'text').map((k) => `${k.mark}:${text.slice(k.from, k.to)}`);
    it('covers every text without gaps', () => {
        const signs = 'ab ()[]{}<>:|,\\_.1BREAK\n'.split('');
        let seed = 1;
        const random = (n: number): number => (seed = (seed * 48271) % 2147483647) % n;
        for (let i = 0; i < 500; i++) {
            const text = Array.from({ length: random(40) }, () => signs[random(signs.length)]).join('');
            let at = 0;
            for (const token of tokenize(text)) {
                if (token.from !== at || token.to <= token.from) throw new Error(`gap at ${at} in ${text}`);
                at = token.to;
            }
            expect(at).toBe(text.length);
        }
    });
    it('knows weights, schedules, alternation, tags, wildcards, breaks', () => {
        expect(marks('(a:1.2)')).toEqual(['paren:(', 'weight::1.2', 'paren:)']);
        expect(marks('[a:b:0.4]')).toEqual(['square:[', 'weight::', 'weight::0.4', 'square:]']);
        expect(marks('[a|b]')).toEqual(['square:[', 'bar:|', 'square:]']);
        expect(marks('{x|y}')).toEqual(['brace:{', 'bar:|', 'brace:}']);
        expect(marks('<lora:oil:0.8> __light__ BREAK')).toEqual(['tag:<lora:oil:0.8>', 'wild:__light__', 'break:BREAK']);
        expect(marks('\\(a\\)')).toEqual(['escape:\\(', 'escape:\\)']);
        expect(marks('time 12:30 | so')).toEqual([]);
    });
    it('marks what is not closed or closes nothing', () => {
        expect(marks('(a')).toEqual(['stray:(']);
        expect(marks('a)')).toEqual(['stray:)']);
        expect(marks('(a]')).toEqual(['stray:(', 'stray:]']);
    });
    it('weighs the word at the caret up, down and away again', () => {
        const up = nudge('a red fox', 3, 3, true);
        expect(up.text).toBe('a (red:1.05) fox');
        const more = nudge(up.text, up.from, up.to, true);
        expect(more.text).toBe('a (red:1.1) fox');
        const less = nudge(nudge(more.text, more.from, more.to, false).text, 3, 6, false);
        expect(less.text).toBe('a red fox');
        expect(nudge('a  b', 2, 2, true).text).toBe('a  b');
    });
});

describe('params', () => {
    it('puts numbers into range and on their raster', () => {
        expect(fit(param({}), '5000')).toBe(1000);
        expect(fit(param({}), '7.6')).toBe(8);
        expect(fit(param({}), 'x')).toBeNull();
        expect(fit(param({}), ' ')).toBeNull();
        expect(fit(param({ type: 'real', max: 100 }), '7,5')).toBe(7.5);
        expect(fit(param({ multiple: 8, min: 16, max: 16384 }), '515')).toBe(512);
    });
    it('chooses controls', () => {
        expect(controlOf(param({}))).toBe('slider');
        expect(controlOf(param({ ui: null }))).toBe('number');
        expect(controlOf(param({ name: 'seed', flags: ['random'] }))).toBe('seed');
        expect(controlOf(param({ type: 'text', list: 'sampler' }))).toBe('choice');
        expect(controlOf(param({ type: 'list', list: 'lora' }))).toBe('names');
        expect(controlOf(param({ type: 'bool' }))).toBe('switch');
    });
    it('sends only what was set', () => {
        const table = [param({}), param({ name: 'prompt', type: 'text', default: '' }), param({ name: 'loras', type: 'list', default: [] })];
        expect(bodyOf(table, { steps: 20, prompt: '', loras: [], other: 1 })).toEqual({ steps: 20 });
        expect(changed(table[0] as Param, { steps: 20 })).toBe(false);
        expect(changed(table[0] as Param, { steps: 21 })).toBe(true);
    });
    it('takes over recipes without start pictures and defaults', () => {
        const table = [param({}), param({ name: 'init_image', flags: ['image'], default: null }), param({ name: 'seed', default: null })];
        expect(fromRecipe(table, { steps: 20, init_image: 'artifact:1', seed: 5, unknown: 1 })).toEqual({ seed: 5 });
    });
    it('knows what a model recommends', () => {
        const table = [param({ flags: ['model_default'] }), param({ name: 'schedule', type: 'enum', default: 'automatic', flags: ['model_default'] }), param({ name: 'other' })];
        const advice = { steps: 4, schedule: 'Trailing', sampler: 'DDIM', other: 9 };
        expect(advised(table, advice, undefined).map((p) => p.default)).toEqual([4, 'Trailing', 20]);
        expect(advised(table, advice, 'Euler').map((p) => p.default)).toEqual([4, 'automatic', 20]);
        expect(advised(table, undefined, undefined)).toBe(table);
        const own = advised(table, advice, undefined);
        expect([changed(own[0] as Param, { steps: 4 }), changed(own[0] as Param, { steps: 20 })]).toEqual([false, true]);
        expect(fromRecipe(own, { steps: 20, other: 20 })).toEqual({ steps: 20 });
    });
    it('finds by help, alias and label', () => {
        const p = param({ aliases: ['num_inference_steps'] });
        expect(matches(p, 'Steps', 'infer')).toBe(true);
        expect(matches(p, 'Schritte', 'schritte')).toBe(true);
        expect(matches(p, 'Steps', 'noise denoising')).toBe(false);
        expect(matches(p, 'Steps', 'number denoising')).toBe(true);
    });
    it('reads and writes weights of LoRAs', () => {
        expect(splitLora('oil')).toEqual({ name: 'oil', weight: 1, text: null });
        expect(splitLora('oil:0.8:-0.5')).toEqual({ name: 'oil', weight: 0.8, text: -0.5 });
        for (const text of ['oil', 'oil:0.8', 'oil:0.8:0.5', 'a:b:0.5']) expect(joinLora(splitLora(text))).toBe(text);
    });
    it('keeps the number of pixels when the shape changes', () => {
        for (const ratio of [[1, 1], [16, 9], [4, 3]] as [number, number][]) {
            const [w, h] = sizeFor(ratio, 512 * 512);
            expect(w % 8).toBe(0);
            expect(h % 8).toBe(0);
            expect(Math.abs(w * h - 512 * 512) / (512 * 512)).toBeLessThan(0.04);
            expect(Math.abs(w / h - ratio[0] / ratio[1])).toBeLessThan(0.05);
        }
    });
});

describe('long lists', () => {
    const noon = new Date(2026, 9, 31, 12).getTime();
    const times = Array.from({ length: 20000 }, (_, i) => noon - i * 123_000);
    const rows = layout(times, 7, 180, 52);
    it('has every item once, in order, under its day', () => {
        let next = 0;
        let heading = '';
        for (const row of rows) {
            if (row.heading) heading = new Date(times[row.from] as number).toDateString();
            for (let i = row.from; i < row.to; i++) {
                if (i !== next++ || new Date(times[i] as number).toDateString() !== heading) throw new Error(`item ${i} below ${heading}`);
            }
        }
        expect(next).toBe(20000);
        // Through the night in which the clocks change, each day has one heading.
        expect(rows.filter((row) => row.heading).length).toBe(new Set(times.map((x) => new Date(x).toDateString())).size);
    });
    it('shows a window and finds it fast', () => {
        const began = performance.now();
        for (let y = 0; y < heightOf(rows); y += 997) {
            const seen = inView(rows, y, 900, 600);
            expect(seen.length).toBeLessThan(24);
            expect((seen[0]?.top ?? 0)).toBeLessThanOrEqual(Math.max(0, y));
        }
        expect(performance.now() - began).toBeLessThan(2000);
        expect(rowAt(rows, -5)).toBe(0);
        expect(inView([], 0, 100, 0)).toEqual([]);
    });
    it('reads filters out of the search', () => {
        const f = parseSearch('seed:42 owl tag:"two words" in snow model:limn-mini');
        expect(f.get('seed')).toBe('42');
        expect(f.get('tag')).toBe('two words');
        expect(f.get('model')).toBe('limn-mini');
        expect(f.get('q')).toBe('owl in snow');
        expect(Number(parseSearch('to:2026-02-28').get('to')) - Number(parseSearch('from:2026-02-28').get('from'))).toBe(86_400_000 - 1);
        expect(parseSearch('from:soon').get('q')).toBe('from:soon');
    });
    it('puts filters into the search and takes them out', () => {
        let text = withFilter('owl in snow', 'model', 'two words');
        expect(text).toBe('owl in snow model:"two words"');
        expect(filterOf(text, 'model')).toBe('two words');
        text = withFilter(text, 'seed', '7');
        expect([filterOf(text, 'seed'), filterOf(text, 'tag')]).toEqual(['7', '']);
        expect(withFilter(withFilter(text, 'model', ''), 'seed', '8')).toBe('owl in snow seed:8');
        expect(filterOf(withFilter('', 'tag', 'a "b"'), 'tag')).toBe('a b');
    });
});

describe('zip', () => {
    it('has the known checksum', () => expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf43926));
    it('writes entries that can be found again, with unique names', async () => {
        const entry = (name: string, text: string) => ({ name, data: new Blob([text]), time: Date.UTC(2026, 0, 2) });
        const made = await zip([entry('a.png', 'one'), entry('a.png', 'three'), entry('ü.png', '')]);
        const bytes = new Uint8Array(await made.arrayBuffer());
        const view = new DataView(bytes.buffer);
        const end = bytes.length - 22;
        expect(view.getUint32(end, true)).toBe(0x06054b50);
        expect(view.getUint16(end + 10, true)).toBe(3);
        let at = view.getUint32(end + 16, true);
        const names: string[] = [];
        const texts: string[] = [];
        for (let i = 0; i < 3; i++) {
            expect(view.getUint32(at, true)).toBe(0x02014b50);
            const nameSize = view.getUint16(at + 28, true);
            const size = view.getUint32(at + 24, true);
            const local = view.getUint32(at + 42, true);
            expect(view.getUint32(local, true)).toBe(0x04034b50);
            names.push(new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameSize)));
            texts.push(new TextDecoder().decode(bytes.subarray(local + 30 + nameSize, local + 30 + nameSize + size)));
            at += 46 + nameSize;
        }
        expect(at).toBe(end);
        expect(names).toEqual(['a.png', 'a-2.png', 'ü.png']);
        expect(texts).toEqual(['one', 'three', '']);
    });
});
