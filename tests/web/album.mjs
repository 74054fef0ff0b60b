// SPDX-License-Identifier: MIT
// The pictures of docs/studio, taken anew with the bundled models:
//
//     node tests/web/album.mjs FOLDER [--limn build/limn] [--models FOLDER] [compare edit grid see phone]
//
// Writes PNG files; the documents have them as WebP, the two of the phone side by side with 24 pixels between. Look at each
// before it is committed.
import { mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, Server, shelf, until } from './lib.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const { chromium } = createRequire(join(root, 'web', 'package.json'))('playwright-core');
const args = process.argv.slice(2);
const option = (name, fallback) => {
    const at = args.indexOf(name);
    return at < 0 ? fallback : args.splice(at, 2)[1];
};
const library = shelf(option('--models', join(root, 'models')));
const server = new Server(option('--limn', join(root, 'build', 'limn')), await freePort(), ['--models-dir', library], { LIMN_MODELS: library });
const [folder, ...chosen] = args;
mkdirSync(folder, { recursive: true });
await server.start();
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });

const api = async (path, body) => (await fetch(server.url + path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) })).json();
const drawn = async (prompt, seed) => (await api('/v1/draw?wait=300', { prompt, seed })).job.artifacts[0].id;
const things = ['a cactus', 'a guitar on a purple background', 'a strawberry', 'a butterfly on a white background', 'a banana', 'a rocket on a grey background',
    'an owl on a blue background', 'a penguin on a light blue background', 'a cake', 'a fox on a green background', 'a turtle on a yellow background', 'a red apple on a white background'];
const ids = {};
for (const [i, prompt] of things.entries()) ids[prompt] = await drawn(prompt, 50 + i);
const find = (word) => ids[things.find((x) => x.includes(word))];

/* A page of its own, as somebody finds it who comes for the first time. */
async function fresh(theme, viewport, more = {}) {
    const context = await browser.newContext({ viewport, colorScheme: theme, ...more });
    const page = await context.newPage();
    await page.goto(server.url);
    await until('the letters and the settings', () => page.evaluate(() => document.fonts.status === 'loaded' && document.querySelectorAll('.strip [data-key]').length > 0));
    return page;
}
async function shot(name, page) {
    await until('no notice', async () => !(await page.locator('.toast').count()));
    await page.mouse.move(2, 2);
    await page.screenshot({ path: join(folder, `${name}.png`), animations: 'disabled' });
    await page.context().close();
}
const desk = { width: 1280, height: 800 };
const stroke = async (page, points) => {
    const box = await page.locator('[data-testid=edit-canvas]').boundingBox();
    await page.mouse.move(box.x + box.width * points[0][0], box.y + box.height * points[0][1]);
    await page.mouse.down();
    for (const [x, y] of points) await page.mouse.move(box.x + box.width * x, box.y + box.height * y, { steps: 6 });
    await page.mouse.up();
};
const canvas = (page) => until('the picture on the canvas', async () => (await page.locator('[data-testid=edit-canvas] canvas').count()) === 2);
const thing = (page, word) => page.locator(`.strip [data-key] img[src*="${find(word)}"]`).click();

const shots = {
    async compare() {
        const page = await fresh('dark', desk);
        await page.fill('#prompt', 'a (penguin:1.2) on a __colour__ background');
        await page.locator('[data-testid=tokens]').waitFor();
        await thing(page, 'penguin');
        await page.getByRole('button', { name: 'Compare' }).click();
        await thing(page, 'owl');
        await page.getByRole('button', { name: 'Side by side' }).click();
        await until('two places', async () => (await page.locator('.viewer .pane').count()) === 2);
        await shot('compare', page);
    },
    async edit() {
        const page = await fresh('light', desk);
        await page.goto(`${server.url}/#/edit/${find('fox')}`);
        await canvas(page);
        await page.getByRole('slider', { name: /^Size/ }).fill('22');
        await stroke(page, [[0.36, 0.18], [0.5, 0.13], [0.64, 0.18]]);
        const grip = page.getByRole('button', { name: 'Pull to add room on the right' });
        await grip.focus();
        for (let i = 0; i < 5; i++) await grip.press('ArrowRight');
        await grip.blur();
        await page.locator('textarea').first().fill('a fox with a crown');
        await shot('edit', page);
    },
    async grid() {
        const page = await fresh('light', { width: 1280, height: 850 });
        await page.fill('#prompt', 'a red apple on a white background');
        await page.goto(`${server.url}/#/grid`);
        const values = page.locator('fieldset > input');
        await values.nth(0).fill('1, 2, 6');
        await values.nth(1).fill('2, 4, 20');
        await page.click('[data-testid=grid-run]');
        await until('all nine', async () => (await page.locator('[data-testid=grid-cell] a').count()) === 9);
        await page.locator('[data-testid=grid-sheet]').waitFor();
        await until('it to be over', () => page.locator('[data-testid=grid-run]').isEnabled());
        await shot('grid', page);
    },
    async see() {
        const page = await fresh('light', { width: 1440, height: 900 });
        await page.goto(`${server.url}/#/see/${find('apple')}`);
        await page.locator('.foot .film').first().waitFor();
        const done = (n) => until(`${n} answers`, async () => (await page.locator('[data-testid=answer]').count()) >= n && !(await page.locator('.answer[aria-busy=true], .answer .pulse').count()));
        await page.getByRole('button', { name: 'Describe', exact: true }).click();
        await done(1);
        await page.getByRole('button', { name: 'Find', exact: true }).click();
        await page.getByPlaceholder('What to find').fill('apple');
        await page.keyboard.press('Enter');
        await done(2);
        await shot('see', page);
    },
    async phone() {
        const size = { width: 390, height: 844 }, touch = { hasTouch: true, isMobile: true };
        const left = await fresh('light', size, touch);
        await left.fill('#prompt', 'a (penguin:1.2) on a light blue background');
        await left.locator('[data-testid=tokens]').waitFor();
        await thing(left, 'penguin');
        await shot('phone-draw', left);
        const right = await fresh('dark', size, touch);
        await right.goto(`${server.url}/#/edit/${find('fox')}`);
        await canvas(right);
        await right.getByRole('slider', { name: /^Size/ }).fill('26');
        await stroke(right, [[0.32, 0.2], [0.5, 0.17], [0.68, 0.2]]);
        await right.locator('textarea').first().fill('a fox with a crown');
        await shot('phone-edit', right);
    },
};
for (const name of chosen.length ? chosen : Object.keys(shots)) await shots[name]();
await browser.close();
await server.stop();
rmSync(library, { recursive: true, force: true });
