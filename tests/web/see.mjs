// SPDX-License-Identifier: MIT
// The See screen in detail: where pictures come from, answers while they are written, places that lead to words and back,
// every task, what can be taken away, conversations. Called by studio.mjs; `e` is what it has built (page, server, api ...).
import { readFileSync } from 'node:fs';
import { check, same, until } from './lib.mjs';

export async function seeTests(e) {
    const { suite, page, base, server, api, jobs, to, live, picture, drop, kept, context } = e;
    const question = page.getByPlaceholder('Ask about the picture');
    const films = page.locator('.foot .film');
    const settings = (change) => fetch(`${server.url}/v1/settings`, { method: 'PATCH', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(change) });
    const bytes = async (job) => Buffer.from(await (await fetch(`${server.url}${job.artifacts.find((a) => a.role === 'result').url}`)).arrayBuffer());
    /* A conversation without questions and pictures. */
    const begin = async () => {
        await to('see');
        await question.waitFor();
        const fresh = page.getByRole('button', { name: 'New conversation' });
        if (await fresh.isVisible()) await fresh.click();
        while (await films.count()) await films.locator('button').first().click();
    };
    const answered = async (count) => {
        await until(`${count} answers`, async () => (await jobs('&kind=see&state=succeeded,failed')).length >= count, 120000);
        return (await api(`/v1/jobs/${(await jobs('&kind=see'))[0].id}`)).job;
    };
    const ended = async () => (await jobs('&kind=see&state=succeeded,failed')).length;
    const idle = () => until('the page to have the answer', async () => !(await page.locator('.answer[aria-busy=true], .answer .pulse').count()));

    await suite.test('see: pictures by drop, paste, file and gallery', page, async () => {
        await picture();
        const { job: large } = await api('/v1/draw?wait=120', { prompt: 'a red boat', steps: 2, seed: 77 });
        const { job: third } = await api('/v1/draw?wait=120', { prompt: 'a green tree', steps: 2, seed: 78 });
        const { job: fourth } = await api('/v1/draw?wait=120', { prompt: 'a blue fish', steps: 2, seed: 79 });
        await begin();
        await drop('.see', 'boat.png', await bytes(large));
        await until('the dropped one', async () => (await films.count()) === 1);
        await page.evaluate((b64) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(b64), (c) => c.charCodeAt(0))], 'p.png', { type: 'image/png' }));
            window.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
        }, (await bytes(third)).toString('base64'));
        await until('the pasted one', async () => (await films.count()) === 2);
        await page.setInputFiles('[data-testid=see-file]', { name: 'fish.png', mimeType: 'image/png', buffer: await bytes(fourth) });
        await until('the chosen file', async () => (await films.count()) === 3);
        await page.getByRole('button', { name: 'Add a picture of the gallery' }).click();
        await page.locator('dialog[open] .pick').last().getByRole('button', { name: 'a red apple' }).first().click();
        await until('the one of the gallery', async () => (await films.count()) === 4);
        await page.locator('.desk .films button').nth(1).click();
        await until('the second on the desk', () => page.locator(`.mat img[src*="${third.artifacts[0].id}"]`).isVisible());
        await drop('.see', 'notes.txt', Buffer.from('just words'), 'text/plain');
        await until('what is none to be refused', () => page.locator('.toast.error', { hasText: 'neither a picture' }).first().isVisible());
        e.excuse(/neither a picture/);
        same(await films.count(), 4, 'pictures');
        await until('them to be kept', async () => (await kept('chats')).some((c) => c.waiting.length === 4));
        await page.reload();
        await until('them after a reload', async () => (await films.count()) === 4);
        while (await films.count()) await films.locator('button').first().click();
    });

    await suite.test('see: the answer grows while it is written, and can be stopped', page, async () => {
        const made = await picture();
        await begin();
        await page.goto(`${base}/#/see/${made.artifacts[0].id}`);
        await until('the picture', async () => (await films.count()) === 1);
        const before = await ended();
        // The queue stands still until the page knows its question, so that no word comes before it looks.
        await settings({ paused: true });
        try {
            // A long answer: a short one of a quick machine comes within one frame.
            await question.fill('Locate every thing in the picture with boxes in JSON.');
            await page.keyboard.press('Enter');
            await until('the question to wait', () => page.locator('.answer[aria-busy=true]').isVisible());
            await page.evaluate(() => {
                window.grown = [];
                new MutationObserver(() => {
                    const a = document.querySelector('.answer[aria-busy=true] .markdown');
                    if (a) window.grown.push(a.textContent.length);
                }).observe(document.querySelector('.thread'), { subtree: true, childList: true, characterData: true });
            });
        } finally {
            await settings({ paused: false });
        }
        const job = await answered(before + 1);
        await idle();
        const grown = await page.evaluate(() => window.grown);
        if (job.result.usage.completion_tokens > 12) check(grown.length > 1 && grown[0] < grown.at(-1), `the text did not grow: ${grown}`);
        await settings({ paused: true });
        try {
            await question.fill('And now?');
            await page.keyboard.press('Enter');
            await page.locator('.answer').last().getByRole('button', { name: 'Cancel' }).click();
            await until('it to be stopped', () => page.locator('.answer .failed', { hasText: 'Cancelled' }).isVisible());
        } finally {
            await settings({ paused: false });
        }
        await page.locator('.answer .failed').getByRole('button', { name: 'Try again' }).click();
        await answered(before + 2);
        await idle();
        same(await page.locator('.answer .failed').count(), 0, 'failures');
    });

    await suite.test('see: every task has its button and gives its answer', page, async () => {
        const made = await picture();
        const { job: second } = await api('/v1/draw?wait=120', { prompt: 'a green tree', steps: 2, seed: 78 });
        await begin();
        await page.goto(`${base}/#/see/${made.artifacts[0].id}`);
        await until('the picture', async () => (await films.count()) === 1);
        check(!(await page.getByRole('button', { name: 'Compare', exact: true }).count()), 'one picture can be compared');
        let count = await ended();
        for (const [button, task, asks] of [['Describe', 'caption'], ['Read text', 'ocr'], ['To Markdown', 'document'], ['Table', 'document'], ['Count', 'points', 'apple'], ['Tags', 'tag'], ['Classify', 'classify', 'apple, tree'], ['Extract', 'extract', 'colour']]) {
            await page.locator('.tasks').getByRole('button', { name: button, exact: true }).click();
            if (asks) {
                await page.locator('.foot form input').fill(asks);
                await page.keyboard.press('Enter');
            }
            const job = await answered(++count);
            same([job.state, job.result?.task], ['succeeded', task], `${button}: ${JSON.stringify(job.error)}`);
            await idle();
            check(await page.locator('.answer').last().getByRole('button', { name: 'JSON', exact: true }).isVisible(), `${button}: nothing to take away`);
        }
        await drop('.see', 'tree.png', await bytes(second));
        await until('the second picture', async () => (await films.count()) === 1);
        await page.locator('.tasks').getByRole('button', { name: 'Compare', exact: true }).click();
        const job = await answered(++count);
        same([job.state, job.result?.task, job.artifacts.filter((a) => a.role === 'input').length], ['succeeded', 'compare', 2], 'comparison');
        await idle();
        await page.click('[data-testid=queue-button]');
        await until('names of tasks in the queue', async () => /Compare\s/.test(await page.locator('[data-testid=queue]').innerText()));
        await page.keyboard.press('Escape');
    });

    await suite.test('see: words and places lead to each other; answers are copied and taken away', page, async () => {
        const made = await picture();
        const id = made.artifacts[0].id;
        const find = (label, box) => ({ label, picture: 0, box });
        const turn = { key: 'k1', job: null, prompt: 'Find: apple', pictures: [{ id, width: 128, height: 128, kind: 'picture', mime: 'image/png' }], seen: [id], task: 'boxes', state: 'done', error: null, body: { task: 'boxes', format: 'json' },
            text: '**Two** things:\n\n| what | where |\n|---|---|\n| apple | left |\n| leaf, "green" | top |', findings: [find('apple', [10, 20, 60, 90]), find('leaf, "green"', [70, 5, 100, 30])], looked: [{ width: 128, height: 128 }], usage: { prompt_tokens: 9, image_tokens: 9, cached_tokens: 0, completion_tokens: 21 } };
        await begin();
        await page.evaluate((chat) => new Promise((done) => {
            const open = indexedDB.open('limn');
            open.onsuccess = () => { const t = open.result.transaction('chats', 'readwrite'); t.objectStore('chats').put(chat, chat.id); t.oncomplete = done; };
        }), { id: 'c-test', created: 1, updated: Date.now() + 60_000, turns: [turn], waiting: [], text: '' });
        await page.reload();
        const chips = page.locator('.answer .found .chip');
        await until('the kept conversation', async () => (await chips.count()) === 2);
        same(await page.locator('.places g').count(), 2, 'boxes on the picture');
        same(await page.locator('.mat .tag').allInnerTexts(), ['apple', 'leaf, "green"'], 'labels on the picture');
        same(await page.locator('.answer table td').first().innerText(), 'apple', 'Markdown');
        await chips.nth(1).hover();
        await until('the box of the word', () => page.evaluate(() => [...document.querySelectorAll('.places g')].map((g) => g.classList.contains('on')).join() === 'false,true'));
        const box = await page.locator('.places g').first().boundingBox();
        await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
        await until('the word of the box', async () => /hot/.test(await chips.first().getAttribute('class')));
        check(!/hot/.test(await chips.nth(1).getAttribute('class')), 'two words are marked');
        const image = await page.locator('.mat [data-testid=stage-image]').boundingBox();
        check(Math.abs(box.x - image.x - (10 / 128) * image.width) < 4 && Math.abs(box.y + box.height - image.y - (90 / 128) * image.height) < 4, `the box lies at ${JSON.stringify(box)} of ${JSON.stringify(image)}`);
        await context.grantPermissions(['clipboard-read', 'clipboard-write']);
        await page.locator('.answer').getByRole('button', { name: 'Copy' }).click();
        await until('the copied text', async () => (await page.evaluate(() => navigator.clipboard.readText())) === turn.text);
        const take = async (name) => {
            const wait = page.waitForEvent('download');
            await page.locator('.answer').getByRole('button', { name, exact: true }).click();
            const file = await wait;
            return [file.suggestedFilename(), readFileSync(await file.path(), 'utf8')];
        };
        same(await take('Markdown'), ['limn-answer.md', turn.text], 'Markdown file');
        const [name, json] = await take('JSON');
        same([name, JSON.parse(json).findings, JSON.parse(json).question], ['limn-answer.json', turn.findings, turn.prompt], 'JSON file');
        same(await take('CSV'), ['limn-answer.csv', 'picture,label,x1,y1,x2,y2\r\n1,apple,10,20,60,90\r\n1,"leaf, ""green""",70,5,100,30\r\n'], 'CSV file');
    });

    await suite.test('see: conversations are listed, opened, removed and brought back', page, async () => {
        await to('see');
        await page.reload();
        await question.waitFor();
        const list = page.locator('dialog[open] .chats li');
        const open = () => page.locator('.talk header .btn').first().click();
        await page.getByRole('button', { name: 'New conversation' }).click();
        await question.fill('half a question');
        await open();
        const row = list.filter({ hasText: 'Find: apple' });
        await until('the old conversation', async () => (await row.count()) === 1);
        const count = await list.count();
        await row.getByRole('button').first().click();
        await until('its answer', async () => (await page.locator('.answer table').count()) === 1);
        await open();
        await row.getByRole('button', { name: /^Remove/ }).click();
        await until('one fewer', async () => (await list.count()) === count - 1);
        await page.keyboard.press('Escape');
        await page.getByRole('button', { name: 'Undo' }).last().click();
        await until('its answer again', async () => (await page.locator('.answer table').count()) === 1);
        await until('what was typed to be kept', async () => (await kept('chats')).some((c) => c.text === 'half a question'));
        await page.reload();
        await open();
        same(await list.count(), count, 'conversations after a reload');
        await row.getByRole('button', { name: /^Remove/ }).click();
        await page.keyboard.press('Escape');
        await page.goto(`${base}/#/draw`);
        await live();
    });
}
