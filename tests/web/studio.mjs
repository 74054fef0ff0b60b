// SPDX-License-Identifier: MIT
// The studio in Debian's Chromium against a real `limn serve` with small models:
//
//     node tests/web/studio.mjs [--limn build/limn] [--models FOLDER] [name ...]
//
// Run by `make test-web`. Each test leaves the page usable for the next; each begins on a screen of its own.
import { readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deflateSync } from 'node:zlib';
import { drawTests } from './draw.mjs';
import { editTests } from './edit.mjs';
import { check, freePort, same, Server, shelf, Suite, until } from './lib.mjs';
import { seeTests } from './see.mjs';
import { wholeTests } from './whole.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const require = createRequire(join(root, 'web', 'package.json'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const args = process.argv.slice(2);
const option = (name, fallback) => {
    const at = args.indexOf(name);
    return at < 0 ? fallback : args.splice(at, 2)[1];
};
const binary = option('--limn', join(root, 'build', 'limn'));
const models = option('--models', process.env.LIMN_MODELS ?? join(root, 'models'));
const page_url = option('--page', '');

const library = shelf(models);
const server = new Server(binary, await freePort(), ['--models-dir', library], { LIMN_MODELS: library });
await server.start();
const base = page_url || server.url;
const suite = new Suite(args);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
// A machine that does something else for a while is no fault of the page.
const opened = browser.newContext.bind(browser);
browser.newContext = async (options) => {
    const made = await opened(options);
    made.setDefaultTimeout(180000);
    return made;
};
const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, acceptDownloads: true });
// axe is brought in by the debugger, past the policy that the page itself lives under.
const page = await context.newPage();
const problems = [];
const watch = (p) => {
    p.on('console', (m) => { if (m.type() === 'error' && !/ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_INCOMPLETE_CHUNKED|Failed to load resource|ERR_NETWORK|ERR_CONNECTION_RESET/.test(m.text())) problems.push(m.text()); });
    p.on('pageerror', (e) => problems.push(String(e)));
};
watch(page);
/* An error that a test has caused and the page has told. */
const excuse = (what) => {
    const at = problems.findIndex((x) => what.test(x));
    check(at >= 0, `the page did not log ${what}`);
    problems.splice(at, 1);
};
/* What the page has written down of edits, conversations or grids. */
const kept = (shelf) => page.evaluate((name) => new Promise((done) => {
    const open = indexedDB.open('limn');
    open.onsuccess = () => { const all = open.result.transaction(name).objectStore(name).getAll(); all.onsuccess = () => done(all.result); };
}), shelf);

const api = async (path, body) => {
    // A connection that was kept may have been closed by the server while everything stood still: asking again is safe.
    const answer = await fetch(server.url + path, body === undefined ? {} : { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }).catch((e) => {
        if (body !== undefined) throw e;
        return fetch(server.url + path);
    });
    check(answer.ok, `${path}: ${answer.status} ${await answer.clone().text()}`);
    return answer.json();
};
const jobs = async (query = '') => (await api(`/v1/jobs?limit=200${query}`)).data;
const picture = async () => {
    const made = await api('/v1/draw?wait=120', { prompt: 'a red apple', steps: 4, seed: 7 });
    same(made.job.state, 'succeeded', 'state of the drawing');
    return made.job;
};
const to = async (view) => {
    await page.goto(`${base}/#/${view}`);
    await page.waitForSelector('main');
};
const live = (p = page) => until('the page to be connected', () => p.evaluate(() => document.querySelectorAll('[data-param]').length > 3));
const stage = page.locator('[data-testid=stage-image]').first();
async function setNumber(name, value, p = page) {
    const field = p.locator(`[data-param=${name}] input[type=text]`).first();
    await field.fill(String(value));
    await field.press('Enter');
}
const finished = (count) => until(`${count} finished jobs`, async () => (await jobs('&state=succeeded')).length >= count);

await suite.test('the first screen is quick and nothing jumps', page, async () => {
    await page.addInitScript(() => {
        window.shift = 0;
        new PerformanceObserver((list) => { for (const e of list.getEntries()) if (!e.hadRecentInput) window.shift += e.value; }).observe({ type: 'layout-shift', buffered: true });
    });
    await page.goto(base);
    await live();
    await page.reload();
    await live();
    await until('the letters', () => page.evaluate(() => document.fonts.status === 'loaded'));
    const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 1e9);
    const shift = await page.evaluate(() => window.shift);
    const bytes = await page.evaluate(() => performance.getEntriesByType('resource').filter((r) => /assets/.test(r.name)).length);
    console.log(`   first paint ${paint.toFixed(0)} ms, layout shift ${shift.toFixed(4)}, ${bytes} files`);
    check(shift <= 0.001, `layout shift ${shift}`);
});

await suite.test('draw: a prompt becomes a picture, with previews on the way', page, async () => {
    await to('draw');
    await live();
    await page.fill('#prompt', 'a (red:1.2) apple');
    await until('a token count', () => page.locator('[data-testid=tokens]').isVisible());
    await setNumber('steps', 16);
    const before = (await jobs()).length;
    await page.locator('#prompt').press('Control+Enter');
    await until('a preview', async () => /^data:image/.test((await stage.getAttribute('src', { timeout: 100 }).catch(() => '')) ?? ''), 90000);
    await until('the picture', async () => /^\/v1\/artifacts\//.test((await stage.getAttribute('src').catch(() => '')) ?? '') && !(await page.locator('[data-testid=cancel]').isVisible()), 120000);
    const made = await jobs();
    same(made.length, before + 1, 'number of jobs');
    same(made[0].state, 'succeeded', 'state');
    const full = (await api(`/v1/jobs/${made[0].id}`)).job;
    same([full.params.prompt, full.params.steps], ['a (red:1.2) apple', 16], 'parameters');
});

await suite.test('draw: an error names what is wrong and loses nothing', page, async () => {
    await page.goto(`${base}/icon.svg`);
    await page.evaluate(() => {
        const d = JSON.parse(localStorage.getItem('limn.draft'));
        localStorage.setItem('limn.draft', JSON.stringify({ ...d, sampler: 'No such sampler' }));
    });
    await to('draw');
    await live();
    await page.click('[data-testid=draw]');
    await until('the error', async () => /No such sampler|sampler/.test(await page.locator('.failure').innerText().catch(() => '')));
    same(await page.inputValue('#prompt'), 'a (red:1.2) apple', 'prompt');
    await page.locator('[data-param=sampler] .back').click();
});

await suite.test('draw: cancel ends a running drawing', page, async () => {
    await to('draw');
    await live();
    await setNumber('steps', 400);
    await page.click('[data-testid=draw]');
    await until('it to run', async () => (await jobs('&state=running')).length === 1);
    await page.click('[data-testid=cancel]');
    await until('it to be cancelled', async () => (await jobs())[0].state === 'cancelled', 30000);
    await until('the page to say so', () => page.getByText('Cancelled', { exact: true }).first().isVisible());
});

await suite.test('draw: a reload finds the drawing again', page, async () => {
    await to('draw');
    await live();
    await setNumber('steps', 60);
    await page.click('[data-testid=draw]');
    await until('it to run', async () => (await jobs('&state=running')).length === 1);
    await until('progress before', async () => /step \d+ of 60/.test(await page.locator('.under').innerText()));
    await page.reload();
    await live();
    await until('progress', async () => /step \d+ of 60/.test(await page.locator('.under').innerText()));
    await until('the picture', async () => (await jobs())[0].state === 'succeeded', 180000);
    await until('it on the stage', async () => /^\/v1\/artifacts\//.test((await stage.getAttribute('src').catch(() => '')) ?? '') && !(await page.locator('[data-testid=cancel]').isVisible()));
    same(await page.inputValue('#prompt'), 'a (red:1.2) apple', 'prompt after reload');
});

await suite.test('draw: history, weights, presets and reset', page, async () => {
    await to('draw');
    await live();
    await page.fill('#prompt', 'a blue boat');
    await setNumber('steps', 4);
    await page.locator('#prompt').press('Control+Enter');
    await until('the picture', async () => { const [j] = await jobs(); return j.title.includes('boat') && j.state === 'succeeded'; });
    await page.fill('#prompt', '');
    await page.locator('#prompt').press('ArrowUp');
    same(await page.inputValue('#prompt'), 'a blue boat', 'first step back');
    await page.locator('#prompt').press('ArrowUp');
    same(await page.inputValue('#prompt'), 'a (red:1.2) apple', 'second step back');
    await page.locator('#prompt').press('ArrowDown');
    same(await page.inputValue('#prompt'), 'a blue boat', 'step forward');
    await page.evaluate(() => document.querySelector('#prompt').setSelectionRange(3, 3));
    await page.locator('#prompt').press('Control+ArrowUp');
    same(await page.inputValue('#prompt'), 'a (blue:1.05) boat', 'weight');
    await page.getByRole('button', { name: 'Presets' }).click();
    await page.getByPlaceholder('Name of a new preset').fill('quick');
    await page.getByPlaceholder('Name of a new preset').press('Enter');
    await page.getByRole('button', { name: 'Put all settings back' }).click();
    check(!(await page.locator('[data-param=steps].set').isVisible()), 'steps are marked after the reset');
    await page.getByRole('button', { name: 'quick', exact: true }).click();
    check(await page.locator('[data-param=steps].set').isVisible(), 'the preset did not come back');
    await until('the preset on the server', async () => (await api('/v1/settings')).studio.presets?.[0]?.name === 'quick', 5000);
    await page.getByRole('searchbox', { name: 'Search settings' }).fill('hires sampler');
    check(await page.locator('[data-param=hires_sampler]').isVisible(), 'search does not find hires_sampler');
    await page.getByRole('searchbox', { name: 'Search settings' }).fill('');
});

await suite.test('draw: queue drawer shows places and cancels what waits', page, async () => {
    await to('draw');
    await live();
    await setNumber('steps', 80);
    for (let i = 0; i < 3; i++) await page.click('[data-testid=draw]');
    await until('three jobs', async () => (await jobs('&state=queued,running')).length === 3);
    await page.click('[data-testid=queue-button]');
    await until('two waiting', async () => /2 waiting/.test(await page.locator('[data-testid=queue]').innerText()));
    const waiting = async () => (await jobs('&state=queued')).sort((a, b) => a.position - b.position).map((j) => j.id);
    const order = await waiting();
    await page.locator('[data-testid=job-waiting] .handle').first().focus();
    await page.keyboard.press('ArrowDown');
    await until('the other order', async () => JSON.stringify(await waiting()) === JSON.stringify([...order].reverse()), 10000);
    const [upper, lower] = await Promise.all([0, 1].map((i) => page.locator('[data-testid=job-waiting] .handle').nth(i).boundingBox()));
    await page.mouse.move(lower.x + 5, lower.y + 10);
    await page.mouse.down();
    await page.mouse.move(upper.x + 5, upper.y + 8, { steps: 5 });
    await page.mouse.up();
    await until('the first order', async () => JSON.stringify(await waiting()) === JSON.stringify(order), 10000);
    await page.getByRole('button', { name: 'Cancel all' }).click({ noWaitAfter: true });
    await until('none waiting', async () => (await jobs('&state=queued')).length === 0);
    await page.locator('[data-testid=job-running]').getByRole('button', { name: 'Cancel' }).click();
    await until('none running', async () => (await jobs('&state=running')).length === 0);
    await page.keyboard.press('Escape');
});

await suite.test('draw: compare, vary and enlarge', page, async () => {
    for (const seed of [11, 12]) await api('/v1/draw?wait=120', { prompt: 'a red apple', steps: 2, seed });
    await to('draw');
    await live();
    await setNumber('steps', 4);
    await page.locator('.strip .thumb').first().click();
    await page.getByRole('button', { name: 'Compare' }).click();
    check(await page.getByRole('slider', { name: 'Where the pictures meet' }).isVisible(), 'no compare slider');
    await page.getByRole('button', { name: 'Compare' }).click();
    const before = (await jobs('&state=succeeded')).length;
    await page.getByRole('button', { name: 'Vary' }).click();
    await finished(before + 1);
    await page.locator('.strip .thumb').first().click();
    await page.getByRole('button', { name: 'Upscale' }).click();
    await until('the enlargement', async () => (await jobs('&kind=upscale&state=succeeded')).length === 1);
});

await drawTests({ suite, page, base, server, api, jobs, to, live, setNumber, context });

/* The corner of a picture, where it is marked. */
const tick = async (i) => {
    const box = await page.locator('.cell').nth(i).boundingBox();
    await page.mouse.click(box.x + box.width - 18, box.y + 18);
};

await suite.test('gallery: browse, search, tag, delete with undo, export', page, async () => {
    for (const [prompt, seed] of [['a yellow star', 1], ['a green tree', 2], ['a wooden canoe', 3]]) await api('/v1/draw?wait=120', { prompt, seed, steps: 2 });
    const made = await picture();
    await to('gallery');
    await until('pictures', async () => (await page.locator('.cell').count()) > 3);
    await page.getByRole('searchbox', { name: 'Search pictures' }).fill('wooden canoe');
    await until('the canoe alone', async () => (await page.locator('.cell').count()) === 1, 10000);
    await page.getByRole('searchbox', { name: 'Search pictures' }).fill('seed:7');
    await until('the one of seed 7', async () => (await page.locator('.list[data-query]').getAttribute('data-query')) === 'seed:7' && (await page.locator('.cell').count()) >= 1);
    await page.locator('.cell .open').first().click();
    await until('its settings', async () => /a red apple/.test(await page.locator('aside').innerText()));
    await page.getByLabel('Tags').fill('fruit, test');
    await page.locator('form').getByRole('button', { name: 'Save' }).click();
    await until('the tags', async () => JSON.stringify((await api(`/v1/jobs/${made.id}`)).job.tags) === '["fruit","test"]');
    await page.keyboard.press('Escape');
    await page.getByRole('searchbox', { name: 'Search pictures' }).fill('');
    await until('all', async () => (await page.locator('.cell').count()) > 3);
    const count = await page.locator('.cell').count();
    await tick(0);
    await tick(1);
    const wait = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Export as ZIP' }).click();
    const file = await (await wait).path();
    const zip = readFileSync(file);
    same(zip.readUInt32LE(0), 0x04034b50, 'ZIP signature');
    same(zip.readUInt16LE(zip.length - 12), 2, 'entries');
    await page.getByRole('button', { name: 'Delete', exact: true }).click();
    await until('two fewer', async () => (await page.locator('.cell').count()) < count);
    await page.getByRole('button', { name: 'Undo' }).last().click();
    await until('all again', async () => (await page.locator('.cell').count()) === count);
    const first = (await jobs('&state=succeeded'))[0].id;
    await tick(0);
    await page.getByRole('button', { name: 'Delete', exact: true }).click();
    await until('it to be gone', async () => !(await jobs()).some((j) => j.id === first), 15000);
    await page.getByRole('button', { name: 'Deleted lately' }).click();
    await page.locator('dialog[open]').getByRole('button', { name: 'Restore', exact: true }).first().click();
    await until('it to be back', async () => (await jobs()).some((j) => j.id === first), 15000);
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Filters' }).click();
    await page.locator('.filters input[inputmode=numeric]').fill('7');
    await page.locator('.filters input[inputmode=numeric]').press('Enter');
    same(await page.getByRole('searchbox', { name: 'Search pictures' }).inputValue(), 'seed:7', 'search text');
    await until('those of seed 7', () => page.evaluate(() => document.querySelector('.list[data-query]').dataset.query === 'seed:7'));
    await page.getByRole('button', { name: 'Clear search' }).first().click();
});

await suite.test('gallery: the key Delete takes the picture that has the focus, and Undo brings it back', page, async () => {
    await picture();
    await to('gallery');
    await page.locator('.cell').first().waitFor();
    const count = async () => Number(await page.locator('.list[data-query]').getAttribute('data-count'));
    const focused = () => page.evaluate(() => document.activeElement?.dataset?.at ?? '');
    const before = await until('the pictures', count);
    await page.locator('.list[data-query]').focus();
    for (const [key, at] of [['ArrowRight', '0'], ['ArrowRight', '1'], ['ArrowLeft', '0']]) {
        await page.keyboard.press(key);
        await until(`the focus on ${at}`, async () => (await focused()) === at);
    }
    await page.keyboard.press('Delete');
    await until('one less', async () => (await count()) === before - 1);
    await until('the focus on the next one', async () => (await focused()) === '0');
    await page.getByRole('button', { name: 'Undo' }).last().click();
    await until('all of them', async () => (await count()) === before);
});

await suite.test('gallery: search by words, model, seed, date and tags, alone and together', page, async () => {
    const bodies = [{ prompt: 'a silver teapot in snow', seed: 4711, job: { tags: ['kitchen', 'two words'] } }, { prompt: 'a silver kite', seed: 4712, job: { tags: ['sky'] } }, { prompt: 'teapot of clay', seed: 4711, job: { tags: ['kitchen'] } }];
    for (const b of bodies) same((await api('/v1/draw?wait=120', { steps: 1, ...b })).job.state, 'succeeded', 'state');
    const all = (await jobs('&state=succeeded&kind=draw,upscale,grid')).filter((j) => j.artifacts.length > 0);
    const model = all[0].model;
    const day = (by) => { const d = new Date(Date.now() + 86400000 * by); return `${d.getFullYear()}-${String(d.getMonth() + 1).padStart(2, '0')}-${String(d.getDate()).padStart(2, '0')}`; };
    await to('gallery');
    const count = async () => Number(await page.locator('.list[data-query]').getAttribute('data-count'));
    const field = page.getByRole('searchbox', { name: 'Search pictures' });
    /* Jobs that the search gives, as the history itself has them. */
    const finds = async (text, want) => {
        await field.fill(text);
        const pictures = all.filter(want).reduce((n, j) => n + j.artifacts.filter((a) => a.role === 'result' || a.role === 'sheet').length, 0);
        await until(`an answer to ${text}`, async () => (await page.locator('.list[data-query]').getAttribute('data-query')) === text, 10000);
        await until(`${pictures} pictures for ${text}`, async () => (await count()) === pictures, 10000).catch(async (e) => { throw new Error(`${e.message}: there are ${await count()}`); });
        return pictures;
    };
    same([await finds('teapot', (j) => /teapot/.test(j.title)), await finds('silver teapot', (j) => /silver teapot/.test(j.title)), await finds('SILVER', (j) => /silver/.test(j.title))], [2, 1, 2], 'by words');
    same(await finds('no such words', () => false), 0, 'by words that do not occur');
    same([await finds('seed:4711', (j) => j.seed === 4711), await finds('seed:4713', () => false)], [2, 0], 'by seed');
    check((await finds(`model:${model}`, (j) => j.model === model)) > 2, 'nothing by model');
    same(await finds('model:nothing-like-it', () => false), 0, 'by another model');
    same([await finds('tag:kitchen', (j) => j.tags.includes('kitchen')), await finds('tag:kitchen tag:"two words"', (j) => j.tags.includes('two words')), await finds('tag:none', () => false)], [2, 1, 0], 'by tags');
    check((await finds(`from:${day(-1)} to:${day(0)}`, () => true)) > 2, 'nothing by date');
    same([await finds(`to:${day(-1)}`, () => false), await finds(`from:${day(1)}`, () => false)], [0, 0], 'by other days');
    same([await finds('teapot seed:4711 tag:kitchen silver', (j) => /silver teapot/.test(j.title)), await finds('kite tag:kitchen', () => false)], [1, 0], 'together');
    await field.fill('');
});

await suite.test('gallery: one picture of several goes and comes back', page, async () => {
    const { job } = await api('/v1/draw?wait=120', { prompt: 'a yellow star', steps: 1, batch_size: 3, seed: 50 });
    const left = async () => (await api(`/v1/jobs/${job.id}`)).job.artifacts.filter((a) => a.role === 'result').map((a) => a.seed);
    await page.goto(`${base}/#/gallery/${job.id}/${job.artifacts[1].id}`);
    await page.locator('.look').waitFor();
    await page.locator('.look').getByRole('button', { name: 'Delete', exact: true }).click();
    await until('two left', async () => JSON.stringify(await left()) === '[50,52]', 10000);
    check(/#\/gallery\/./.test(page.url()), 'the next picture is not shown');
    await page.getByRole('button', { name: 'Undo' }).last().click();
    await until('three again', async () => JSON.stringify(await left()) === '[50,51,52]', 10000);
});

function pngWithText(key, text) {
    const table = Uint32Array.from({ length: 256 }, (_, n) => { let c = n; for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1; return c; });
    const crc = (b) => { let c = 0xffffffff; for (const x of b) c = table[(c ^ x) & 255] ^ (c >>> 8); return (c ^ 0xffffffff) >>> 0; };
    const chunk = (type, data) => {
        const b = Buffer.alloc(12 + data.length);
        b.writeUInt32BE(data.length, 0); b.write(type, 4, 'latin1'); data.copy(b, 8); b.writeUInt32BE(crc(b.subarray(4, 8 + data.length)), 8 + data.length);
        return b;
    };
    const head = Buffer.alloc(13);
    head.writeUInt32BE(8, 0); head.writeUInt32BE(8, 4); head[8] = 8; head[9] = 2;
    return Buffer.concat([Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]), chunk('IHDR', head), chunk('tEXt', Buffer.from(`${key}\0${text}`)), chunk('IDAT', deflateSync(Buffer.alloc(25 * 8))), chunk('IEND', Buffer.alloc(0))]);
}
async function drop(selector, name, bytes, kind = 'image/png') {
    const data = await page.evaluateHandle(([n, b64, type]) => {
        const d = new DataTransfer();
        d.items.add(new File([Uint8Array.from(atob(b64), (c) => c.charCodeAt(0))], n, { type }));
        return d;
    }, [name, bytes.toString('base64'), kind]);
    for (const type of ['dragenter', 'dragover', 'drop']) await page.dispatchEvent(selector, type, { dataTransfer: data });
}

await suite.test('a dropped picture gives its settings back: limn, A1111, ComfyUI, InvokeAI', page, async () => {
    const made = await picture();
    await to('draw');
    await live();
    const own = Buffer.from(await (await fetch(`${server.url}${made.artifacts[0].url}`)).arrayBuffer());
    const comfy = JSON.stringify({ 3: { class_type: 'KSampler', inputs: { seed: 42, steps: 25, cfg: 8, sampler_name: 'euler', scheduler: 'karras', denoise: 1, positive: ['6', 0] } }, 6: { class_type: 'CLIPTextEncode', inputs: { text: 'an owl' } } });
    const cases = [['limn', own, 'a red apple', 4], ['a1111', pngWithText('parameters', 'a green pear\nSteps: 21, Sampler: Euler a, CFG scale: 5, Seed: 99, Size: 128x64'), 'a green pear', 21], ['comfyui', pngWithText('prompt', comfy), 'an owl', 25]];
    for (const [name, bytes, prompt, steps] of cases) {
        await drop('#main', `${name}.png`, bytes);
        await until(`${name}: the settings`, () => page.locator('[data-testid=found]').isVisible(), 10000);
        await page.locator('dialog[open]').getByRole('button', { name: 'Use settings' }).click();
        await until(`${name}: prompt`, async () => (await page.inputValue('#prompt')) === prompt, 5000);
        same(await page.locator('[data-param=steps] input[type=text]').inputValue(), String(steps), `${name}: steps`);
    }
    // As InvokeAI writes it: names are told as they are called here, and what is not here is left out and said.
    await drop('#main', 'invokeai.png', readFileSync(join(root, 'tests', 'golden', 'image', 'invokeai.png')));
    await until('what is not here', async () => /dreamshaper-8, ink-wash/.test(await page.locator('[data-testid=missing]').innerText().catch(() => '')), 10000);
    await page.locator('dialog[open]').getByRole('button', { name: 'Use settings' }).click();
    await until('invokeai: prompt', async () => (await page.inputValue('#prompt')) === 'a red fox, café window, 两只', 5000);
    const draft = async () => JSON.parse(await page.evaluate(() => localStorage.getItem('limn.draft')));
    const want = { prompt: 'a red fox, café window, 两只', negative_prompt: 'blurry, text', width: 768, height: 512, seed: 2849503841, cfg_scale: 6.5, cfg_rescale: 0.25, steps: 28, sampler: 'DPM++ 2M SDE', schedule: 'karras', clip_skip: 2 };
    const sorted = (o) => JSON.stringify(Object.fromEntries(Object.entries(o).sort()));
    await until('all its settings', async () => sorted(await draft()) === sorted(want), 5000).catch(async () => same(await draft(), want, 'settings of InvokeAI'));
    same((await api('/v1/params/check', await draft())).ok, true, 'the server would draw them');
    await page.getByRole('button', { name: 'Put all settings back' }).click();
});

await suite.test('edit: paint, undo, inpaint, compare, keep; a reload keeps the mask', page, async () => {
    const made = await picture();
    await page.goto(`${base}/#/edit/${made.artifacts[0].id}`);
    const canvas = page.locator('[data-testid=edit-canvas]');
    await canvas.waitFor();
    await until('the canvas', async () => (await canvas.locator('canvas').count()) === 2);
    const painted = () => page.evaluate(() => {
        const c = document.querySelector('[data-testid=edit-canvas] canvas.tint');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let n = 0;
        for (let i = 3; i < d.length; i += 4) n += d[i] > 0;
        return n;
    });
    const box = await canvas.boundingBox();
    const at = (x, y) => [box.x + box.width / 2 + x, box.y + box.height / 2 + y];
    await page.mouse.move(...at(-60, 0));
    await page.mouse.down();
    for (let i = 0; i <= 10; i++) await page.mouse.move(...at(-60 + 12 * i, 10 * Math.sin(i)));
    await page.mouse.up();
    const first = await painted();
    check(first > 50, `only ${first} pixels were painted`);
    await page.keyboard.press('Control+z');
    same(await painted(), 0, 'pixels after undo');
    await page.keyboard.press('Control+Shift+z');
    same(await painted(), first, 'pixels after redo');
    await page.keyboard.press('e');
    await page.mouse.move(...at(0, 0));
    await page.mouse.down();
    await page.mouse.up();
    check((await painted()) < first, 'the eraser takes nothing');
    const now = await painted();
    await until('the mask to be written down', async () => (await kept('edit')).some((x) => x.mask && x.mask.reduce((n, v) => n + (v > 0), 0) === now));
    await page.reload();
    await canvas.waitFor();
    await until('the mask after a reload', async () => (await painted().catch(() => -1)) === now, 10000);
    await page.fill('#edit-prompt', 'a green pear');
    await page.getByRole('button', { name: 'All settings' }).click();
    await setNumber('steps', 6, page.locator('dialog[open]'));
    await page.keyboard.press('Escape');
    const before = (await jobs('&state=succeeded')).length;
    await page.click('[data-testid=edit-draw]');
    await finished(before + 1);
    const job = (await api(`/v1/jobs/${(await jobs('&state=succeeded'))[0].id}`)).job;
    check(/^artifact:/.test(job.params.mask) && /^artifact:/.test(job.params.init_image), `no mask in ${JSON.stringify(job.params)}`);
    await until('the slider', () => page.getByRole('slider', { name: 'Where the pictures meet' }).isVisible());
    await page.click('[data-testid=edit-keep]');
    await until('a clean mask', async () => (await painted().catch(() => -1)) === 0, 10000);
});

await suite.test('edit: pulling the frame draws beyond the picture', page, async () => {
    await to('edit');
    await page.locator('[data-testid=edit-canvas]').waitFor();
    const grip = page.getByRole('button', { name: 'Pull to add room on the right' });
    await grip.focus();
    for (let i = 0; i < 4; i++) await grip.press('ArrowRight');
    await until('the size', async () => /160 × 128/.test(await page.locator('.bar').innerText()));
    const before = (await jobs('&state=succeeded')).length;
    await page.click('[data-testid=edit-draw]');
    await finished(before + 1);
    const job = (await jobs('&state=succeeded'))[0];
    const result = job.artifacts.find((a) => a.role === 'result');
    same([result.width, result.height], [160, 128], 'size of the result');
});

await editTests({ suite, page, base, server, api, jobs, live, picture, drop, context, watch, excuse, kept });

/* The newest question when so many have been answered. */
const answer_ = async (count) => {
    await until(`${count} answers`, async () => {
        const all = await jobs('&kind=see');
        return all.length >= count && ['succeeded', 'failed', 'cancelled'].includes(all[0].state);
    }, 120000);
    const { job } = await api(`/v1/jobs/${(await jobs('&kind=see'))[0].id}`);
    same(job.state, 'succeeded', `state of the answer (${JSON.stringify(job.error)})`);
    return job;
};

await suite.test('see: a question is answered in a stream and kept', page, async () => {
    const made = await picture();
    await page.goto(`${base}/#/see/${made.artifacts[0].id}`);
    await page.getByPlaceholder('Ask about the picture').waitFor();
    await until('the picture', () => page.locator('.mat img').first().isVisible());
    const before = (await jobs('&kind=see')).length;
    await page.getByPlaceholder('Ask about the picture').fill('What is in the picture?');
    await page.keyboard.press('Enter');
    const { text } = (await answer_(before + 1)).result;
    const answer = page.locator('[data-testid=answer]').first();
    await until('it on the page', async () => text.trim() === '' || (await answer.innerText()).includes(text.trim().split(/\s+/)[0].replace(/[*#`]/g, '')));
    await page.reload();
    await until('it after a reload', async () => (await page.locator('[data-testid=answer]').count()) === 1);
    // What describes a picture is a prompt too, and what was typed before comes back.
    const typed = await page.evaluate(() => JSON.parse(localStorage.getItem('limn.draft') ?? '{}').prompt ?? '');
    await page.locator('.turn, [data-testid=answer]').first().hover();
    await page.getByRole('button', { name: 'Draw this' }).first().click();
    await until('the answer as the prompt', async () => (await page.inputValue('#prompt')) === text.replace(/\s+/g, ' ').trim());
    await page.getByRole('button', { name: 'Undo' }).last().click();
    await until('what was typed before', async () => (await page.inputValue('#prompt')) === typed);
    await to('see');
    await page.getByPlaceholder('Ask about the picture').fill('And which colour has it?');
    await page.keyboard.press('Enter');
    await answer_(before + 2);
    let turn; // the page keeps it a moment after it is shown
    await until('the turn kept', async () => (turn = (await kept('chats')).flatMap((c) => c.turns).find((x) => x.prompt === 'And which colour has it?')) !== undefined);
    same(turn.body.messages.map((m) => m.role), ['user', 'assistant'], 'what was said before');
    await page.getByRole('button', { name: 'Find', exact: true }).click();
    await page.getByPlaceholder('What to find').fill('apple');
    await page.keyboard.press('Enter');
    const third = await answer_(before + 3);
    same(third.result.task, 'boxes', 'task');
    console.log(`   found ${JSON.stringify(third.result.findings).slice(0, 120)}`);
    const good = third.result.findings.filter((x) => x.box[2] > x.box[0] && x.box[3] > x.box[1]).length;
    await until('its boxes', async () => (await page.locator('.places g').count()) === good, 10000);
    await page.getByRole('button', { name: 'Check', exact: true }).click();
    const fourth = await answer_(before + 4);
    await until('its scores', async () => (await page.locator('.scores li').count()) === fourth.result.findings.length, 10000);
});

await suite.test('see: clips and PDF files are taken, shown and asked about', page, async () => {
    await to('see');
    const again = page.getByRole('button', { name: 'New conversation' });
    if (await again.isVisible()) await again.click();
    const corpus = join(root, 'fuzz', 'corpus', 'media');
    const before = (await jobs('&kind=see')).length;
    await page.setInputFiles('[data-testid=see-file]', [join(corpus, 's.pdf'), join(corpus, 'h264.mp4')]);
    await until('both', async () => (await page.locator('.foot .film').count()) === 2, 30000);
    await until('the clip', () => page.locator('video').isVisible());
    await page.locator('.desk .films button').first().click();
    // The page is 8 points wide: drawn anew for the screen it has 67 pixels, its thumbnail 8.
    const shown = (n) => page.evaluate((k) => { const i = document.querySelector('.mat img'); return new RegExp(`/page\\?n=${k}&`).test(i?.src ?? '') && i.complete && i.naturalWidth > 60; }, n);
    await until('the page, larger than its thumbnail', () => shown(1));
    await page.getByRole('button', { name: 'Next page' }).click();
    await until('the next page', () => shown(2));
    await page.locator('.desk .films button').last().click();
    await until('the clip again', () => page.locator('video').isVisible());
    await page.getByRole('button', { name: 'Describe clip' }).click();
    same((await answer_(before + 1)).result.task, 'video', 'task of the clip');
    await page.locator('.desk .films button').first().click();
    await page.fill('[data-testid=see-pages]', '1');
    await page.getByPlaceholder('Ask about the picture').fill('What is this?');
    await page.keyboard.press('Enter');
    const job = await answer_(before + 2);
    same(job.artifacts.filter((a) => a.role === 'input').map((a) => a.mime).sort(), ['application/pdf', 'video/mp4'], 'files of the question');
});

await seeTests({ suite, page, base, server, api, jobs, to, live, picture, drop, kept, context, excuse });

await suite.test('system: cores, what fits, the log as it is written', page, async () => {
    await to('system');
    // What a model needs before it is loaded, what it uses after.
    await until('the models', async () => /(needs|uses) [\d.]+ [MG]B/.test(await page.locator('.models').first().innerText()));
    await until('the cores', async () => (await page.locator('.cores i').count()) > 0);
    await page.click('[data-testid=logs-open]');
    await until('lines', async () => (await page.locator('[data-testid=logs] p').count()) > 3);
    // What the last hour made is the server's count, not that of this page.
    const { draw, see } = (await api('/v1/system')).throughput;
    const drawn = (await jobs('&state=succeeded')).filter((j) => j.lane === 'draw' && j.kind !== 'load').length;
    check(draw.jobs >= drawn && draw.images >= draw.jobs && draw.busy_ms > 0, `made: ${JSON.stringify(draw)}, of ${drawn} jobs in the history`);
    await until('it to be told', async () => (await page.locator('[data-testid=throughput]').innerText()).startsWith(`${draw.images} pictures in the last hour`), 10000);
    check(see.jobs === 0 || (await page.locator('[data-testid=throughput]').innerText()).includes(`${see.jobs} answers`), 'answers are not counted');
    await fetch(`${server.url}/v1/models/no-such-model-here/info`);
    await until('the new line', async () => /no-such-model-here/.test(await page.locator('[data-testid=logs]').innerText()), 15000);
});

await suite.test('system: licences, and keys that are made, shown once and revoked', page, async () => {
    await to('system');
    await until('licences', async () => /licence mit/.test(await page.locator('.models').first().innerText()));
    const other = new Server(binary, await freePort(), ['--models-dir', models], { LIMN_MODELS: models });
    await other.start();
    const own = await browser.newContext({ viewport: { width: 1440, height: 900 } });
    const p = await own.newPage();
    watch(p);
    const make = async (owner) => {
        await p.click('[data-testid=key-new]');
        await p.fill('[data-testid=key-owner]', owner);
        await p.click('[data-testid=key-make]');
        await p.locator('[data-testid=key-made]').waitFor();
        const key = await p.locator('[data-testid=key-made]').innerText();
        await p.getByRole('button', { name: 'I have kept it' }).click();
        return key;
    };
    const may = async (key) => (await fetch(`${other.url}/v1/jobs`, { headers: key ? { Authorization: `Bearer ${key}` } : {} })).status;
    try {
        await p.goto(`${other.url}/#/system`);
        await until('no keys', () => p.getByText('No keys: whoever').isVisible());
        const root = await make('root');
        same([await may(''), await may(root)], [401, 200], 'who may look after the first key');
        await until('this browser', async () => /root.*this browser/.test(await p.locator('[data-testid=keys]').innerText()));
        const anna = await make('anna');
        same(await may(anna), 200, 'the second key');
        check(!(await p.content()).includes(anna), 'the key is still on the page');
        await p.getByRole('button', { name: 'Revoke the key of anna' }).click();
        await p.click('[data-testid=key-revoke]');
        await until('it to be gone', async () => !/anna/.test(await p.locator('[data-testid=keys]').innerText()));
        same(await may(anna), 401, 'the revoked key');
    } finally {
        await own.close();
        await other.stop();
    }
});

await suite.test('grid: three by three, filling while it is drawn', page, async () => {
    await to('draw');
    await live();
    await page.fill('#prompt', 'a red apple');
    await to('grid');
    const values = page.locator('fieldset');
    await values.nth(0).locator('> input').fill('1, 4, 7');
    await values.nth(1).locator('> input').fill('2-4');
    // What it takes is the server's answer: as many pictures, that much time and memory.
    const told = async () => (await page.locator('[data-testid=grid-cost]').innerText()).replace(/\u00a0/g, ' ');
    await until('the cost', async () => /^9 pictures · about [\d.]+ (s|min).* · about [\d.]+ [kMG]B of memory$/.test(await told()), 20000);
    const asked = JSON.parse(await page.evaluate(() => localStorage.getItem('limn.draft')));
    const { memory } = await api('/v1/grid/check', { params: asked, axes: [{ parameter: 'cfg_scale', values: [1, 4, 7] }, { parameter: 'steps', values: [2, 3, 4] }] });
    same((await told()).split(' · ')[2], `about ${Math.round((memory.model + memory.work) / 1e6)} MB of memory`, 'memory');
    await page.route('**/v1/grid/check', async (route) => {
        const answer = await (await route.fetch()).json();
        await route.fulfill({ json: { ...answer, memory: { ...answer.memory, work: 9e11, fits: false } } });
    });
    await values.nth(1).locator('> input').fill('2-3');
    await until('what does not fit', async () => /^6 pictures .* about 900 GB of memory, more than is free$/.test(await told()), 20000);
    await page.unroute('**/v1/grid/check');
    await values.nth(1).locator('> input').fill('2-4');
    await page.click('[data-testid=grid-run]');
    await until('nine holes', async () => (await page.locator('[data-testid=grid-cell]').count()) === 9);
    await until('the first picture', async () => (await page.locator('[data-testid=grid-cell] a').count()) > 0, 60000);
    check((await jobs('&kind=grid'))[0].state === 'running' || (await page.locator('[data-testid=grid-cell] a').count()) === 9, 'cells came only at the end');
    await until('all nine', async () => (await page.locator('[data-testid=grid-cell] a').count()) === 9, 120000);
    await until('the sheet', () => page.locator('[data-testid=grid-sheet]').isVisible(), 30000);
    await until('nine real pictures', () => page.evaluate(() => [...document.querySelectorAll('[data-testid=grid-cell] img')].filter((i) => i.complete && i.naturalWidth >= 64 && i.src.includes('/v1/')).length === 9), 10000);
});

await suite.test('grid: words of the prompt, each in turn', page, async () => {
    await to('draw');
    await live();
    await page.fill('#prompt', 'a red apple');
    await setNumber('steps', 1);
    await to('grid');
    const axis = page.locator('fieldset').first();
    await axis.locator('.face').click();
    await page.getByRole('option', { name: /^Search and replace/ }).click();
    const values = axis.getByRole('textbox', { name: 'Values of Search and replace' });
    await values.fill('pear, plum');
    await axis.getByText('“pear” is not in the prompt.').waitFor();
    check(await page.locator('[data-testid=grid-run]').isDisabled(), 'what is not in the prompt can be sent');
    await values.fill('apple, banana, fish');
    await page.locator('fieldset').nth(1).locator('input.field').last().fill('');
    await until('three pictures', async () => /^3 pictures/.test(await page.locator('[data-testid=grid-cost]').innerText()));
    await page.click('[data-testid=grid-run]');
    await until('all three', async () => (await page.locator('[data-testid=grid-cell] a').count()) === 3, 120000);
    const [made] = await jobs('&kind=grid');
    const said = await Promise.all(made.artifacts.filter((a) => a.role === 'result').map(async (a) => (await api(`/v1/artifacts/${a.id}`)).recipe.prompt));
    same(said, ['a red apple', 'a red banana', 'a red fish'], 'prompts');
    same((await page.locator('thead th').allInnerTexts()).map((x) => x.replace(/\s+/g, ' ').trim()), ['apple → apple', 'apple → banana', 'apple → fish'], 'heads');
});

await suite.test('draw: what a model recommends is what the form shows', page, async () => {
    const { params } = await api('/v1/models/mini-draw/advice');
    check(params.cfg_scale !== (await api('/v1/params')).data.find((p) => p.name === 'cfg_scale').default, 'mini-draw recommends nothing of its own');
    await to('draw');
    await live();
    const back = page.locator('[data-param=cfg_scale] button.back');
    if (await back.count()) await back.click();
    const field = page.locator('[data-param=cfg_scale] input[type=text]').first();
    await until('its guidance', async () => (await field.inputValue()) === String(params.cfg_scale));
});

await suite.test('the keyboard reaches everything that matters', page, async () => {
    await to('draw');
    await live();
    await page.reload();
    await live();
    await page.keyboard.press('Tab');
    check(/^skip/.test(await page.evaluate(() => document.activeElement.className)), 'the first stop is not the way past the rail');
    const seen = new Set();
    for (let i = 0; i < 80; i++) {
        await page.keyboard.press('Tab');
        const [name, ring] = await page.evaluate(() => {
            const e = document.activeElement;
            return [e?.id || e?.getAttribute('data-testid') || e?.getAttribute('aria-label') || e?.textContent?.trim().slice(0, 30) || e?.tagName, e ? getComputedStyle(e).outlineStyle !== 'none' || /TEXTAREA|BODY/.test(e.tagName) || !!e.closest('.handle') : true];
        });
        seen.add(name);
        check(ring, `no focus ring on ${name}`);
    }
    check([...seen].filter((name) => /^Picture with seed/.test(name)).length <= 1, 'the strip is more than one stop');
    for (const want of ['prompt', 'draw', 'queue-button']) check(seen.has(want), `Tab does not reach ${want}: ${[...seen].join(', ')}`);
    for (const [key, view] of [['2', 'gallery'], ['3', 'see'], ['6', 'system'], ['1', 'draw']]) {
        await page.keyboard.press(`Alt+${key}`);
        await until(view, () => page.evaluate((v) => location.hash.startsWith(`#/${v}`), view), 3000);
    }
    await page.evaluate(() => document.activeElement?.blur());
    await page.keyboard.press('?');
    await until('the list of keys', () => page.getByRole('heading', { name: 'Keys' }).isVisible());
    await page.keyboard.press('Escape');
});

await wholeTests({ suite, page, base, server, api, context, browser, axe, watch, live });

await suite.test('phone: draw with a thumb', page, async () => {
    const other = await browser.newContext({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
    const p = await other.newPage();
    watch(p);
    await p.goto(base);
    await p.locator('#prompt').waitFor();
    await p.fill('#prompt', 'a yellow star');
    await p.getByRole('button', { name: 'Settings' }).last().tap();
    await until('the form', async () => (await p.locator('dialog[open] [data-param]').count()) > 3);
    await setNumber('steps', 4, p.locator('dialog[open]'));
    await p.locator('dialog[open]').getByRole('button', { name: 'Close' }).first().tap();
    await p.locator('[data-testid=draw]').tap();
    await until('the picture', async () => { const [j] = await jobs(); return j.title.includes('star') && j.state === 'succeeded'; });
    for (const box of await p.locator('nav a, nav button, .composer button:visible').all()) {
        const b = await box.boundingBox();
        if (b && b.width > 1) check(b.height >= 40, `a target is only ${b.height} px high`);
    }
    await other.close();
});

await suite.test('phone: whatever is touched is 44 px, and nothing is cut off', page, async () => {
    const other = await browser.newContext({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
    const p = await other.newPage();
    watch(p);
    const made = await picture();
    const look = async (where) => {
        const bad = await p.evaluate(() => [...document.querySelectorAll('button, a, input, summary, [role=slider]')].flatMap((x) => {
            const r = x.getBoundingClientRect();
            const [cx, cy] = [r.left + r.width / 2, r.top + r.height / 2];
            if (r.width < 2 || x.matches('.sr, .skip') || !x.checkVisibility() || x.closest('video')) return [];
            const name = x.getAttribute('aria-label') || x.textContent.trim().slice(0, 30) || x.type;
            const modal = document.querySelector('dialog[open]');
            if (modal && !modal.contains(x)) return [];
            // What lies beyond the screen in a row that scrolls is not cut off.
            const scrolls = [...document.querySelectorAll('.scroll, .strip, .tasks, .tools')].some((s) => s.contains(x));
            return [...(r.height < 43.5 || r.width < 43.5 ? [`${name}: ${Math.round(r.width)} x ${Math.round(r.height)}`] : []),
                ...(!scrolls && (cx < 0 || cx > innerWidth || cy < 0 || cy > innerHeight) ? [`${name} lies outside`] : [])];
        }));
        same(bad, [], `targets of ${where}`);
        check((await p.evaluate(() => document.documentElement.scrollWidth)) <= 390, `${where} is too wide`);
    };
    await p.goto(base);
    await p.locator('.strip [data-key]').first().waitFor();
    await p.fill('#prompt', 'a long (prompt:1.2) with many words that take more than one chunk of tokens '.repeat(6));
    await p.locator('[data-testid=tokens]').waitFor();
    await look('Draw with a long prompt');
    await p.getByRole('button', { name: 'Compare' }).tap();
    await p.getByRole('slider', { name: 'Where the pictures meet' }).waitFor();
    await look('Draw, comparing');
    await p.getByRole('button', { name: 'Compare' }).tap();
    await p.locator('.composer').getByRole('button', { name: 'Settings' }).last().tap();
    await p.locator('dialog[open] [data-param=steps]').waitFor();
    await look('settings');
    await p.locator('dialog[open]').getByRole('button', { name: 'Close' }).first().tap();
    await p.goto(`${base}/#/edit/${made.artifacts[0].id}`);
    await p.locator('[data-testid=edit-canvas] canvas').first().waitFor();
    await look('Edit');
    await p.getByRole('button', { name: 'More for the mask' }).tap();
    await p.getByRole('button', { name: 'Invert the mask (I)' }).last().tap();
    await until('the mask to be inverted', async () => /Draw the part/.test(await p.locator('[data-testid=edit-draw]').innerText()));
    await look('Edit with a mask');
    await p.goto(`${base}/#/see/${made.artifacts[0].id}`);
    await p.locator('.foot .film').first().waitFor();
    await look('See');
    await p.click('[data-testid=queue-button]');
    await p.locator('[data-testid=queue]').waitFor();
    await look('queue');
    await other.close();
});

await suite.test('the server is killed and comes back: nothing is lost', page, async () => {
    await to('draw');
    await live();
    await page.fill('#prompt', 'a purple cat');
    await setNumber('steps', 120);
    await page.click('[data-testid=draw]');
    await until('it to run', async () => (await jobs('&state=running')).length === 1);
    const id = (await jobs('&state=running'))[0].id;
    await until('it to be on its way', async () => /step [1-9]\d* of 120/.test(await page.locator('.under').innerText()));
    await server.kill('SIGKILL');
    await until('the banner', () => page.locator('[data-testid=away]').isVisible(), 15000);
    await page.fill('#prompt', 'words typed while it was away');
    await until('them to be written down', () => page.evaluate(() => /while it was away/.test(localStorage.getItem('limn.draft') ?? '')));
    // What is asked for now is kept, once, also over a reload of what the browser still has.
    await setNumber('steps', 3);
    await page.click('[data-testid=draw]');
    const kept = page.getByTestId('kept');
    await until('it to be kept', async () => /does not answer/.test(await kept.innerText()));
    await page.click('[data-testid=draw]');
    check(/1 drawing is kept/.test(await kept.innerText()), 'the same drawing is kept twice');
    await suite.keep('server away', page);
    await server.start();
    await until('the banner to go', async () => !(await page.locator('[data-testid=away]').isVisible()), 20000);
    same(await page.inputValue('#prompt'), 'words typed while it was away', 'prompt');
    await until('the drawing to go on', async () => { const j = (await api(`/v1/jobs/${id}`)).job; return j.state === 'succeeded' && j.attempt >= 2; }, 240000);
    await until('it on the page', async () => (await page.evaluate((x) => document.querySelectorAll(`[href*="${x}"]`).length >= 0, id)) && !(await page.locator('[data-testid=cancel]').isVisible()), 20000);
    await page.reload();
    await live();
    same(await page.inputValue('#prompt'), 'words typed while it was away', 'prompt after reload');
    const count = (await jobs()).length;
    await page.getByTestId('kept-send').click();
    await until('what was kept to be drawn', async () => { const [j] = await jobs(); return j.title === 'words typed while it was away' && j.state === 'succeeded'; });
    same([(await jobs()).length, await kept.count()], [count + 1, 0], 'what was kept');
});

await suite.test('the page had no errors of its own', page, async () => same(problems, [], 'console'));

await browser.close();
await server.stop();
rmSync(library, { recursive: true, force: true });
console.log(`${suite.run - suite.failed} passed, ${suite.failed} failed`);
process.exit(suite.failed ? 1 : 0);
