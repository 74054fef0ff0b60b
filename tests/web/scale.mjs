// SPDX-License-Identifier: MIT
// How quick the studio is with 20,000 pictures and while previews stream, in Debian's Chromium against a real server:
//
//     node tests/web/scale.mjs [--limn build/limn] [--models FOLDER] [--pictures 20000] [--data FOLDER]
//
// With --data the filled store stays there and is used again. Frames are judged by the processor time of the page's main
// thread between two frames (from the browser's trace), which a busy machine changes little; wall times are printed beside
// it. Fails above the limits below.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { check, freePort, Server, until } from './lib.mjs';
import { seed } from './seed.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const { chromium } = createRequire(join(root, 'web', 'package.json'))('playwright-core');
const option = (name, fallback) => {
    const at = process.argv.indexOf(name);
    return at < 0 ? fallback : process.argv[at + 1];
};
const binary = option('--limn', join(root, 'build', 'limn'));
const models = option('--models', join(root, 'models'));
const pictures = Number(option('--pictures', 20000));
/* Milliseconds; a frame at 60 Hz has 16.7. */
const LIMITS = { paint: 100, frame95: 10, frame: 16.7, search: 300, shift: 0 };
const failures = [];
const judge = (name, value, limit, unit = 'ms') => {
    const good = value <= limit;
    console.log(`${good ? 'ok  ' : 'FAIL'} ${name}: ${value.toFixed(value < 10 ? 2 : 0)} ${unit} (limit ${limit})`);
    if (!good) failures.push(name);
};

const server = new Server(binary, await freePort(), ['--models-dir', models], { LIMN_MODELS: models });
const send = async (method, path, body) => {
    const answer = await fetch(server.url + path, { method, headers: { 'Content-Type': 'application/json' }, body: body && JSON.stringify(body) });
    check(answer.ok, `${path}: ${answer.status}`);
    return answer.json();
};
const base = option('--page', '');
const data = option('--data', '');
if (data) server.data = data;
const filled = data !== '' && existsSync(join(data, 'jobs.db'));
await server.start();
if (!filled) {
    await send('PATCH', '/v1/settings', { history_jobs: 1000000, history_days: 3650 });
    await send('POST', '/v1/draw?wait=120', { prompt: 'a red apple', steps: 1 });
    await server.kill('SIGTERM');
    seed(server.data, pictures);
    await server.start();
}
const at = base || server.url;

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
await page.addInitScript(() => {
    window.shift = 0;
    new PerformanceObserver((list) => { for (const e of list.getEntries()) if (!e.hadRecentInput) window.shift += e.value; }).observe({ type: 'layout-shift', buffered: true });
});

/* Processor time of the main thread in each interval between two frames, while `act` runs. */
async function frames(act) {
    await browser.startTracing(page, { categories: ['toplevel', 'devtools.timeline', 'disabled-by-default-devtools.timeline.frame'] });
    await act();
    const { traceEvents } = JSON.parse((await browser.stopTracing()).toString());
    const main = new Map(traceEvents.filter((e) => e.name === 'thread_name').map((e) => [`${e.pid}/${e.tid}`, e.args.name]));
    const tasks = traceEvents.filter((e) => e.ph === 'X' && /RunTask/.test(e.name) && e.tdur > 0 && main.get(`${e.pid}/${e.tid}`) === 'CrRendererMain');
    const count = new Map();
    for (const e of tasks) count.set(e.pid, (count.get(e.pid) ?? 0) + e.tdur);
    const pid = [...count].sort((a, b) => b[1] - a[1])[0]?.[0];
    const begins = traceEvents.filter((e) => e.pid === pid && e.name === 'BeginMainThreadFrame').map((e) => e.ts).sort((a, b) => a - b);
    const spent = begins.map(() => 0);
    for (const e of tasks) {
        if (e.pid !== pid) continue;
        let i = begins.findIndex((ts) => ts > e.ts) - 1;
        if (i === -2) i = begins.length - 1;
        if (i >= 0) spent[i] += e.tdur / 1000;
    }
    const sorted = [...spent].sort((a, b) => a - b);
    if (process.env.WEB_TRACE) {
        const sums = new Map();
        for (const e of traceEvents) if (e.pid === pid && e.ph === 'X' && e.tdur > 0 && main.get(`${e.pid}/${e.tid}`) === 'CrRendererMain') sums.set(e.name, (sums.get(e.name) ?? 0) + e.tdur / 1000);
        console.log([...sums].sort((a, b) => b[1] - a[1]).slice(0, 22).map(([k, v]) => `      ${v.toFixed(0)} ms ${k}`).join('\n'));
    }
    return { n: spent.length, p50: sorted[sorted.length >> 1] ?? 0, p95: sorted[Math.floor(sorted.length * 0.95)] ?? 0, max: sorted.at(-1) ?? 0,
        script: traceEvents.filter((e) => e.pid === pid && e.name === 'FunctionCall').reduce((s, e) => s + (e.tdur ?? 0), 0) / 1000 };
}
const show = (name, f) => console.log(`   ${name}: ${f.n} frames, main thread ${f.p50.toFixed(1)} / ${f.p95.toFixed(1)} / ${f.max.toFixed(1)} ms (half, 95 %, worst)`);
const cells = () => page.locator('.cell').count();

await page.goto(`${at}/#/gallery`);
await until('pictures', async () => (await cells()) > 20);
await browser.startTracing(page, { categories: ['toplevel', 'blink.user_timing', 'loading', 'devtools.timeline'] });
await page.reload();
await until('pictures', async () => (await cells()) > 20);
const { traceEvents: opening } = JSON.parse((await browser.stopTracing()).toString());
const painted = opening.filter((e) => e.name === 'firstContentfulPaint').at(-1);
const begun = opening.filter((e) => e.name === 'navigationStart' && e.ts < painted?.ts).at(-1);
judge('processor time of the page until its first paint', painted && begun ? opening.filter((e) => e.pid === painted.pid && e.tid === painted.tid && /RunTask/.test(e.name) && e.ts >= begun.ts && e.ts < painted.ts)
    .reduce((sum, e) => sum + (e.tdur ?? 0) / 1000, 0) : Infinity, LIMITS.paint);
console.log(`   first paint after ${await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime.toFixed(0))} ms by the clock`);

// Through everything, to the end, a screen at a time; then at the speed of a flicked wheel.
const began = Date.now();
await until('the end of the list', () => page.evaluate(() => {
    const list = document.querySelector('.list[data-query]');
    list.scrollTop = list.scrollHeight;
    return list.dataset.end === 'true' && list.scrollTop + list.clientHeight >= list.scrollHeight - 2;
}), 300000);
const all = await page.evaluate(() => Number(document.querySelector('.list[data-query]').dataset.count));
console.log(`   ${all} pictures known after ${((Date.now() - began) / 1000).toFixed(1)} s, ${await cells()} cells and ${await page.evaluate(() => document.querySelectorAll('*').length)} elements in the page`);
check(all >= pictures, `only ${all} pictures`);
const flick = (px) => page.evaluate((by) => new Promise((done) => {
    const list = document.querySelector('.list[data-query]');
    // Written only: reading it here would lay the page out once more than a finger does.
    let at = by > 0 ? 0 : list.scrollHeight;
    let n = 0;
    const step = () => {
        list.scrollTop = at += by;
        if (++n < 150) requestAnimationFrame(step);
        else done();
    };
    requestAnimationFrame(step);
}), px);
for (const [name, px] of [['scrolling', 60], ['flicking', -250]]) {
    const f = await frames(() => flick(px));
    show(name, f);
    judge(`${name}, 95 of 100 frames`, f.p95, LIMITS.frame95);
}
const worst = await frames(() => page.evaluate(async () => {
    const list = document.querySelector('.list[data-query]');
    for (let i = 0; i < 30; i++) {
        list.scrollTop = list.scrollHeight * ((i * 0.37) % 1);
        await new Promise((done) => requestAnimationFrame(done));
    }
}));
show('jumping', worst);
judge('jumping, worst frame', worst.max, 2 * LIMITS.frame);

// The scroll position while a drawing streams: nothing of the long list may be done again for a preview.
await send('POST', '/v1/draw', { prompt: 'a red apple', steps: 60, job: { preview_every: 1 } });
await until('it to be drawn', async () => (await send('GET', '/v1/jobs?state=running')).data[0]?.progress?.step > 1);
const streamed = await frames(() => flick(60));
show('scrolling while a drawing streams', streamed);
judge('scrolling while a drawing streams, 95 of 100 frames', streamed.p95, LIMITS.frame95);

await send('POST', '/v1/jobs/cancel');
await until('a quiet server', async () => { const { queue } = await send('GET', '/v1/system'); return queue.running + queue.queued === 0; });

const search = async (text, want) => {
    await page.getByRole('searchbox', { name: 'Search pictures' }).fill('');
    await until('all of them', () => page.evaluate(() => { const list = document.querySelector('.list[data-query]'); return list.dataset.query === '' && list.ariaBusy !== 'true' && document.querySelectorAll('.cell').length > 20; }));
    return page.evaluate(([words, expected]) => new Promise((done) => {
        const field = document.querySelector('input[type=search]');
        const from = performance.now();
        field.value = words;
        field.dispatchEvent(new InputEvent('input', { bubbles: true }));
        const look = () => {
            const open = document.querySelector('.cell .open');
            if (document.querySelector('.list[data-query]').dataset.query === words && (open?.getAttribute('aria-label') ?? '').includes(expected)) done(performance.now() - from);
            else requestAnimationFrame(look);
        };
        look();
    }), [text, want]);
};
for (const [text, want] of [['golden teapot', 'golden teapot'], ['lighthouse dusk', 'lighthouse'], ['seed:77', ''], ['model:mini-draw', ''], ['from:2001-01-01 kite', 'kite']]) {
    const ms = await search(text, want);
    judge(`search for "${text}", from the last key`, ms, LIMITS.search);
    const query = text.startsWith('from') ? 'from=978307200000&q=kite' : text.includes(':') ? text.replace(':', '=') : `q=${encodeURIComponent(text)}`;
    const begin = performance.now();
    await send('GET', `/v1/jobs?state=succeeded&kind=draw&limit=200&${query}`);
    console.log(`   of it the server: ${(performance.now() - begin).toFixed(0)} ms`);
}
judge('layout shift', await page.evaluate(() => window.shift), LIMITS.shift, '');

// The Draw screen while previews stream.
await page.goto(`${at}/#/draw`);
await until('the form', () => page.evaluate(() => document.querySelectorAll('[data-param]').length > 3));
await send('POST', '/v1/jobs/cancel');
await send('POST', '/v1/draw', { prompt: 'a red apple', steps: 80, job: { preview_every: 1 } });
await until('a preview', () => page.evaluate(() => !!document.querySelector('[data-testid=stage-image]')?.src.startsWith('data:')));
/* Time between frames, as the page sees it, until so many previews have come; and tasks above 50 ms. */
const PREVIEWS = 20;
let ticks;
const drawing = await frames(async () => {
    ticks = await page.evaluate((want) => new Promise((done) => {
        const image = document.querySelector('[data-testid=stage-image]');
        const between = [];
        let long = 0, seen = 0, last = performance.now();
        const slow = new PerformanceObserver((list) => { long += list.getEntries().length; });
        slow.observe({ type: 'longtask' });
        new MutationObserver(() => seen++).observe(image, { attributeFilter: ['src'] });
        const tick = (now) => {
            between.push(now - last);
            last = now;
            if (seen < want) requestAnimationFrame(tick);
            else done({ between: between.slice(1).sort((a, b) => a - b), long });
        };
        requestAnimationFrame(tick);
    }), PREVIEWS);
});
const part = (share) => ticks.between[Math.floor((ticks.between.length - 1) * share)].toFixed(1);
console.log(`   by the clock, ${ticks.between.length} frames and ${PREVIEWS} previews: ${part(0.5)} / ${part(0.95)} / ${part(1)} ms between frames (half, 95 %, worst), ${ticks.long} tasks above 50 ms`);
show('previews on the Draw screen', drawing);
judge('a preview on the Draw screen, worst frame', drawing.max, LIMITS.frame);
judge('layout shift of the Draw screen', await page.evaluate(() => window.shift), LIMITS.shift, '');

await browser.close();
await (data ? server.kill('SIGTERM') : server.stop());
console.log(failures.length ? `${failures.length} above their limit` : 'all within their limits');
process.exit(failures.length ? 1 : 0);
