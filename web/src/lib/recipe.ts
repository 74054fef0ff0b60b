// SPDX-License-Identifier: MIT
// Reads how a picture was made from the picture itself: the texts that limn and A1111 write ("parameters"), ComfyUI's
// graph ("prompt") and InvokeAI's record ("invokeai_metadata", "sd-metadata"). The server reads its own dialect best and
// is asked first; this reader serves what it leaves open, and works while the server is away.
import type { Values } from './types';

export type Origin = 'a1111' | 'comfyui' | 'invokeai';
export interface Found {
    origin: Origin;
    values: Values;
}

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const MAX_TEXT = 4 << 20;

async function inflate(data: Uint8Array): Promise<Uint8Array> {
    const stream = new Blob([data as BlobPart]).stream().pipeThrough(new DecompressionStream('deflate'));
    const parts: Uint8Array[] = [];
    let size = 0;
    const reader = stream.getReader();
    for (let r = await reader.read(); !r.done; r = await reader.read()) {
        size += r.value.length;
        if (size > MAX_TEXT) {
            await reader.cancel();
            throw new RangeError('text chunk too large');
        }
        parts.push(r.value);
    }
    const all = new Uint8Array(size);
    let at = 0;
    for (const part of parts) {
        all.set(part, at);
        at += part.length;
    }
    return all;
}

const latin1 = new TextDecoder('latin1');
const utf8 = new TextDecoder('utf-8');

/* The text chunks of a PNG by keyword. A damaged file gives what could be read. */
export async function pngTexts(bytes: Uint8Array): Promise<Record<string, string>> {
    const texts: Record<string, string> = {};
    if (!SIGNATURE.every((b, i) => bytes[i] === b)) return texts;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 8; at + 12 <= bytes.length;) {
        const size = view.getUint32(at);
        const type = latin1.decode(bytes.subarray(at + 4, at + 8));
        const data = bytes.subarray(at + 8, at + 8 + size);
        if (type === 'IEND' || data.length < size) break;
        at += 12 + size;
        if (type !== 'tEXt' && type !== 'zTXt' && type !== 'iTXt') continue;
        const nul = data.indexOf(0);
        if (nul < 1 || size > MAX_TEXT) continue;
        const key = latin1.decode(data.subarray(0, nul));
        try {
            if (type === 'tEXt') {
                texts[key] = decode(data.subarray(nul + 1));
            } else if (type === 'zTXt') {
                texts[key] = decode(await inflate(data.subarray(nul + 2)));
            } else {
                const language = data.indexOf(0, nul + 3);
                const translated = data.indexOf(0, language + 1);
                if (language < 0 || translated < 0) continue;
                const text = data.subarray(translated + 1);
                texts[key] = utf8.decode(data[nul + 1] === 1 ? await inflate(text) : text);
            }
        } catch {
            // This chunk cannot be read; the others may.
        }
    }
    return texts;
}

/* tEXt is Latin-1 by the standard, but half of the world writes UTF-8 into it. */
function decode(data: Uint8Array): string {
    try {
        return new TextDecoder('utf-8', { fatal: true }).decode(data);
    } catch {
        return latin1.decode(data);
    }
}

const a1111Keys: Record<string, string> = {
    Steps: 'steps', Sampler: 'sampler', 'Schedule type': 'schedule', 'CFG scale': 'cfg_scale', Seed: 'seed', Model: 'model',
    'Clip skip': 'clip_skip', 'Denoising strength': 'strength', 'Variation seed': 'variation_seed',
    'Variation seed strength': 'variation_strength', 'Hires upscale': 'hires_scale', 'Hires steps': 'hires_steps',
    'Hires upscaler': 'hires_upscaler', Eta: 'eta', VAE: 'vae', 'CFG rescale': 'cfg_rescale', RNG: 'rng',
};
const numeric = new Set(['steps', 'cfg_scale', 'seed', 'clip_skip', 'strength', 'variation_seed', 'variation_strength',
    'hires_scale', 'hires_steps', 'eta', 'cfg_rescale']);
const schedules = ['Karras', 'Exponential', 'SGM Uniform'];

/* "Steps: 20, Sampler: \"a, b\", ..." in pairs; a value in quotes may hold commas. */
export function settingPairs(line: string): [string, string][] {
    const pairs: [string, string][] = [];
    for (const m of line.matchAll(/\s*([\w ()/-]+):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)/g)) {
        let value = (m[2] ?? '').trim();
        if (value.startsWith('"')) {
            try {
                value = JSON.parse(value) as string;
            } catch {
                value = value.slice(1, -1);
            }
        }
        pairs.push([(m[1] ?? '').trim(), value]);
    }
    return pairs;
}

function put(values: Values, name: string, text: string): void {
    if (!numeric.has(name)) {
        if (text) values[name] = text;
        return;
    }
    const value = Number(text);
    if (text !== '' && Number.isFinite(value)) values[name] = value;
}

export function parseA1111(text: string): Values | null {
    const lines = text.replaceAll('\r\n', '\n').trim().split('\n');
    const last = lines.at(-1) ?? '';
    const settings = /(^|,\s*)Steps: \d+/.test(last) ? (lines.pop() ?? '') : '';
    if (!settings) return null;
    const negativeAt = lines.findIndex((line) => line.startsWith('Negative prompt:'));
    const values: Values = {};
    const prompt = lines.slice(0, negativeAt < 0 ? undefined : negativeAt).join('\n').trim();
    if (prompt) values.prompt = prompt;
    if (negativeAt >= 0) {
        const negative = lines.slice(negativeAt).join('\n').slice('Negative prompt:'.length).trim();
        if (negative) values.negative_prompt = negative;
    }
    for (const [key, value] of settingPairs(settings)) {
        const name = a1111Keys[key];
        if (name) put(values, name, value);
        const size = key === 'Size' ? /^(\d+)x(\d+)$/.exec(value) : null;
        if (size) {
            values.width = Number(size[1]);
            values.height = Number(size[2]);
        }
    }
    // Old files name the schedule behind the sampler.
    const sampler = String(values.sampler ?? '');
    for (const name of schedules) {
        if (!values.schedule && sampler.endsWith(` ${name}`)) {
            values.sampler = sampler.slice(0, -name.length - 1);
            values.schedule = name.toLowerCase().replace(' ', '_');
        }
    }
    return values;
}

interface ComfyNode {
    class_type?: string;
    inputs?: Values;
}

const comfySamplers: Record<string, string> = {
    euler: 'Euler', euler_ancestral: 'Euler a', heun: 'Heun', dpm_2: 'DPM2', dpm_2_ancestral: 'DPM2 a', lms: 'LMS',
    dpmpp_2s_ancestral: 'DPM++ 2S a', dpmpp_sde: 'DPM++ SDE', dpmpp_2m: 'DPM++ 2M', dpmpp_2m_sde: 'DPM++ 2M SDE',
    dpmpp_3m_sde: 'DPM++ 3M SDE', ddim: 'DDIM', ddpm: 'DDPM', uni_pc: 'UniPC', uni_pc_bh2: 'UniPC', lcm: 'LCM',
    ipndm: 'iPNDM', deis: 'DEIS', er_sde: 'ER-SDE', res_multistep: 'RES multistep',
};
const comfySchedules: Record<string, string> = { normal: 'uniform' };

/* Follows links of a ComfyUI graph backwards from the sampler: the words, the size and the model that it really used. */
export function parseComfy(text: string): Values | null {
    let graph: Record<string, ComfyNode>;
    try {
        graph = JSON.parse(text) as Record<string, ComfyNode>;
    } catch {
        return null;
    }
    if (typeof graph !== 'object' || graph === null) return null;
    const node = (link: unknown): ComfyNode | undefined => (Array.isArray(link) ? graph[String(link[0])] : undefined);
    const sampler = Object.values(graph).find((n) => /KSampler/.test(n?.class_type ?? ''));
    if (!sampler?.inputs) return null;
    const inputs = sampler.inputs;
    const number = (value: unknown): number | undefined => {
        if (typeof value === 'number') return value;
        const from = node(value)?.inputs;
        const found = from?.value ?? from?.seed ?? from?.noise_seed;
        return typeof found === 'number' ? found : undefined;
    };
    // The nearest node that holds words; conditioning may pass through others on its way.
    // A node is visited once: graphs of strangers may go in circles.
    const words = (link: unknown, seen = new Set<ComfyNode>()): string | undefined => {
        const n = node(link);
        if (!n?.inputs || seen.has(n)) return undefined;
        seen.add(n);
        for (const key of ['text', 'text_g', 'string', 'value', 'prompt']) {
            const value = n.inputs[key];
            if (typeof value === 'string') return value;
            if (Array.isArray(value)) {
                const found = words(value, seen);
                if (found !== undefined) return found;
            }
        }
        for (const value of Object.values(n.inputs)) {
            const found = Array.isArray(value) ? words(value, seen) : undefined;
            if (found !== undefined) return found;
        }
        return undefined;
    };
    const upstream = (link: unknown, match: (n: ComfyNode) => boolean, seen = new Set<ComfyNode>()): ComfyNode | undefined => {
        const n = node(link);
        if (!n || seen.has(n)) return undefined;
        seen.add(n);
        if (match(n)) return n;
        for (const key of ['model', 'samples', 'latent_image', 'latent']) {
            const found = upstream(n.inputs?.[key], match, seen);
            if (found) return found;
        }
        return undefined;
    };
    const values: Values = {};
    const set = (name: string, value: unknown): void => {
        if (value !== undefined && value !== '') values[name] = value;
    };
    set('prompt', words(inputs.positive));
    set('negative_prompt', words(inputs.negative));
    set('steps', number(inputs.steps));
    set('cfg_scale', number(inputs.cfg));
    set('seed', number(inputs.seed ?? inputs.noise_seed));
    const denoise = number(inputs.denoise);
    if (denoise !== undefined && denoise < 1) values.strength = denoise;
    if (typeof inputs.sampler_name === 'string') set('sampler', comfySamplers[inputs.sampler_name] ?? inputs.sampler_name);
    if (typeof inputs.scheduler === 'string') set('schedule', comfySchedules[inputs.scheduler] ?? inputs.scheduler);
    const latent = upstream(inputs.latent_image, (n) => typeof n.inputs?.width === 'number');
    set('width', latent?.inputs?.width);
    set('height', latent?.inputs?.height);
    const model = upstream(inputs.model, (n) => typeof (n.inputs?.ckpt_name ?? n.inputs?.unet_name) === 'string');
    const file = model?.inputs?.ckpt_name ?? model?.inputs?.unet_name;
    if (typeof file === 'string') values.model = file.replace(/^.*[\\/]/, '').replace(/\.(safetensors|ckpt|gguf|sft)$/, '');
    return Object.keys(values).length > 0 ? values : null;
}

const invokeSamplers: Record<string, string> = {
    euler: 'Euler', euler_k: 'Euler', euler_a: 'Euler a', dpmpp_2m: 'DPM++ 2M', dpmpp_2m_k: 'DPM++ 2M', dpmpp_2s: 'DPM++ 2S a',
    dpmpp_sde: 'DPM++ SDE', dpmpp_sde_k: 'DPM++ SDE', dpmpp_2m_sde: 'DPM++ 2M SDE', dpmpp_2m_sde_k: 'DPM++ 2M SDE', ddim: 'DDIM',
    ddpm: 'DDPM', heun: 'Heun', heun_k: 'Heun', lms: 'LMS', lms_k: 'LMS', pndm: 'PNDM', unipc: 'UniPC', unipc_k: 'UniPC',
    kdpm_2: 'DPM2', kdpm_2_k: 'DPM2', kdpm_2_a: 'DPM2 a', kdpm_2_a_k: 'DPM2 a', lcm: 'LCM', tcd: 'TCD', deis: 'DEIS',
};

export function parseInvoke(text: string): Values | null {
    let record: Values;
    try {
        record = JSON.parse(text) as Values;
    } catch {
        return null;
    }
    if (typeof record !== 'object' || record === null) return null;
    // "sd-metadata" of the old versions keeps the same under "image".
    const image = (record.image ?? record) as Values;
    const values: Values = {};
    const set = (name: string, value: unknown, type: 'string' | 'number'): void => {
        if (typeof value === type && value !== '') values[name] = value;
    };
    const prompt = image.positive_prompt ?? image.prompt;
    set('prompt', Array.isArray(prompt) ? (prompt[0] as Values | undefined)?.prompt : prompt, 'string');
    set('negative_prompt', image.negative_prompt, 'string');
    set('seed', image.seed, 'number');
    set('steps', image.steps, 'number');
    set('cfg_scale', image.cfg_scale, 'number');
    set('cfg_rescale', image.cfg_rescale_multiplier || undefined, 'number');
    set('width', image.width, 'number');
    set('height', image.height, 'number');
    set('strength', image.strength, 'number');
    if (typeof image.clip_skip === 'number' && image.clip_skip > 0) values.clip_skip = image.clip_skip + 1;
    const model = image.model as Values | string | undefined;
    set('model', typeof model === 'object' ? (model?.name ?? model?.model_name) : (model ?? record.model_weights), 'string');
    const sampler = String(image.scheduler ?? image.sampler ?? '').replace(/^k_/, '');
    if (sampler) {
        values.sampler = invokeSamplers[sampler] ?? sampler;
        if (sampler.endsWith('_k')) values.schedule = 'karras';
    }
    return Object.keys(values).length > 0 ? values : null;
}

/* What a picture says about its making, or null. */
export async function readPicture(bytes: Uint8Array): Promise<Found | null> {
    const texts = await pngTexts(bytes);
    const tries: [Origin, string | undefined, (text: string) => Values | null][] = [
        ['a1111', texts.parameters, parseA1111],
        ['invokeai', texts.invokeai_metadata ?? texts['sd-metadata'], parseInvoke],
        ['comfyui', texts.prompt, parseComfy],
    ];
    for (const [origin, text, parse] of tries) {
        const values = text === undefined ? null : parse(text);
        if (values) return { origin, values };
    }
    return null;
}
