// SPDX-License-Identifier: MIT
// Readers: recipes of other programs, Markdown, places, grid axes.
import { deflateSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { places } from '../src/lib/boxes';
import { cellIndex, MAX_VALUES, parseAxis, parseReplace } from '../src/lib/grid';
import { csv, inline, parse, safeHref, tables, type Block } from '../src/lib/markdown';
import { parseA1111, parseComfy, parseInvoke, pngTexts, readPicture, settingPairs } from '../src/lib/recipe';
import { settleNames } from '../src/lib/params';
import type { Named, Param } from '../src/lib/types';

const bytes = (...parts: (string | Uint8Array | number[])[]): Uint8Array => {
    const all = parts.map((p) => (typeof p === 'string' ? new TextEncoder().encode(p) : Uint8Array.from(p)));
    return Uint8Array.from(all.flatMap((p) => [...p]));
};
const chunk = (type: string, data: Uint8Array): Uint8Array => {
    const size = new Uint8Array(4);
    new DataView(size.buffer).setUint32(0, data.length);
    return bytes(size, type, data, [0, 0, 0, 0]);
};
const png = (...chunks: Uint8Array[]): Uint8Array => bytes([137, 80, 78, 71, 13, 10, 26, 10], chunk('IHDR', new Uint8Array(13)), ...chunks, chunk('IEND', new Uint8Array(0)));

const a1111 = `a red fox, (snow:1.2)
Negative prompt: blurry, "bad"
Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 1234567890, Size: 640x448, Model hash: abc, Model: dream, Clip skip: 2, Lora hashes: "a: 1, b: 2", Version: v1.9`;

const comfy = JSON.stringify({
    3: { class_type: 'KSampler', inputs: { seed: 42, steps: 25, cfg: 8, sampler_name: 'dpmpp_2m_sde', scheduler: 'karras', denoise: 1, model: ['10', 0], positive: ['6', 0], negative: ['7', 0], latent_image: ['5', 0] } },
    4: { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'sub/dream.safetensors' } },
    5: { class_type: 'EmptyLatentImage', inputs: { width: 768, height: 512, batch_size: 1 } },
    6: { class_type: 'CLIPTextEncode', inputs: { text: ['12', 0], clip: ['4', 1] } },
    7: { class_type: 'CLIPTextEncode', inputs: { text: 'blurry', clip: ['4', 1] } },
    10: { class_type: 'LoraLoader', inputs: { model: ['4', 0], lora_name: 'x' } },
    12: { class_type: 'PrimitiveString', inputs: { value: 'an owl' } },
});

describe('recipes', () => {
    it('reads the A1111 text', () => {
        expect(parseA1111(a1111)).toEqual({
            prompt: 'a red fox, (snow:1.2)', negative_prompt: 'blurry, "bad"', steps: 28, sampler: 'DPM++ 2M', schedule: 'karras', cfg_scale: 6.5,
            seed: 1234567890, width: 640, height: 448, model: 'dream', clip_skip: 2,
        });
        expect(parseA1111('just words')).toBeNull();
        expect(parseA1111('line one\nline two\nSteps: 5, Seed: 1')).toEqual({ prompt: 'line one\nline two', steps: 5, seed: 1 });
    });
    it('reads quoted values with commas', () => {
        expect(settingPairs('Steps: 5, Styles: "a, \\"b\\"", Seed: 7')).toEqual([['Steps', '5'], ['Styles', 'a, "b"'], ['Seed', '7']]);
    });
    it('follows a ComfyUI graph', () => {
        expect(parseComfy(comfy)).toEqual({ prompt: 'an owl', negative_prompt: 'blurry', steps: 25, cfg_scale: 8, seed: 42, sampler: 'DPM++ 2M SDE', schedule: 'karras', width: 768, height: 512, model: 'dream' });
    });
    it('survives graphs that go in circles and other JSON', () => {
        expect(parseComfy(JSON.stringify({ 1: { class_type: 'KSampler', inputs: { positive: ['1', 0], model: ['1', 0], latent_image: ['1', 0], seed: 3 } } }))).toEqual({ seed: 3 });
        for (const text of ['{', 'null', '[]', '5', '{"a":{}}', '{"a":null}']) expect(parseComfy(text)).toBeNull();
    });
    it('reads InvokeAI, new and old', () => {
        expect(parseInvoke(JSON.stringify({ positive_prompt: 'a cat', negative_prompt: '', seed: 9, steps: 30, cfg_scale: 7.5, width: 512, height: 640, scheduler: 'dpmpp_2m_k', model: { name: 'dream' }, clip_skip: 0 })))
            .toEqual({ prompt: 'a cat', seed: 9, steps: 30, cfg_scale: 7.5, width: 512, height: 640, sampler: 'DPM++ 2M', schedule: 'karras', model: 'dream' });
        expect(parseInvoke(JSON.stringify({ model_weights: 'sd15', image: { prompt: [{ prompt: 'a dog', weight: 1 }], seed: 1, sampler: 'k_euler_a' } })))
            .toEqual({ prompt: 'a dog', seed: 1, sampler: 'Euler a', model: 'sd15' });
        for (const text of ['{', 'null', '{}']) expect(parseInvoke(text)).toBeNull();
    });
    it('finds texts in every kind of PNG chunk', async () => {
        const file = png(chunk('tEXt', bytes('a', [0], 'plain')), chunk('zTXt', bytes('b', [0, 0], deflateSync('packed'))),
            chunk('iTXt', bytes('c', [0, 0, 0], 'en', [0], '', [0], 'größer')), chunk('iTXt', bytes('d', [0, 1, 0, 0, 0], deflateSync('両方'))), chunk('tEXt', bytes('e', [0, 0xe9])));
        expect(await pngTexts(file)).toEqual({ a: 'plain', b: 'packed', c: 'größer', d: '両方', e: 'é' });
    });
    it('reads what is left of damaged files and refuses bombs', async () => {
        const good = png(chunk('tEXt', bytes('parameters', [0], a1111)));
        for (let cut = 0; cut < good.length; cut += 7) await readPicture(good.subarray(0, cut));
        expect((await readPicture(good))?.origin).toBe('a1111');
        expect(await readPicture(bytes('GIF89a'))).toBeNull();
        const bomb = png(chunk('zTXt', bytes('parameters', [0, 0], deflateSync(Buffer.alloc(32 << 20, 65)))), chunk('tEXt', bytes('prompt', [0], comfy)));
        expect((await readPicture(bomb))?.origin).toBe('comfyui');
        const broken = png(chunk('zTXt', bytes('parameters', [0, 0], 'not deflate')));
        expect(await readPicture(broken)).toBeNull();
    });
});

const kinds = (text: string): string[] => parse(text).map((b) => b.kind);

describe('markdown', () => {
    it('knows the blocks', () => {
        expect(kinds('# A\n\ntext\n\n- a\n- b\n\n1. x\n\n> q\n\n```js\ncode\n```\n\n---\n\n| a | b |\n|---|--:|\n| 1 | 2 |')).toEqual(['heading', 'paragraph', 'list', 'list', 'quote', 'code', 'rule', 'table']);
    });
    it('nests lists and goes on after them', () => {
        const [list, after] = parse('- a\n  - b\n  - c\n- d\n\nend') as [Extract<Block, { kind: 'list' }>, Block];
        expect(list.items.length).toBe(2);
        expect(list.items[0]?.[1]?.kind).toBe('list');
        expect(after.kind).toBe('paragraph');
    });
    it('keeps a code block open while it streams', () => {
        expect(parse('```json\n[1,')).toEqual([{ kind: 'code', language: 'json', text: '[1,', open: true }]);
    });
    it('reads inline marks', () => {
        expect(inline('a **b _c_** `d*` ~~e~~')).toEqual([{ kind: 'text', text: 'a ' }, { kind: 'strong', inside: [{ kind: 'text', text: 'b ' }, { kind: 'em', inside: [{ kind: 'text', text: 'c' }] }] },
            { kind: 'text', text: ' ' }, { kind: 'code', text: 'd*' }, { kind: 'text', text: ' ' }, { kind: 'del', inside: [{ kind: 'text', text: 'e' }] }]);
        expect(inline('snake_case_name 2 * 3 * 4')).toEqual([{ kind: 'text', text: 'snake_case_name 2 * 3 * 4' }]);
        expect(inline('\\*a\\*')).toEqual([{ kind: 'text', text: '*a*' }]);
    });
    it('makes links of addresses only', () => {
        for (const bad of ['javascript:alert(1)', 'JaVaScRiPt:x', 'data:text/html,x', '//evil', '/v1/x', 'vbscript:x']) expect(safeHref(bad)).toBeNull();
        expect(JSON.stringify(parse('[x](javascript:alert(1)) <img src=x onerror=alert(1)> ![p](data:text/html,x)'))).not.toContain('"href"');
        expect(inline('<script>alert(1)</script>')).toEqual([{ kind: 'text', text: '<script>alert(1)</script>' }]);
        expect(inline('see https://a.example/b.')).toEqual([{ kind: 'text', text: 'see ' }, { kind: 'link', href: 'https://a.example/b', inside: [{ kind: 'text', text: 'https://a.example/b' }] }, { kind: 'text', text: '.' }]);
    });
    it('ends soon on hostile text', () => {
        const began = performance.now();
        for (const text of ['*'.repeat(20000), '['.repeat(20000), '`'.repeat(20001), '> '.repeat(2000), '- '.repeat(4000), '_a'.repeat(8000), '|'.repeat(5000) + '\n' + '|-'.repeat(3000)]) parse(text);
        expect(performance.now() - began).toBeLessThan(6000);
    });
    it('gives tables as CSV that a spreadsheet cannot run', () => {
        expect(tables('| a | b |\n|---|---|\n| **x** | 1,5 |')).toEqual([[['a', 'b'], ['x', '1,5']]]);
        expect(csv([['a', '1,5'], ['=SUM(A1)', 'say "x"']])).toBe('a,"1,5"\r\n\'=SUM(A1),"say ""x"""\r\n');
        expect(csv([[-5]])).toBe('-5\r\n');
    });
});

describe('places', () => {
    it('reads boxes and points', () => {
        expect(places('```json\n[{"bbox_2d": [100, 200, 300, 400], "label": "cat"}, {"point_2d": [500, 500], "label": "nose"}]\n```')).toEqual([
            { kind: 'box', x1: 0.1, y1: 0.2, x2: 0.3, y2: 0.4, label: 'cat', picture: null },
            { kind: 'point', x1: 0.5, y1: 0.5, x2: 0.5, y2: 0.5, label: 'nose', picture: null },
        ]);
    });
    it('takes what is complete of a stream', () => {
        expect(places('[{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"bbox_2d": [5, 6').length).toBe(1);
    });
    it('turns corners round, clips, and drops what has no area or is no box', () => {
        expect(places('{"bbox_2d": [300, 400, 100, 1200]}')[0]).toMatchObject({ x1: 0.1, y1: 0.4, x2: 0.3, y2: 1 });
        for (const text of ['{"bbox_2d": [1, 1, 1, 9]}', '{"bbox_2d": [1, 2, 3]}', '{"bbox_2d": [1, "a", 3, 4]}', 'no', '{"bbox_2d": [..,.,1,2]}']) expect(places(text)).toEqual([]);
    });
    it('reads boxes of document HTML and texts of spotting', () => {
        expect(places('<p data-bbox="10 20 300 40">Hello</p>')[0]).toMatchObject({ kind: 'box', x1: 0.01, label: 'Hello' });
        expect(places('[{"bbox_2d": [0, 0, 10, 10], "text_content": "STOP"}]')[0]?.label).toBe('STOP');
    });
});

describe('names of other programs', () => {
    const p = (name: string, type: Param['type'] = 'text'): Param => ({ name, type, group: '', help: '', unit: null, default: '', default_note: null, min: null, max: null, multiple: null, words: null, list: null, ui: null, aliases: [], flags: [] });
    const lists: Record<string, Named[]> = { sampler: [{ name: 'DPM++ 2M', aliases: ['k_dpmpp_2m'] }], model: [{ name: 'sub/Dream.safetensors' }], loras: [{ name: 'ink' }] };
    const settle = (recipe: Record<string, unknown>): ReturnType<typeof settleNames> => settleNames([p('sampler'), p('model'), p('loras', 'list'), p('prompt')], recipe, (x) => lists[x.name] ?? null);
    it('become the names of this server', () => {
        expect(settle({ sampler: 'DPMPP 2M', model: 'dream', loras: ['ink:0.5'], prompt: 'x', steps: 3 })).toEqual({ values: { sampler: 'DPM++ 2M', model: 'sub/Dream.safetensors', loras: ['ink:0.5'], prompt: 'x', steps: 3 }, missing: [] });
    });
    it('are left out and told when they are not here', () => {
        expect(settle({ sampler: 'nope', model: 'other', loras: ['far:1.5', 'ink'] })).toEqual({ values: { loras: ['ink'] }, missing: ['nope', 'other', 'far'] });
        expect(settle({ loras: ['far'], model: '' })).toEqual({ values: { model: '' }, missing: ['far'] });
    });
});

describe('grid axes', () => {
    const p = (more: Partial<Param>): Param => ({ name: 'x', type: 'int', group: '', help: '', unit: null, default: 1, default_note: null, min: 1, max: 100, multiple: null, words: null, list: null, ui: null, aliases: [], flags: [], ...more });
    it('reads what takes the place of a text', () => {
        expect(parseReplace('apple, red pear, apple, "a, b"', ['an apple', ''])).toEqual({ values: ['apple', 'red pear', 'a, b'], wrong: null });
        expect(parseReplace('fur, hair', ['a fox', 'fur'])).toEqual({ values: ['fur', 'hair'], wrong: null });
        expect(parseReplace('pear, plum', ['an apple', '']).wrong).toBe('pear');
        expect(parseReplace(' , ', ['x'])).toEqual({ values: [], wrong: null });
        const many = parseReplace(Array.from({ length: MAX_VALUES + 3 }, (_, i) => `v${i}`).join(','), ['v0']);
        expect([many.values.length, many.wrong]).toEqual([MAX_VALUES, `v${MAX_VALUES}`]);
    });
    it('reads lists, ranges, steps and counts', () => {
        expect(parseAxis(p({}), '10, 20,30')).toEqual({ values: [10, 20, 30], wrong: null });
        expect(parseAxis(p({}), '10-30 (+10)').values).toEqual([10, 20, 30]);
        expect(parseAxis(p({}), '3-1').values).toEqual([3, 2, 1]);
        expect(parseAxis(p({ type: 'real', min: 0, max: 1 }), '0-1 [5]').values).toEqual([0, 0.25, 0.5, 0.75, 1]);
        expect(parseAxis(p({ type: 'real', min: -5 }), '-1, -0.5, 2').values).toEqual([-1, -0.5, 2]);
    });
    it('names what it does not understand', () => {
        expect(parseAxis(p({}), '10, x').wrong).toBe('x');
        expect(parseAxis(p({}), '10, 500').wrong).toBe('500');
        expect(parseAxis(p({ type: 'bool' }), 'on, off, maybe')).toEqual({ values: [true, false], wrong: 'maybe' });
        expect(parseAxis(p({ type: 'enum', words: ['a', 'b'] }), 'a, c').wrong).toBe('c');
        expect(parseAxis(p({}), '1-100 (+0)').wrong).not.toBeNull();
        expect(parseAxis(p({ max: 1e9 }), '1-1000000').values.length).toBeLessThanOrEqual(64);
    });
    it('keeps commas in quotes and drops doubles', () => {
        expect(parseAxis(p({ type: 'text' }), '"a, b", c, c').values).toEqual(['a, b', 'c']);
    });
    it('counts cells with the first axis fastest', () => {
        expect(cellIndex([1, 2], [3, 4])).toBe(7);
        expect(cellIndex([2, 3, 1], [3, 4, 2])).toBe(23);
    });
});
