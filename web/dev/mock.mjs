// SPDX-License-Identifier: MIT
// A stand-in for `limn serve`, for work on the studio alone: the routes of docs/API.md with made-up pictures and
// answers, nothing kept on disk. Development only; the tests of tests/web run against the real server.
//
//     node dev/mock.mjs [port] [--speed 0.3] [--pictures 200]
import { createHash, randomUUID } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { readFileSync, existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crc32, deflateSync } from './png.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..');
const arg = (name, fallback) => {
    const at = process.argv.indexOf(name);
    return at < 0 ? fallback : Number(process.argv[at + 1]);
};
const port = Number(process.argv[2] ?? 7860) || 7860;
const stepMs = 1000 * arg('--speed', 0.25);

const schema = JSON.parse(execFileSync(join(root, 'build', 'limn'), ['schema']));
const notes = new Map();
for (const line of readFileSync(join(root, 'docs', 'PARAMETERS.md'), 'utf8').split('\n')) {
    const cell = line.split('|').map((s) => s.trim());
    if (cell.length > 7 && cell[1].startsWith('`')) notes.set(cell[1].slice(1, -1), cell);
}
const lists = { model: 'model', refiner: 'model', vae: 'vae', sampler: 'sampler', hires_sampler: 'sampler',
    schedule: 'schedule', upscaler: 'upscaler', hires_upscaler: 'upscaler', loras: 'lora', styles: 'style',
    embeddings: 'embedding' };
const params = Object.entries(schema.properties).map(([name, p]) => ({
    name,
    type: p.enum ? 'enum' : { string: 'text', integer: 'int', number: 'real', boolean: 'bool', array: 'list' }[p.type],
    group: p['x-group'], help: p.description, unit: null, default: p.default ?? null,
    default_note: p.default === undefined ? (notes.get(name)?.[4] || null) : null,
    min: p.minimum ?? null, max: p.maximum ?? null, multiple: p.multipleOf ?? null, words: p.enum ?? [],
    list: lists[name] ?? null,
    ui: p['x-ui-min'] === undefined ? null : { min: p['x-ui-min'], max: p['x-ui-max'], step: p['x-ui-step'] },
    aliases: (notes.get(name)?.[6] ?? '').split(', ').filter(Boolean),
    flags: [/^(init_image|mask)$/.test(name) ? 'image' : '',
        /integer|number/.test(p.type) || lists[name] ? 'axis' : ''].filter(Boolean),
}));
const names = (text) => text.map(([name, help]) => ({ name, aliases: [], help }));
const samplers = names([['DPM++ 2M', 'second-order multistep; the usual choice'], ['Euler', 'first order, the plainest'],
    ['Euler a', 'fresh noise at every step; does not settle'], ['DDIM', 'deterministic at eta 0'],
    ['UniPC', 'predictor-corrector; good with few steps']]);
const schedules = names(schema.properties.schedule.examples.map((n) => [n, '']));
const upscalers = names([['Lanczos', 'sharp resampling'], ['Nearest', 'hard pixels'], ['Latent', 'in the latent']]);

const jobs = new Map();
const artifacts = new Map();
const events = [];
const listeners = new Set();
const started = Date.now();
let settings = { default_model: 'limn-mini', queue_depth: 256, history_days: 0, history_jobs: 0, paused: false,
    log_prompts: false };
let studio = {};
let working = false;

function png(width, height, at) {
    const rows = Buffer.alloc((width * 3 + 1) * height);
    for (let y = 0, o = 0; y < height; y++) {
        o++;
        for (let x = 0; x < width; x++) {
            const c = at(x / width, y / height);
            rows[o++] = c[0]; rows[o++] = c[1]; rows[o++] = c[2];
        }
    }
    const chunk = (type, data) => {
        const b = Buffer.alloc(12 + data.length);
        b.writeUInt32BE(data.length, 0); b.write(type, 4, 'latin1'); data.copy(b, 8);
        b.writeUInt32BE(crc32(b.subarray(4, 8 + data.length)) >>> 0, 8 + data.length);
        return b;
    };
    const head = Buffer.alloc(13);
    head.writeUInt32BE(width, 0); head.writeUInt32BE(height, 4); head[8] = 8; head[9] = 2;
    return Buffer.concat([Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]), chunk('IHDR', head),
        chunk('IDAT', deflateSync(rows)), chunk('IEND', Buffer.alloc(0))]);
}
function rand(seed) {
    let s = Number(BigInt(seed) & 0xffffffffn) || 7;
    return () => ((s = (Math.imul(s, 1664525) + 1013904223) >>> 0) / 4294967296);
}
// A landscape at some hour: sky, sun, four ranges of hills.
function scene(seed, clear = 1) {
    const r = rand(seed), hue = r(), sx = 0.2 + 0.6 * r(), sy = 0.2 + 0.25 * r();
    const hills = [0, 1, 2, 3].map((i) => [0.45 + 0.13 * i, 2 + 5 * r(), 6.3 * r(), 5 + 9 * r(), 6.3 * r()]);
    const hsl = (h, s, l) => [0, 8, 4].map((n) => {
        const k = (n + h * 12) % 12;
        return 255 * (l - s * Math.min(l, 1 - l) * Math.max(-1, Math.min(k - 3, 9 - k, 1)));
    });
    const noise = rand(seed + 1);
    return (x, y) => {
        let c = hsl((hue + 0.12 * y) % 1, 0.45, 0.42 + 0.42 * y);
        const d = Math.hypot(x - sx, y - sy);
        if (d < 0.08) c = hsl(0.12, 0.8, 0.88);
        else c = c.map((v, i) => v + (40 - 12 * i) * Math.exp(-d * 6));
        hills.forEach(([base, f, p, g, q], i) => {
            const edge = base + 0.06 * Math.sin(f * x + p) + 0.02 * Math.sin(g * x + q);
            if (y > edge) c = hsl((hue + 0.55) % 1, 0.3, 0.42 - 0.09 * i + 0.05 * (y - edge));
        });
        return c.map((v) => Math.max(0, Math.min(255, v * clear + (1 - clear) * (60 + 150 * noise()))));
    };
}
const sha = (b) => createHash('sha256').update(b).digest('hex');
function keep(bytes, mime, more) {
    const id = sha(bytes);
    const a = { id, role: 'result', index: 0, mime, width: 0, height: 0, bytes: bytes.length, seed: null,
        url: `/v1/artifacts/${id}/file`, thumbnail: `/v1/artifacts/${id}/thumbnail`, ...more };
    artifacts.set(id, { a, bytes, recipe: more.recipe ?? null });
    delete a.recipe;
    return a;
}
function emit(type, job, more) {
    const e = { id: String(events.length + 1), type, job, time: Date.now(), ...more };
    events.push(e);
    for (const l of listeners) l(e);
}
const active = () => [...jobs.values()].filter((j) => j.state === 'queued').sort((a, b) => a.created - b.created);
function place() {
    active().forEach((j, i) => { j.position = i; j.left_ms = (i + 1) * 20 * stepMs; });
}
const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
async function work() {
    if (working) return;
    working = true;
    for (let job; !settings.paused && (job = active()[0]);) {
        job.state = 'running'; job.started = Date.now(); job.position = null;
        place();
        emit('started', job.id, { state: job });
        try {
            if (job.kind === 'see') await look(job);
            else if (!/load/.test(job.kind)) await draw(job);
        } catch (e) {
            job.error = { type: 'server_error', code: 'internal_error', param: null, message: String(e) };
        }
        job.state = job.cancel ? 'cancelled' : job.error ? 'failed' : 'succeeded';
        job.finished = Date.now(); job.left_ms = null;
        if (job.state === 'succeeded' && job.progress) job.progress.fraction = 1;
        emit('done', job.id, { state: job });
    }
    working = false;
}
async function draw(job) {
    const p = job.params, w = p.width ?? 512, h = p.height ?? 512, steps = p.steps ?? 20;
    const total = (p.count ?? 1) * (p.batch_size ?? 1);
    if (/fail/.test(p.prompt ?? '')) {
        await sleep(500);
        job.error = { type: 'server_error', code: 'out_of_memory', param: null,
            message: 'this drawing needs 9.1 GB and 4.0 GB are free: draw smaller, or turn on vae_tiling' };
        return;
    }
    for (let i = 0; i < total; i++) {
        const seed = Number(p.seed) + i;
        for (let s = 1; s <= steps; s++) {
            await sleep(stepMs);
            if (job.cancel) return;
            const fraction = (i + s / steps) / total;
            job.progress = { stage: 'denoise', image: i, images: total, step: s, steps, fraction,
                left_ms: Math.round((1 - fraction) * total * steps * stepMs), tokens: 0 };
            job.left_ms = job.progress.left_ms;
            emit('progress', job.id, { progress: job.progress });
            if (s % 2 === 0) {
                emit('preview', job.id, { image: i, step: s, mime: 'image/png', width: 64, height: Math.round(64 * h / w),
                    data: png(64, Math.round(64 * h / w), scene(seed, s / steps)).toString('base64') });
            }
        }
        const a = keep(png(w, h, scene(seed)), 'image/png', { index: i, width: w, height: h, seed,
            recipe: { ...p, seed, count: 1, batch_size: 1 } });
        job.artifacts.push(a);
        emit('artifact', job.id, { artifact: a });
    }
}
async function look(job) {
    const answer = /find|point|where|json/i.test(job.params.prompt)
        ? '```json\n[{"bbox_2d": [180, 140, 420, 460], "label": "sun"}, {"bbox_2d": [20, 560, 980, 990], "label": "hills"},\n'
          + ' {"point_2d": [300, 300], "label": "centre of the sun"}]\n```'
        : 'The picture shows a **quiet landscape** under a wide sky.\n\n- In front: dark hills\n- Behind: a low sun\n\n'
          + '| part | colour |\n|---|---|\n| sky | pale |\n| hills | deep |\n\nThe sun\'s box is `[180, 140, 420, 460]`.';
    let n = 0, text = '';
    for (const piece of answer.match(/\s*\S+/g)) {
        await sleep(40);
        if (job.cancel) return;
        text += piece;
        job.progress = { stage: 'write', image: 0, images: 1, step: n, steps: 0, fraction: 0.5, left_ms: null, tokens: ++n };
        emit('token', job.id, { text: piece, tokens: n });
    }
    job.result = { text, finish_reason: 'stop', usage: { prompt_tokens: 300, image_tokens: 256, cached_tokens: 0, completion_tokens: n } };
}
function submit(kind, body) {
    const { job: options = {}, ...p } = body;
    if (!/see|load/.test(kind) && (p.seed === undefined || p.seed < 0)) p.seed = Math.floor(Math.random() * 2 ** 48);
    const input = [p.init_image, p.image, ...(p.images ?? [])].filter((x) => x?.startsWith('artifact:'))
        .map((x) => ({ ...artifacts.get(x.slice(9)).a, role: 'input' }));
    const job = { id: randomUUID(), kind, state: 'queued', title: p.prompt ?? '', tags: options.tags ?? [], owner: '', source: 'native', parent: null,
        priority: options.priority ?? 0, attempt: 1, model: '', seed: p.seed ?? null, images: 1, created: Date.now(), started: null, finished: null, position: 0,
        left_ms: null, progress: null, params: p, artifacts: input, result: null, error: null };
    jobs.set(job.id, job);
    place();
    emit('queued', job.id, { state: job });
    setTimeout(work, 60);
    return job;
}
const fail = (status, code, message, param = null) => Object.assign(new Error(message), { status, code, param });
const list = (data) => ({ data, next: null });
function page(all, url) {
    const limit = Math.min(200, Number(url.searchParams.get('limit') ?? 50));
    const at = Number(url.searchParams.get('after') ?? 0);
    return { data: all.slice(at, at + limit), next: at + limit < all.length ? String(at + limit) : null };
}
function stream(req, res, url, only) {
    res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    const previews = url.searchParams.get('previews') !== '0';
    const send = (e) => {
        if (only && e.job !== only) return;
        if (!previews && e.type === 'preview') return;
        res.write(`id: ${e.id}\nevent: ${e.type}\ndata: ${JSON.stringify(e)}\n\n`);
    };
    const after = req.headers['last-event-id'] ?? url.searchParams.get('after');
    res.write(': hello\n\n');
    if (after) events.filter((e) => Number(e.id) > Number(after) && e.type !== 'preview').forEach(send);
    listeners.add(send);
    res.on('close', () => listeners.delete(send));
}
async function route(req, url, body, res) {
    const path = url.pathname, json = () => JSON.parse(body.toString() || '{}');
    const key = `${req.method} ${path}`;
    let m;
    if (/^POST \/v1\/(draw|edit|upscale|see)$/.test(key)) {
        const kind = path === '/v1/edit' ? 'draw' : path.slice(4), b = json();
        for (const name of Object.keys(b)) {
            if (kind !== 'draw') break;
            if (name !== 'job' && !params.some((p) => p.name === name)) throw fail(400, 'unknown_field', `/${name}: not a parameter`, name);
            const p = params.find((q) => q.name === name);
            if (p?.max != null && b[name] > p.max) throw fail(400, 'value_out_of_range', `/${name}: ${b[name]} is above ${p.max}`, name);
        }
        return [202, { job: submit(kind, b) }];
    }
    if (key === 'GET /v1/jobs') {
        let all = [...jobs.values()].sort((a, b) => b.created - a.created);
        const state = url.searchParams.get('state')?.split(','), kind = url.searchParams.get('kind')?.split(',');
        const q = url.searchParams.get('q')?.toLowerCase();
        if (state) all = all.filter((j) => state.includes(j.state));
        if (kind) all = all.filter((j) => kind.includes(j.kind));
        if (q) all = all.filter((j) => JSON.stringify(j.params).toLowerCase().includes(q));
        const p = page(all, url);
        return [200, { ...p, data: p.data.map((j) => ({ ...j, params: null })) }];
    }
    if (key === 'POST /v1/jobs/cancel') {
        for (const j of active()) {
            j.state = 'cancelled'; j.finished = Date.now(); j.position = null;
            emit('done', j.id, { state: j });
        }
        return [200, { cancelled: 1 }];
    }
    if ((m = path.match(/^\/v1\/jobs\/([\w-]+)(\/\w+)?$/))) {
        const job = jobs.get(m[1]);
        if (!job) throw fail(404, 'job_not_found', 'no such job');
        if (m[2] === '/events') return stream(req, res, url, job.id);
        if (m[2] === '/cancel') {
            if (job.finished) throw fail(409, 'job_finished', 'the job has ended');
            job.cancel = true;
            if (job.state === 'queued') {
                job.state = 'cancelled'; job.finished = Date.now(); job.position = null;
                emit('done', job.id, { state: job });
            }
            return [200, { job }];
        }
        if (req.method === 'DELETE') {
            jobs.delete(job.id);
            for (const a of job.artifacts) artifacts.delete(a.id);
            return [204, null];
        }
        return [200, { job }];
    }
    if (key === 'GET /v1/events') return stream(req, res, url, null);
    if ((m = path.match(/^\/v1\/artifacts\/([0-9a-f]{64})(\/\w+)?$/))) {
        const x = artifacts.get(m[1]);
        if (!x) throw fail(404, 'artifact_not_found', 'no such artifact');
        if (m[2]) {
            res.writeHead(200, { 'Content-Type': x.a.mime, 'Cache-Control': 'immutable, max-age=31536000' });
            res.end(x.bytes);
            return null;
        }
        return [200, { artifact: x.a, recipe: x.recipe, text: x.recipe ? `${x.recipe.prompt}\nSteps: 20` : null }];
    }
    if (key === 'POST /v1/uploads') {
        const w = body.readUInt32BE(16), h = body.readUInt32BE(20);
        const a = keep(body, req.headers['content-type'], { width: w, height: h });
        return [201, { artifact: a, recipe: null, text: null, unknown: '' }];
    }
    if (key === 'POST /v1/recipe') return [200, { recipe: null, text: null, unknown: '', width: 1, height: 1, mime: 'image/png' }];
    if (key === 'GET /v1/params') return [200, { groups: [...new Set(params.map((p) => p.group))], data: params }];
    if (key === 'POST /v1/params/parse') {
        const p = {};
        for (const [, k, v] of json().text.matchAll(/(Steps|Seed|CFG scale): ([\d.]+)/g)) p[{ Steps: 'steps', Seed: 'seed', 'CFG scale': 'cfg_scale' }[k]] = Number(v);
        p.prompt = json().text.split('\n')[0];
        return [200, { params: p, unknown: '' }];
    }
    if (key === 'POST /v1/params/check') return [200, { ok: true, params: json() }];
    if (key === 'GET /v1/samplers') return [200, list(samplers)];
    if (key === 'GET /v1/schedules') return [200, list(schedules)];
    if (key === 'GET /v1/upscalers') return [200, list(upscalers)];
    if (key === 'GET /v1/loras') return [200, list([{ name: 'brushwork', bytes: 37e6, modified: started }, { name: 'line-art', bytes: 18e6, modified: started }])];
    if (key === 'GET /v1/vaes' || key === 'GET /v1/embeddings') return [200, list([])];
    if (key === 'GET /v1/styles') return [200, list([{ name: 'Etching', prompt: '{prompt}, etching, fine lines', negative_prompt: 'colour' },
        { name: 'Watercolour', prompt: '{prompt}, watercolour, wet paper', negative_prompt: '' }])];
    const model = (id, kind, bytes, d) => ({ id, object: 'model', created: 1763865000, owned_by: 'limn', kind, bytes, loaded: d, default: d });
    const models = [model('limn-mini', 'draw', 42e6, true), model('sd15/dreamlike', 'draw', 4.27e9, false), model('limn-mini-see', 'see', 30e6, false)];
    if (key === 'GET /v1/models') return [200, { object: 'list', next: null, data: models }];
    if (/^GET \/v1\/models\/.+\/info$/.test(key)) return [200, { family: 'sd1', tensors: 686, license: 'MIT' }];
    if (key === 'POST /v1/models/load') return [202, { job: submit('load', json()) }];
    if (key === 'POST /v1/models/unload') return [202, { job: submit('unload', {}) }];
    if (key === 'POST /v1/models/refresh') return [200, {}];
    if (key === 'POST /v1/tokens') {
        const t = json().text.match(/\w+|[^\w\s]/g) ?? [];
        return [200, { count: t.length, limit: 75, chunks: Math.max(1, Math.ceil(t.length / 75)), tokens: t.map((text, id) => ({ id, text })) }];
    }
    if (key === 'GET /v1/system') {
        return [200, { version: '0.1.0', time: Date.now(), started, state: 'ready', backend: 'cpu', cores: 8, isa: ['avx2', 'fma'],
            memory: { total: 33554432000, available: 21e9 + 1e9 * Math.sin(Date.now() / 9000), rss: 812e6, limit: null },
            queue: { queued: active().length, running: working ? 1 : 0, depth_limit: 256, paused: settings.paused },
            model: { id: 'limn-mini', kind: 'draw' }, clients: { sse: listeners.size, ws: 0 },
            limits: { upload_bytes: 33554432, pixels: 67108864, images_per_job: 64 } }];
    }
    if (key === 'GET /v1/settings') return [200, { settings, studio }];
    if (key === 'PATCH /v1/settings') { settings = { ...settings, ...json() }; setTimeout(work, 10); return [200, { settings, studio }]; }
    if (key === 'PUT /v1/settings/studio') { studio = json(); return [204, null]; }
    if (path === '/v1/session') return [200, { auth: 'off', signed_in: true, owner: 'local', scopes: ['read', 'infer', 'admin'], version: '0.1.0' }];
    if (path.startsWith('/v1')) throw fail(404, 'unknown_route', `no route ${path}`);
    return file(path, res);
}
const types = { '.js': 'text/javascript', '.css': 'text/css', '.html': 'text/html', '.svg': 'image/svg+xml', '.woff2': 'font/woff2',
    '.json': 'application/json', '.webmanifest': 'application/manifest+json' };
function file(path, res) {
    const at = join(here, '..', 'dist', path);
    const name = path !== '/' && !path.includes('..') && existsSync(at) ? at : join(here, '..', 'dist', 'index.html');
    res.writeHead(200, { 'Content-Type': types[extname(name)] ?? 'application/octet-stream',
        'Content-Security-Policy': "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; style-src 'self'; "
        + "script-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'" });
    res.end(readFileSync(name));
    return null;
}
for (let i = 0; i < arg('--pictures', 0); i++) {
    const seed = 1000 + i * 77, p = { prompt: `a quiet valley, hour ${i}`, steps: 20, seed, width: 128, height: i % 3 ? 128 : 96, cfg_scale: 7 };
    const job = { id: randomUUID(), kind: 'draw', state: 'succeeded', title: p.prompt, tags: [], owner: '', source: 'native', parent: null, priority: 0, attempt: 1, model: '', seed, images: 1, created: started - i * 600000,
        started: started - i * 600000, finished: started - i * 600000, position: null, left_ms: null, progress: null, params: p,
        artifacts: [], result: null, error: null };
    job.artifacts.push(keep(png(p.width, p.height, scene(seed)), 'image/png', { width: p.width, height: p.height, seed, recipe: p }));
    jobs.set(job.id, job);
}
createServer((req, res) => {
    const parts = [];
    req.on('data', (d) => parts.push(d));
    req.on('end', async () => {
        try {
            const out = await route(req, new URL(req.url, 'http://x'), Buffer.concat(parts), res);
            if (!out) return;
            res.writeHead(out[0], { 'Content-Type': 'application/json', 'X-Request-Id': 'r-mock' });
            res.end(out[1] === null ? '' : JSON.stringify(out[1]));
        } catch (e) {
            res.writeHead(e.status ?? 500, { 'Content-Type': 'application/json' });
            res.end(JSON.stringify({ error: { type: 'invalid_request_error', code: e.code ?? 'internal_error', param: e.param ?? null, message: e.message, request_id: 'r-mock' } }));
        }
    });
}).listen(port, '127.0.0.1', () => console.log(`mock on http://127.0.0.1:${port}`));
