// SPDX-License-Identifier: MIT
// The Edit screen in detail: every tool of the mask, pen and fingers, the frame, words, before and after, what goes wrong.
// Called by studio.mjs; `e` is what it has built (page, server, api ...).
import { check, same, until } from './lib.mjs';

export async function editTests(e) {
    const { suite, page, base, api, jobs, live, picture, drop, context } = e;
    const canvas = page.locator('[data-testid=edit-canvas]');
    const painted = (p = page) => p.evaluate(() => {
        const c = document.querySelector('[data-testid=edit-canvas] canvas.tint');
        const d = c?.getContext('2d').getImageData(0, 0, c.width, c.height).data ?? [];
        let n = 0;
        for (let i = 3; i < d.length; i += 4) n += d[i] > 0;
        return n;
    });
    const artifact = async (job) => (await api(`/v1/jobs/${job}`)).job.artifacts.find((a) => a.role === 'result');
    /* Opens a picture that was just drawn; its mask is empty. */
    const begin = async (p = page, body = {}) => {
        const { job } = await api('/v1/draw?wait=120', { prompt: 'a red apple', steps: 4, seed: 7, ...body });
        same(job.state, 'succeeded', 'state of the drawing');
        await p.goto(`${base}/#/edit/${job.artifacts[0].id}`);
        await until('the picture on the canvas', () => p.evaluate((id) => location.hash === '#/edit' && document.querySelectorAll('[data-testid=edit-canvas] canvas').length === 2 && id, job.id));
        if ((await painted(p)) > 0) await p.locator('[data-testid=mask-clear]').click();
        await until('a clean mask', async () => (await painted(p)) === 0);
        return job;
    };
    const middle = async (p = page) => {
        const box = await p.locator('[data-testid=edit-canvas]').boundingBox();
        return [box.x + box.width / 2, box.y + box.height / 2];
    };
    const pull = async (points) => {
        const [cx, cy] = await middle();
        await page.mouse.move(cx + points[0][0], cy + points[0][1]);
        await page.mouse.down();
        for (const [x, y] of points.slice(1)) await page.mouse.move(cx + x, cy + y);
        await page.mouse.up();
    };
    const tool = (name) => page.click(`[data-testid=tool-${name}]`);
    const undo = () => page.keyboard.press('Control+z');

    await suite.test('edit: lasso, fill, invert, feather, clear, and all of it undone', page, async () => {
        await begin();
        const size = 128 * 128;
        const square = [[-60, -60], [60, -60], [60, 60], [-60, 60], [-60, -55]];
        await tool('lasso');
        await pull(square);
        const lassoed = await painted();
        check(lassoed > 100 && lassoed < size / 2, `the lasso took ${lassoed} pixels`);
        await page.getByRole('button', { name: 'Take away', exact: true }).click();
        await pull(square);
        same(await painted(), 0, 'pixels after taking the same away');
        await undo();
        same(await painted(), lassoed, 'pixels after undo');
        await page.click('[data-testid=mask-invert]');
        same(await painted(), size - lassoed, 'pixels after inverting');
        await page.keyboard.press('i');
        same(await painted(), lassoed, 'pixels after inverting again');
        await page.click('[data-testid=mask-feather]');
        check((await painted()) > lassoed, 'the edge did not soften');
        await page.click('[data-testid=mask-clear]');
        same(await painted(), 0, 'pixels after clearing');
        check(await page.locator('[data-testid=mask-clear]').isDisabled(), 'an empty mask can be cleared');
        for (let i = 0; i < 4; i++) await undo();
        same(await painted(), lassoed, 'pixels after four steps back');
        for (let i = 0; i < 4; i++) await page.keyboard.press('Control+y');
        same(await painted(), 0, 'pixels after four steps forward');
        await tool('bucket');
        await page.getByRole('button', { name: 'Add', exact: true }).click();
        await pull([[0, 0]]);
        const some = await painted();
        check(some > 0, 'the fill took nothing');
        await undo();
        await page.getByLabel('Tolerance').fill('128');
        await pull([[0, 0]]);
        check((await painted()) >= some, 'more tolerance fills less');
        await page.click('[data-testid=mask-clear]');
        await tool('brush');
    });

    await suite.test('edit: brush, eraser, right button, sizes, space bar', page, async () => {
        await begin();
        await page.keyboard.press('b');
        await page.getByRole('slider', { name: /^Size/ }).fill('8');
        await pull([[0, 0]]);
        const small = await painted();
        await undo();
        for (let i = 0; i < 8; i++) await page.keyboard.press(']');
        await pull([[0, 0]]);
        const large = await painted();
        check(large > 2 * small, `${large} pixels are not much more than ${small}`);
        const [cx, cy] = await middle();
        await page.mouse.click(cx, cy, { button: 'right' });
        check((await painted()) < large, 'the right button does not erase');
        await undo();
        const before = await page.locator('.frame').boundingBox();
        await page.keyboard.down(' ');
        await pull([[0, 0], [40, 20]]);
        await page.keyboard.up(' ');
        const after = await page.locator('.frame').boundingBox();
        same([Math.round(after.x - before.x), Math.round(after.y - before.y)], [40, 20], 'the picture moved by the space bar');
        same(await painted(), large, 'pixels after moving');
        await page.keyboard.press('0');
        await page.mouse.move(cx, cy);
        await page.mouse.wheel(0, -500);
        await until('a larger picture', async () => (await page.locator('.frame').boundingBox()).width > 1.4 * before.width);
        await page.keyboard.press('0');
        await until('the picture to fit', async () => Math.abs((await page.locator('.frame').boundingBox()).width - before.width) < 2);
    });

    await suite.test('edit: a pen paints as hard as it is pressed, and fingers then only move', page, async () => {
        const other = await context.browser().newContext({ viewport: { width: 1024, height: 768 }, hasTouch: true });
        const p = await other.newPage();
        e.watch(p);
        await begin(p);
        const cdp = await other.newCDPSession(p);
        const [x, y] = await middle(p);
        const dot = async (force) => {
            const pen = { x, y, button: 'left', pointerType: 'pen', force, clickCount: 1 };
            await cdp.send('Input.dispatchMouseEvent', { ...pen, type: 'mousePressed', buttons: 1 });
            await cdp.send('Input.dispatchMouseEvent', { ...pen, type: 'mouseReleased', buttons: 0 });
            const n = await painted(p);
            await p.keyboard.press('Control+z');
            await until('the dot to be undone', async () => (await painted(p)) === 0);
            return n;
        };
        const touch = (type, points) => cdp.send('Input.dispatchTouchEvent', { type, touchPoints: points.map(([px, py], id) => ({ x: px, y: py, id })) });
        const frame = () => p.locator('.frame').boundingBox();
        // One finger paints as long as no pen was seen.
        await touch('touchStart', [[x, y]]);
        await touch('touchMove', [[x + 30, y]]);
        await touch('touchEnd', []);
        check((await painted(p)) > 0, 'a finger does not paint');
        await p.keyboard.press('Control+z');
        // Two fingers zoom and move; what the first had begun is taken back.
        const before = await frame();
        await touch('touchStart', [[x - 40, y]]);
        await touch('touchStart', [[x - 40, y], [x + 40, y]]);
        for (const d of [50, 60, 80]) await touch('touchMove', [[x - d, y], [x + d, y]]);
        await touch('touchEnd', []);
        await until('a larger picture', async () => (await frame()).width > 1.5 * before.width);
        same(await painted(p), 0, 'pixels painted by two fingers');
        const [light, hard] = [await dot(0.1), await dot(1)];
        check(hard > 1.5 * light && light > 0, `pressed lightly ${light} pixels, hard ${hard}`);
        const still = await frame();
        await touch('touchStart', [[x, y]]);
        await touch('touchMove', [[x + 30, y + 10]]);
        await touch('touchEnd', []);
        await until('the finger to move the picture', async () => (await frame()).x - still.x > 20);
        same(await painted(p), 0, 'pixels painted by the hand that rests');
        await other.close();
    });

    await suite.test('edit: strength, a frame pulled by hand, before and after, and back with the mask', page, async () => {
        const start = await begin();
        await page.locator('[data-param=strength] input[type=text]').fill('0.4');
        await page.locator('[data-param=strength] input[type=text]').press('Enter');
        await page.fill('#edit-prompt', 'a lemon');
        check(/Draw anew/.test(await page.locator('[data-testid=edit-draw]').innerText()), 'the button does not say that all is drawn anew');
        await tool('brush');
        await pull([[-30, 0], [30, 0]]);
        const mask = await painted();
        check(/Draw the part/.test(await page.locator('[data-testid=edit-draw]').innerText()), 'the button does not say that a part is drawn');
        await page.click('[data-testid=edit-draw]');
        await page.locator('[data-testid=edit-keep]').waitFor({ timeout: 90000 });
        const [made] = await jobs('&state=succeeded');
        same((await api(`/v1/jobs/${made.id}`)).job.params.strength, 0.4, 'strength');
        same(await page.locator('.viewer .called').allInnerTexts(), ['Before', 'After'], 'names of the two');
        await page.getByRole('button', { name: 'Back to the mask' }).click();
        await until('the mask again', async () => (await painted()) === mask);
        await page.click('[data-testid=edit-draw]');
        await page.locator('[data-testid=edit-keep]').waitFor({ timeout: 90000 });
        await page.click('[data-testid=edit-keep]');
        await until('the new picture without a mask', async () => (await painted()) === 0);
        await page.getByRole('button', { name: 'The picture before' }).click();
        await until('the old one with its mask', async () => (await painted()) === mask);
        await page.click('[data-testid=mask-clear]');
        const grip = await page.getByRole('button', { name: 'Pull to add room above' }).boundingBox();
        await page.mouse.move(grip.x + grip.width / 2, grip.y + grip.height / 2);
        await page.mouse.down();
        await page.mouse.move(grip.x + grip.width / 2, grip.y - 60, { steps: 5 });
        await page.mouse.up();
        const dims = /(\d+) × (\d+)/.exec(await page.locator('.bar .dims').innerText());
        check(Number(dims[1]) === 128 && Number(dims[2]) > 128 && Number(dims[2]) % 8 === 0, `the frame is ${dims[0]}`);
        check(/Draw beyond/.test(await page.locator('[data-testid=edit-draw]').innerText()), 'the button does not say that it draws beyond');
        await until('the frame to be written down', async () => (await e.kept('edit')).some((x) => x.frame.top > 0));
        await page.reload();
        await until('the frame after a reload', async () => (await page.locator('.bar .dims').innerText().catch(() => '')) === dims[0]);
        await page.getByRole('button', { name: 'Take the frame back' }).click();
        await until('the picture alone', async () => (await page.locator('.bar .dims').innerText()) === '128 × 128');
        check((await artifact(start.id)).width === 128, 'the first picture');
    });

    await suite.test('edit: words select what they name', page, async () => {
        await begin();
        await page.getByPlaceholder('Select by words: the cup').fill('apple');
        const before = (await jobs('&kind=see')).length;
        await page.getByRole('button', { name: 'Select', exact: true }).click();
        const job = await until('the answer', async () => { const all = await jobs('&kind=see&state=succeeded'); return (await jobs('&kind=see')).length === before + 1 && all[0]; });
        const { result } = (await api(`/v1/jobs/${job.id}`)).job;
        same(result.task, 'boxes', 'task');
        const boxes = result.findings.filter((f) => f.box && f.box[2] > f.box[0] && f.box[3] > f.box[1]);
        const said = page.locator('.toast', { hasText: boxes.length > 0 ? /[1-9]\d* places? found and masked/ : 'Nothing was found' }).first();
        await until('it to be said', () => said.isVisible());
        if (boxes.length === 0) same(await painted(), 0, 'pixels');
        else check((await painted()) > 0, 'nothing is masked');
        await until('it to be free again', () => page.getByRole('button', { name: 'Select', exact: true }).isEnabled());
    });

    await suite.test('edit: pictures by drop, paste and file; what is none is refused', page, async () => {
        await begin();
        const own = Buffer.from(await (await fetch(`${e.server.url}${(await picture()).artifacts[0].url}`)).arrayBuffer());
        const toast = (text) => until(`"${text}"`, () => page.locator('.toast.error', { hasText: text }).first().isVisible());
        await drop('.edit', 'notes.txt', Buffer.from('words'), 'text/plain');
        await toast('This kind of file cannot be read here.');
        await drop('.edit', 'broken.png', Buffer.from('no picture at all'), 'image/png');
        await until('the server to refuse it', async () => (await page.locator('.toast.error').count()) > 1);
        check(await canvas.isVisible(), 'the picture is gone');
        await page.evaluate(() => document.querySelectorAll('.toast .icon').forEach((x) => x.click()));
        // The same bytes are the same picture: one of another size.
        const large = Buffer.from(await (await fetch(`${e.server.url}${(await api('/v1/upscale?wait=60', { image: `data:image/png;base64,${own.toString('base64')}`, upscale: 2 })).job.artifacts.find((a) => a.role === 'result').url}`)).arrayBuffer());
        await drop('.edit', 'large.png', large, 'image/png');
        await until('the dropped picture', async () => (await page.locator('.bar .dims').innerText()) === '256 × 256');
        await page.setInputFiles('[data-testid=edit-file]', { name: 'own.png', mimeType: 'image/png', buffer: own });
        await until('the chosen file', async () => (await page.locator('.bar .dims').innerText()) === '128 × 128');
        await page.evaluate((b64) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(b64), (c) => c.charCodeAt(0))], 'p.png', { type: 'image/png' }));
            window.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
        }, large.toString('base64'));
        await until('the pasted picture', async () => (await page.locator('.bar .dims').innerText()) === '256 × 256');
        await page.goto(`${base}/#/edit/${'0'.repeat(64)}`);
        await until('the missing picture to be told', async () => (await page.locator('.toast.error').count()) > 0);
        same(await page.locator('.bar .dims').innerText(), '256 × 256', 'the picture that was open');
        e.excuse(/neither a picture/);
        e.excuse(/artifact/);
        await page.goto(`${base}/#/draw`);
        await live();
    });
}
