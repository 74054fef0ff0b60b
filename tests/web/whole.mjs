// SPDX-License-Identifier: MIT
// What holds on every screen: nothing moves for who wants no motion, axe finds nothing, nothing jumps, and the page picks
// up where it was after a sleep. Called by studio.mjs; `e` is what it has built (page, server, api ...).
import { createServer, request } from 'node:http';
import { check, same, until } from './lib.mjs';

export const views = ['draw', 'gallery', 'see', 'edit', 'grid', 'system'];

/* What a screen shows when it has come to rest: its lists and forms, not what says that they are loading. */
export const rests = {
    draw: '.composer [data-testid=draw]', gallery: '.cell', see: '.foot textarea', edit: '[data-testid=edit-canvas] canvas, .edit .empty', grid: 'fieldset .face', system: '.models li .name',
};
const still = (p) => until('the page to be still', () => p.evaluate(() => document.fonts.status === 'loaded' && document.getAnimations().every((a) => a.playState !== 'running' || a.effect.getTiming().iterations === Infinity)));
export async function open(p, base, view, more = '') {
    await p.goto(`${base}/#/${view}${more}`);
    await p.locator(rests[view]).first().waitFor();
    await still(p);
}

/* A door in front of the server that can be shut, and remembers who asked for events. */
async function door(port) {
    const asked = [];
    const open_ = new Set();
    let shut = false;
    const streams = new Set();
    const proxy = createServer((from, to) => {
        if (/^\/v1\/events/.test(from.url)) {
            asked.push(from.url);
            streams.add(from.socket);
            from.socket.once('close', () => streams.delete(from.socket));
        }
        const inner = request({ host: '127.0.0.1', port, path: from.url, method: from.method, headers: from.headers }, (answer) => {
            to.writeHead(answer.statusCode, answer.headers);
            answer.pipe(to);
        });
        inner.on('error', () => to.destroy());
        to.on('close', () => inner.destroy());
        from.pipe(inner);
    });
    proxy.on('connection', (socket) => {
        if (shut) socket.destroy();
        open_.add(socket);
        socket.once('close', () => open_.delete(socket));
    });
    await new Promise((done) => proxy.listen(0, '127.0.0.1', done));
    return {
        url: `http://127.0.0.1:${proxy.address().port}`, asked, streams,
        sleep() { shut = true; for (const socket of open_) socket.destroy(); },
        wake() { shut = false; },
        close() { this.sleep(); proxy.close(); },
    };
}

export async function wholeTests(e) {
    const { suite, page, base, server, api, context, browser, axe, watch, live } = e;
    const fresh = async (options) => {
        const own = await browser.newContext({ viewport: { width: 1440, height: 900 }, storageState: await context.storageState(), ...options });
        const p = await own.newPage();
        watch(p);
        return [own, p];
    };

    await suite.test('nothing moves for who wants no motion, also while something is drawn', page, async () => {
        const [calm, p] = await fresh({ reducedMotion: 'reduce' });
        const moving = () => p.evaluate(() => [...document.querySelectorAll('*')].flatMap((x) => ['', '::before', '::after'].flatMap((part) => {
            const s = getComputedStyle(x, part || undefined);
            const long = (list) => list.split(',').some((t) => parseFloat(t) > 0.01);
            return long(s.transitionDuration) || (s.animationName !== 'none' && long(s.animationDuration)) || s.scrollBehavior === 'smooth' ? [`${x.tagName}.${x.className}${part}`] : [];
        })).slice(0, 5));
        for (const view of views) {
            await open(p, base, view);
            same(await moving(), [], `what moves on ${view}`);
        }
        const { job } = await api('/v1/draw', { prompt: 'a red apple', steps: 300, job: { preview_every: 1 } });
        for (const view of ['draw', 'gallery', 'grid', 'system']) {
            await open(p, base, view);
            await until('it to be drawn', async () => (await p.locator('.queue.busy').count()) === 1);
            if (view === 'draw') await until('a preview', async () => /^data:image/.test((await p.locator('[data-testid=stage-image]').getAttribute('src').catch(() => '')) ?? ''));
            same(await moving(), [], `what moves on ${view} while something is drawn`);
        }
        await p.click('[data-testid=queue-button]');
        await p.locator('[data-testid=job-running]').waitFor();
        same(await moving(), [], 'what moves in the queue');
        await api(`/v1/jobs/${job.id}/cancel`, {});
        await calm.close();
    });

    /* Light, dark and high contrast, at a desk and on a phone. */
    for (const [where, size] of [['desk', { width: 1440, height: 900 }], ['phone', { width: 390, height: 844 }]]) {
        for (const theme of ['light', 'dark', 'contrast']) {
            await suite.test(`axe finds nothing: ${where}, ${theme}`, page, async () => {
                const [own, p] = await fresh({ viewport: size, colorScheme: theme === 'light' ? 'light' : 'dark', hasTouch: where === 'phone', bypassCSP: true });
                await p.addInitScript((t) => localStorage.setItem('limn.theme', JSON.stringify(t === 'contrast' ? 'contrast' : 'auto')), theme);
                const look = async (name) => {
                    if (!(await p.evaluate(() => 'axe' in window))) await p.evaluate(axe);
                    const { violations } = await p.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
                    const bad = violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => `${n.target} ${n.any[0]?.message ?? ''}`).join(' | ')}`);
                    check(bad.length === 0, `${name}: ${bad.join('\n')}`);
                    const wide = await p.evaluate(() => document.documentElement.scrollWidth - innerWidth);
                    check(wide <= 0, `${name} is ${wide} px too wide`);
                    // What scrolls down must not be wider than its room: its right edge would be cut off.
                    const cut = await p.evaluate(() => [...document.querySelectorAll('main .scroll:not(.strip)')]
                        .filter((x) => !x.querySelector(':scope > table') && x.scrollWidth > x.clientWidth + 1).map((x) => `${x.className}: ${x.scrollWidth} in ${x.clientWidth}`));
                    same(cut, [], `${name}: what is cut off`);
                    await suite.keep(`${where} ${theme} ${name}`, p);
                };
                for (const view of views) {
                    await open(p, base, view);
                    await look(view);
                }
                // What lies over a screen or comes with a picture.
                const [made] = (await api('/v1/jobs?state=succeeded&kind=draw&limit=1')).data;
                await open(p, base, 'edit', `/${made.artifacts[0].id}`);
                await look('edit with a picture');
                await p.goto(`${base}/#/gallery/${made.id}/${made.artifacts[0].id}`);
                await p.locator('.gallery dl').first().waitFor();
                await still(p);
                await look('a picture of the gallery');
                await open(p, base, 'draw');
                await p.click('[data-testid=queue-button]');
                await p.locator('[data-testid=queue]').waitFor();
                await still(p);
                await look('the queue');
                await own.close();
            });
        }
    }

    await suite.test('nothing jumps on any screen, nor when a preview becomes a picture', page, async () => {
        const [own, p] = await fresh({ storageState: undefined });
        await p.addInitScript(() => {
            window.shifts = [];
            new PerformanceObserver((list) => {
                for (const s of list.getEntries()) if (!s.hadRecentInput) window.shifts.push([s.value, ...s.sources.map((x) => `${x.node?.nodeName}.${x.node?.className ?? ''}`)]);
            }).observe({ type: 'layout-shift', buffered: true });
        });
        const shifted = async (where) => {
            const all = await p.evaluate(() => window.shifts.splice(0));
            const sum = all.reduce((n, s) => n + s[0], 0);
            check(sum <= 0.001, `${where} jumps by ${sum.toFixed(4)}: ${JSON.stringify(all)}`);
        };
        for (const view of views) {
            await open(p, base, view);
            await p.reload(); // hash changes alone are no new document
            await open(p, base, view);
            await shifted(view);
        }
        await open(p, base, 'draw');
        const { job } = await api('/v1/draw', { prompt: 'a red apple', steps: 12, job: { preview_every: 1 } });
        await until('it on the stage', async () => (await p.locator('[data-testid=stage-image]').getAttribute('src').catch(() => '')) === (await api(`/v1/jobs/${job.id}`)).job.artifacts[0]?.url);
        await shifted('a drawing');
        await own.close();
    });

    await suite.test('what is painted before the script runs stands where the studio puts it, in the chosen look', page, async () => {
        for (const viewport of [{ width: 1440, height: 900 }, { width: 390, height: 844 }]) {
            const [own, p] = await fresh({ viewport, storageState: undefined, colorScheme: 'light' });
            await p.addInitScript(() => localStorage.setItem('limn.theme', '"dark"'));
            const frame = () => p.evaluate(() => [...document.querySelectorAll('.rail li svg, .rail .queue svg, .rail + main')].map((x) => { const r = x.getBoundingClientRect(); return [r.x, r.y, r.width, r.height].map(Math.round); }));
            const grounds = () => p.evaluate(() => [document.querySelector('.rail'), document.body].map((x) => getComputedStyle(x).backgroundColor));
            await p.route('**/assets/index-*.js', (r) => r.fulfill({ contentType: 'text/javascript', body: '' }));
            await p.goto(base);
            const before = [await frame(), await grounds()];
            same(before[0].length, 9, 'parts of the frame');
            await p.unroute('**/assets/index-*.js');
            await p.reload();
            await p.locator(rests.draw).waitFor();
            await still(p);
            same([await frame(), await grounds()], before, `the frame at ${viewport.width} px`);
            await own.close();
        }
    });

    await suite.test('after a sleep the stream goes on behind the last event', page, async () => {
        const to = await door(server.port);
        const [own, p] = await fresh({ storageState: undefined });
        try {
            await p.goto(`${to.url}/#/draw`);
            await live(p);
            await until('a stream', () => to.asked.length === 1);
            same(to.asked, ['/v1/events'], 'the first stream');
            const { job } = await api('/v1/draw', { prompt: 'a red apple', steps: 60 });
            await until('progress on the page', async () => /step \d+ of 60/.test(await p.locator('.under').innerText()));
            // The lid is shut: every connection is gone, and for a while there is no way to the server.
            to.sleep();
            await until('the page to know', () => p.locator('[data-testid=away]').isVisible(), 20000);
            await until('it drawn meanwhile', async () => (await api(`/v1/jobs/${job.id}`)).job.state === 'succeeded', 120000);
            const missed = (await api('/v1/draw?wait=60', { prompt: 'a green tree', steps: 2 })).job;
            to.wake();
            await until('both pictures', async () => (await p.locator('.strip [data-key]').evaluateAll((all) => all.map((x) => x.dataset.key.split('/')[0]))).filter((id) => [job.id, missed.id].includes(id)).length === 2, 30000);
            await until('no more said to be away', async () => !(await p.locator('[data-testid=away]').isVisible()));
            check(/^\/v1\/events\?after=.+/.test(to.asked.at(-1)), `it began anew: ${to.asked.at(-1)}`);
            check(!(await p.locator('[data-testid=cancel]').isVisible()), 'the drawing still seems to run');
        } finally {
            await own.close();
            to.close();
        }
    });

    await suite.test('a hidden page gives its stream back, and goes on when it is looked at', page, async () => {
        const to = await door(server.port);
        const [own, p] = await fresh({ storageState: undefined });
        const look = (state) => p.evaluate((x) => {
            Object.defineProperty(document, 'visibilityState', { value: x, configurable: true });
            Object.defineProperty(document, 'hidden', { value: x === 'hidden', configurable: true });
            document.dispatchEvent(new Event('visibilitychange'));
        }, state);
        try {
            await p.clock.install();
            await p.goto(`${to.url}/#/draw`);
            await p.clock.resume();
            await live(p);
            const seen = (await api('/v1/draw?wait=60', { prompt: 'a yellow star', steps: 2 })).job;
            const shows = (id) => p.locator(`.strip [data-key^="${id}/"]`).first().isVisible();
            await until('the first picture', () => shows(seen.id));
            await look('hidden');
            await p.clock.fastForward('00:31');
            await until('the stream to be given back', () => to.streams.size === 0);
            const missed = (await api('/v1/draw?wait=60', { prompt: 'a blue boat', steps: 2 })).job;
            check(!(await shows(missed.id)), 'a hidden page was told');
            await look('visible');
            await until('the picture that was missed', () => shows(missed.id));
            check(/^\/v1\/events\?after=.+/.test(to.asked.at(-1)), `it began anew: ${to.asked.at(-1)}`);
            // A page that the browser itself has frozen is the same page afterwards.
            const cdp = await own.newCDPSession(p);
            await cdp.send('Page.setWebLifecycleState', { state: 'frozen' });
            const frozen = (await api('/v1/draw?wait=60', { prompt: 'a red fish', steps: 2 })).job;
            await cdp.send('Page.setWebLifecycleState', { state: 'active' });
            await until('what was drawn while it was frozen', () => shows(frozen.id));
        } finally {
            await own.close();
            to.close();
        }
    });
}
