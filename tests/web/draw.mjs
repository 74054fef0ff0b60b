// SPDX-License-Identifier: MIT
// The Draw screen in detail: the prompt and its helpers, the form, comparing and zooming, the queue, what goes wrong.
// Called by studio.mjs; `e` is what it has built (page, server, api ...).
import { check, same, until } from './lib.mjs';

export async function drawTests(e) {
    const { suite, page, base, server, api, jobs, to, live, setNumber } = e;
    const body = async (id) => (await api(`/v1/jobs/${id}`)).job.params;
    const prompt = page.locator('#prompt');
    const strip = page.locator('.strip [data-key]');
    const row = (name) => page.locator(`aside [data-param=${name}]`);
    const begin = async () => {
        await to('draw');
        await live();
        await page.evaluate(() => document.querySelector('dialog[open]')?.close());
    };
    const choose = async (name, query) => {
        await row(name).locator('button.face').click();
        await page.locator('.list:popover-open input').fill(query);
        await page.keyboard.press('Enter');
    };
    const reset = async () => {
        const all = page.getByRole('button', { name: 'Put all settings back' });
        if (await all.isEnabled()) await all.click();
    };
    /* Makes pictures behind the page's back and waits until it has heard of them. */
    const made = async (bodies) => {
        for (const b of bodies) {
            const { job } = await api('/v1/draw?wait=120', { prompt: 'a red apple', steps: 2, ...b });
            same(job.state, 'succeeded', 'state of the drawing');
            await until('the page to show it', () => page.locator(`.strip [data-key^="${job.id}/"]`).first().isVisible());
        }
    };

    await suite.test('draw: the words are coloured and their tokens counted for each chunk', page, async () => {
        await begin();
        await prompt.fill('a (red:1.2) [apple|pear] {big|small} <lora:x:1> __colour__ \\( ) BREAK a boat');
        const marks = await page.locator('.copy span').evaluateAll((all) => all.map((s) => [s.className.split(' ')[0], s.textContent]));
        for (const [mark, text] of [['weight', ':1.2'], ['bar', '|'], ['tag', '<lora:x:1>'], ['wild', '__colour__'], ['escape', '\\('], ['stray', ')'], ['break', 'BREAK']]) {
            check(marks.some((m) => m[0] === mark && m[1] === text), `${text} is not marked as ${mark}: ${JSON.stringify(marks)}`);
        }
        same(await page.locator('.copy').first().textContent(), `${await prompt.inputValue()}\u200b`, 'the coloured copy');
        await prompt.fill('a (red:1.2) apple');
        const { used, limit } = await api('/v1/tokens', { text: 'a red apple' });
        const tokens = page.locator('[data-testid=tokens]');
        if (limit > 0) {
            await until('brackets and weights not to count', async () => (await tokens.innerText()).trim() === `${used[0]} of ${limit} tokens`);
            await prompt.fill('a (red:1.2) apple BREAK a boat');
            const two = (await api('/v1/tokens', { text: 'a red apple BREAK a boat' })).used;
            await until('two chunks', async () => (await tokens.innerText()).trim() === `${two[0]} + ${two[1]} tokens in chunks of ${limit}`);
            same(await tokens.locator('.chunks i').count(), 2, 'bars');
        }
    });

    await suite.test('draw: wildcards, LoRAs and styles are offered, chosen and drawn with', page, async () => {
        await begin();
        await reset();
        await prompt.fill('a __col');
        await until('the wildcard to be offered', () => page.locator('.offers li').first().isVisible());
        await page.keyboard.press('Enter');
        await until('the whole name', async () => (await prompt.inputValue()) === 'a __colour__');
        await prompt.press('End');
        await page.keyboard.type(' apple <lora:so');
        await until('the LoRA to be offered', () => page.locator('.offers li').first().isVisible());
        await page.keyboard.press('Tab');
        await until('the LoRA in the words', async () => (await prompt.inputValue()) === 'a __colour__ apple <lora:soft:1>');
        await prompt.fill('a apple');
        await page.evaluate(() => document.querySelector('#prompt').setSelectionRange(2, 2));
        await page.getByRole('button', { name: 'Insert' }).click();
        await page.locator('.list:popover-open input').fill('colour');
        await page.keyboard.press('Enter');
        await until('the inserted name', async () => /^a __colour__ apple$/.test(await prompt.inputValue()));
        await choose('styles', 'Night');
        await choose('loras', 'soft');
        await row('loras').getByRole('slider').fill('0.5');
        await setNumber('steps', 2);
        await page.click('[data-testid=draw]');
        const job = await until('it to be drawn', async () => (await jobs('&state=succeeded,failed')).find((j) => /__colour__ apple/.test(j.title)));
        same(job.state, 'succeeded', `state (${JSON.stringify(job.error)})`);
        const params = await body(job.id);
        same([params.styles, params.loras], [['Night'], ['soft:0.5']], 'styles and LoRAs');
        await row('loras').getByRole('button', { name: /Remove soft/ }).click();
        check(!(await row('loras').locator('.item').count()), 'the LoRA is still there');
        await reset();
    });

    await suite.test('draw: earlier prompts are a list too, and pickers say what fits', page, async () => {
        await begin();
        await prompt.fill('');
        await page.getByRole('button', { name: 'Earlier prompts' }).click();
        await page.locator('.list:popover-open input').fill('__colour__');
        await page.keyboard.press('Enter');
        await until('the prompt of before', async () => /__colour__ apple/.test(await prompt.inputValue()));
        const name = (await api('/v1/models')).data.find((m) => m.kind === 'draw' && m.default).id;
        same((await row('model').locator('button.face').innerText()).trim(), name, 'the model when none is chosen');
        await row('model').locator('button.face').click();
        await until('what fits is said', async () => /\d+ MB\s*fits/.test(await page.locator('.list:popover-open').innerText()));
        await page.keyboard.press('Escape');
        for (const list of ['sampler', 'schedule']) {
            await row(list).locator('button.face').click();
            await until(`${list}s`, async () => (await page.locator('.list:popover-open li').count()) > 3);
            await page.keyboard.press('Escape');
        }
        await row('sampler').hover();
        await until('the sampler is explained', async () => /^sampler /.test(await page.locator('aside .about').innerText()));
    });

    await suite.test('draw: the form in short and whole, sizes and their ratio', page, async () => {
        await begin();
        await reset();
        const count = () => page.locator('aside [data-param]').count();
        const basic = await count();
        await page.locator('aside').getByRole('button', { name: 'All', exact: true }).click();
        check((await count()) > 2 * basic, 'not all settings are shown');
        const fallback = row('clip_skip').locator('input[type=text]');
        check((await fallback.evaluate((x) => x.scrollWidth - x.clientWidth)) <= 0, 'a default is cut off');
        await page.locator('aside').getByRole('button', { name: 'Basic', exact: true }).click();
        same(await count(), basic, 'settings in the short form');
        const [w, h] = [page.getByLabel('Width', { exact: true }), page.getByLabel('Height', { exact: true })];
        const type = async (field, text) => { await field.fill(text); await field.press('Enter'); await field.blur(); };
        await type(w, '256');
        await type(h, '128');
        await page.getByRole('button', { name: 'Keep the ratio' }).click();
        await type(w, '512');
        same(await h.inputValue(), '256', 'height that keeps the ratio');
        await page.getByRole('button', { name: 'Keep the ratio' }).click();
        await page.getByRole('button', { name: 'Swap width and height' }).click();
        same([await w.inputValue(), await h.inputValue()], ['256', '512'], 'swapped');
        await page.getByRole('button', { name: '1:1', exact: true }).click();
        same(await w.inputValue(), await h.inputValue(), 'a square');
        check(/1 changed/.test(await page.locator('aside .changed').innerText()), 'the change is not counted');
        check(await page.locator('aside .size.set').isVisible(), 'the size is not marked as changed');
        await reset();
        same(await w.inputValue(), '', 'width after the reset');
        await page.getByRole('button', { name: 'Undo' }).last().click();
        check((await w.inputValue()) !== '', 'the reset cannot be undone');
        await reset();
        await setNumber('steps', 9);
        await row('steps').getByRole('button', { name: 'Put Steps back' }).click();
        check(!(await page.locator('aside [data-param=steps].set').count()), 'one setting does not go back');
    });

    await suite.test('draw: a batch is shown as a sheet', page, async () => {
        await begin();
        await reset();
        await prompt.fill('a sheet of apples');
        await setNumber('steps', 2);
        await setNumber('batch_size', 4);
        same((await page.locator('[data-testid=draw]').innerText()).split('\n')[0].trim().replace(/\s*Ctrl.*/, ''), 'Draw 4', 'button');
        await page.click('[data-testid=draw]');
        const job = await until('four pictures', async () => (await jobs('&state=succeeded')).find((j) => j.title === 'a sheet of apples'));
        same(job.artifacts.filter((a) => a.role === 'result').length, 4, 'pictures');
        await page.getByRole('button', { name: 'All pictures of this drawing' }).click();
        const tiles = page.locator('.sheet button');
        await until('the sheet', async () => (await tiles.count()) === 4);
        const boxes = await Promise.all([0, 1, 2, 3].map((i) => tiles.nth(i).boundingBox()));
        same([boxes[0].y === boxes[1].y, boxes[0].x === boxes[2].x || boxes[0].y === boxes[2].y], [true, true], 'a grid without a lonely last one');
        const stage = await page.locator('.stage').boundingBox();
        for (const b of boxes) check(b.y + b.height <= stage.y + stage.height, 'a picture of the sheet is cut off');
        await tiles.nth(2).click();
        await until('the third alone', async () => (await page.locator('[data-testid=stage-image]').getAttribute('src')) === job.artifacts.find((a) => a.role === 'result' && a.index === 2).url);
        await reset();
    });

    await suite.test('draw: zoom, pan, and comparing by slider and side by side', page, async () => {
        await begin();
        await made([{ seed: 301 }, { seed: 302, prompt: 'a green tree' }, { seed: 303, prompt: 'a yellow star' }]);
        await strip.first().click();
        const image = page.locator('[data-testid=stage-image]');
        await until('the newest', async () => (await image.getAttribute('alt')) === 'a yellow star');
        const scale = () => image.evaluate((x) => x.getBoundingClientRect().width / x.clientWidth);
        const box = await page.locator('.viewer').boundingBox();
        const [cx, cy] = [box.x + box.width / 2, box.y + box.height / 2];
        await page.mouse.move(cx, cy);
        await page.mouse.wheel(0, -600);
        await until('it to be larger', async () => (await scale()) > 1.5);
        const left = () => image.evaluate((x) => x.getBoundingClientRect().left);
        for (let i = 0; i < 5; i++) await page.mouse.wheel(0, -400);
        await until('it to be larger than the stage', async () => (await image.evaluate((x) => x.getBoundingClientRect().width)) > box.width);
        const before = await left();
        await page.mouse.down();
        await page.mouse.move(cx + 50, cy, { steps: 3 });
        await page.mouse.up();
        check(Math.abs((await left()) - before - 50) < 2, 'the picture does not follow the hand');
        await page.locator('.viewer').focus();
        await page.keyboard.press('0');
        await until('it to fit', async () => Math.abs((await scale()) - 1) < 0.01);
        await page.keyboard.press('+');
        check((await scale()) > 1.2, 'plus does not zoom');
        await page.keyboard.press('0');

        await page.getByRole('button', { name: 'Compare' }).click();
        const slider = page.getByRole('slider', { name: 'Where the pictures meet' });
        same(await slider.getAttribute('aria-valuenow'), '50', 'the line in the middle');
        await slider.focus();
        await page.keyboard.press('ArrowLeft');
        same(await slider.getAttribute('aria-valuenow'), '48', 'the line after a key');
        const picture = await image.boundingBox();
        await page.mouse.move(picture.x + picture.width / 2, picture.y + 30);
        await page.mouse.down();
        await page.mouse.move(picture.x + picture.width / 4, picture.y + 30, { steps: 4 });
        await page.mouse.up();
        same(await slider.getAttribute('aria-valuenow'), '25', 'the line after a pull');
        same(await page.locator('.viewer .called').allInnerTexts(), ['a green tree · 302', 'a yellow star · 303'], 'names of the two');
        await strip.nth(2).click();
        await until('the other picture', async () => (await page.locator('.viewer .called').first().innerText()) === 'a red apple · 301');
        await page.getByRole('button', { name: 'Side by side' }).click();
        await until('two places', async () => (await page.locator('.viewer .pane').count()) === 2);
        await page.mouse.move(box.x + box.width / 4, cy);
        await page.mouse.wheel(0, -500);
        const moves = () => page.locator('.viewer .place').evaluateAll((all) => all.map((x) => x.style.transform));
        await until('both to move as one', async () => { const [a, b] = await moves(); return a === b && !/scale\(1\)/.test(a); });
        await page.getByRole('button', { name: 'Slider', exact: true }).click();
        await page.getByRole('button', { name: 'Compare' }).click();
        check(!(await slider.count()), 'the comparison does not end');
    });

    // Notices lie over the picture: several of them reach its middle, where the pointer is.
    await suite.test('draw: a notice said again takes the place of the first', page, async () => {
        await begin();
        const notices = page.locator('.toast', { hasText: 'All settings are as the model likes them.' });
        for (const steps of [7, 8, 9]) {
            await setNumber('steps', steps);
            await reset();
            await until('the notice', async () => (await notices.count()) > 0);
        }
        same(await notices.count(), 1, 'notices of three times');
        await notices.getByRole('button', { name: 'Undo' }).click();
        await until('it to go', async () => (await notices.count()) === 0);
        await until('the last change to be back', async () => (await row('steps').locator('input[type=text]').first().inputValue()) === '9');
        await reset();
    });

    await suite.test('draw: a turn of the wheel over a notice reaches the picture', page, async () => {
        await begin();
        await made([{ seed: 305 }]);
        await strip.first().click();
        const image = page.locator('[data-testid=stage-image]');
        const scale = () => image.evaluate((x) => x.getBoundingClientRect().width / x.clientWidth);
        const toast = page.locator('.toast').last();
        // A notice goes by itself after a while: each attempt has its own.
        const turned = async (place) => {
            await setNumber('steps', 9);
            await reset();
            if (!(await place.hover({ timeout: 4000 }).then(() => true, () => false))) return false;
            await page.mouse.wheel(0, -600);
            for (let i = 0; i < 50; i++) if ((await scale()) > 1.5) return true;
            return false;
        };
        for (const [name, place] of [['its words', toast.locator('p')], ['its button', toast.getByRole('button', { name: 'Undo' })]]) {
            await page.locator('.viewer').focus();
            await page.keyboard.press('0');
            await until('it to fit', async () => Math.abs((await scale()) - 1) < 0.01);
            await until(`the picture to be larger by a turn over ${name}`, () => turned(place));
        }
        await page.keyboard.press('0');
    });

    await suite.test('draw: settings of a picture are used, and it goes to the other screens', page, async () => {
        await begin();
        await made([{ prompt: 'a wooden boat', seed: 311, steps: 3 }]);
        await strip.first().click();
        await page.getByRole('button', { name: 'Use settings' }).click();
        await until('its words', async () => (await prompt.inputValue()) === 'a wooden boat');
        same([await row('steps').locator('input[type=text]').inputValue(), await row('seed').locator('input').inputValue()], ['3', '311'], 'settings');
        await page.getByRole('button', { name: 'Undo' }).last().click();
        await until('what was there before', async () => (await prompt.inputValue()) !== 'a wooden boat');
        const [job] = await jobs('&state=succeeded');
        await page.getByRole('button', { name: 'Edit', exact: true }).click();
        await until('it on the canvas', () => page.locator('[data-testid=edit-canvas] canvas').first().isVisible());
        await page.goBack();
        await page.getByRole('button', { name: 'Ask', exact: true }).click();
        await until('it to be asked about', () => page.locator(`.mat img[src*="${job.artifacts[0].id}"]`).isVisible());
        await page.locator('.films .film button').first().click();
    });

    await suite.test('draw: going on by itself, the star, and the picture on the clipboard', page, async () => {
        await begin();
        await reset();
        await prompt.fill('again and again');
        await setNumber('steps', 2);
        const mine = async () => (await jobs('&state=succeeded,queued,running')).filter((j) => j.title === 'again and again');
        await page.click('[data-testid=endless]');
        await until('three of them', async () => (await mine()).filter((j) => j.state === 'succeeded').length >= 3, 90000);
        check(new Set((await mine()).map((j) => j.seed)).size === (await mine()).length, 'seeds are drawn twice');
        await page.click('[data-testid=endless]');
        await until('the last one', async () => (await jobs('&state=queued,running')).length === 0);
        const count = (await mine()).length;
        await setNumber('steps', 3); // the page has answered something since, and drew nothing more
        same((await mine()).length, count, 'drawings after it was turned off');
        await row('seed').locator('input').fill('5');
        await row('seed').locator('input').blur();
        check(await page.locator('[data-testid=endless]').isDisabled(), 'the same picture would be drawn for ever');
        await reset();

        await strip.first().click();
        const id = (await strip.first().getAttribute('data-key')).split('/')[0];
        const star = page.locator('.under [data-testid=keep]');
        const tags = async () => (await api(`/v1/jobs/${id}`)).job.tags;
        await star.click();
        await until('the tag', async () => JSON.stringify(await tags()) === '["keep"]');
        same(await star.getAttribute('aria-pressed'), 'true', 'star');
        await to('gallery');
        await page.click('[data-testid=gallery-kept]');
        await until('the starred alone', async () => (await page.locator('.list[data-query]').getAttribute('data-query')) === 'tag:keep' && (await page.locator('.cell').count()) >= 1);
        for (const key of await page.locator('.cell .open').evaluateAll((all) => all.map((x) => x.getAttribute('aria-label')))) check(/again/.test(key), `${key} has no star`);
        await page.click('[data-testid=gallery-kept]');
        await begin();
        await strip.first().click();
        await star.click();
        await until('no tag', async () => (await tags()).length === 0);

        await e.context.grantPermissions(['clipboard-read', 'clipboard-write']);
        await page.getByRole('button', { name: 'Copy the picture' }).click();
        const size = await until('the picture on the clipboard', () => page.evaluate(async () => {
            const [item] = await navigator.clipboard.read();
            if (!item?.types.includes('image/png')) return null;
            const made = await createImageBitmap(await item.getType('image/png'));
            return [made.width, made.height];
        }).catch(() => null), 10000);
        const file = (await api(`/v1/jobs/${id}`)).job.artifacts[0];
        same(size, [file.width, file.height], 'size of the copy');
    });

    await suite.test('draw: the queue tells times and tries again', page, async () => {
        await begin();
        await made([{ prompt: 'a small lion', seed: 5 }]);
        const [lion] = await jobs('&state=succeeded');
        await api('/v1/draw', { prompt: 'a long one', steps: 500 });
        await page.click('[data-testid=queue-button]');
        const drawer = page.locator('[data-testid=queue]');
        // How long a drawing behind it will wait is said too, once it is known.
        const { job: behind } = await api('/v1/draw', { prompt: 'one behind', steps: 3 });
        await until('how long it waits', async () => /left/.test(await drawer.locator('[data-testid=job-waiting]', { hasText: 'one behind' }).innerText()), 30000);
        await api(`/v1/jobs/${behind.id}/cancel`, {});
        await until('it to be gone', async () => (await drawer.locator('[data-testid=job-waiting]').count()) === 0);
        const { job: up } = await api('/v1/upscale', { image: `artifact:${lion.artifacts[0].id}`, upscale: 2 });
        await until('how long it takes', async () => /\d+\/500\s*· .*left/.test((await drawer.locator('[data-testid=job-running]').innerText()).replace(/\u00a0/g, ' ')));
        await until('a place', async () => (await drawer.locator('[data-testid=job-waiting] .place').allInnerTexts()).join() === '1');
        check(/took [\d.]+ s/.test(await drawer.innerText()), 'how long things took is not told');
        await drawer.locator('[data-testid=job-running]').getByRole('button', { name: 'Cancel' }).click();
        await until('the enlargement', async () => (await api(`/v1/jobs/${up.id}`)).job.state === 'succeeded');
        await drawer.locator('li', { hasText: 'a long one' }).getByRole('button', { name: 'Try again' }).click();
        const again = drawer.locator('[data-testid=job-running]', { hasText: 'a long one' });
        await until('it to run again', () => again.isVisible());
        // An enlargement that was cancelled before it began can be asked for again, too.
        const { job: late } = await api('/v1/upscale', { image: `artifact:${lion.artifacts[0].id}`, upscale: 3 });
        await api(`/v1/jobs/${late.id}/cancel`, {});
        await drawer.locator('li', { hasText: 'Enlargement' }).getByRole('button', { name: 'Try again' }).click();
        await again.getByRole('button', { name: 'Cancel' }).click();
        await until('the enlargement drawn', async () => (await jobs('&kind=upscale&state=succeeded')).some((j) => j.artifacts.some((a) => a.width === 3 * lion.artifacts[0].width)));
        await until('none left', async () => (await jobs('&state=queued,running')).length === 0);
        await page.keyboard.press('Escape');
    });

    await suite.test('draw: what goes wrong is said: no such model, a full queue, a job that fails', page, async () => {
        await begin();
        await reset();
        const failure = page.locator('.composer .failure');
        const settings = (change) => fetch(`${server.url}/v1/settings`, { method: 'PATCH', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(change) });
        await page.goto(`${base}/icon.svg`);
        await page.evaluate(() => localStorage.setItem('limn.draft', JSON.stringify({ prompt: 'a pear', model: 'gone' })));
        await begin();
        await page.click('[data-testid=draw]');
        await until('the missing model', async () => /gone/.test(await failure.innerText().catch(() => '')));
        await row('model').getByRole('button', { name: 'Put Model back' }).click();
        await failure.getByRole('button', { name: 'Close' }).click();
        const depth = (await api('/v1/settings')).settings.queue_depth;
        await settings({ paused: true, queue_depth: 1 });
        try {
            await page.click('[data-testid=draw]');
            await until('one to wait', async () => (await jobs('&state=queued')).length === 1);
            await page.click('[data-testid=draw]');
            await until('the full queue', async () => /queue is full/i.test(await failure.innerText().catch(() => '')));
            same(await prompt.inputValue(), 'a pear', 'prompt');
        } finally {
            await settings({ paused: false, queue_depth: depth });
        }
        await until('the one to be drawn', async () => (await jobs('&state=queued,running')).length === 0);
        await failure.getByRole('button', { name: 'Close' }).click();
        await choose('loras', 'foreign');
        await page.click('[data-testid=draw]');
        const said = page.locator('.stage [role=alert]');
        await until('the failure', async () => /^Failed\n/.test(await said.innerText().catch(() => '')), 30000);
        const [failed] = await jobs('&state=failed');
        check((await said.innerText()).includes(failed.error.message), `the reason is not told: ${await said.innerText()}`);
        await prompt.fill('words typed since');
        await said.getByRole('button', { name: 'Try again' }).click();
        await until('the same job again', async () => (await jobs('&state=failed')).filter((j) => j.title === 'a pear').length === 2);
        await reset();
        await page.reload();
        await live();
    });
}
