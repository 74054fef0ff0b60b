// SPDX-License-Identifier: MIT
// Takes pictures of the studio's screens in Debian's Chromium, for the eye: node dev/shot.mjs URL OUT [name ...]
import { mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';

const [url = 'http://127.0.0.1:7860', out = '/tmp/shots', ...only] = process.argv.slice(2);
mkdirSync(out, { recursive: true });
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });

const scenes = {
    async empty(page) { await page.waitForTimeout(500); },
    async draw(page) {
        await page.fill('#prompt', 'a (quiet valley:1.2) in [spring:autumn:0.4], {oil|ink}, <lora:brushwork:0.8> __light__');
        await page.click('[data-testid=draw]');
        await page.waitForTimeout(2600);
    },
    async result(page) {
        await page.fill('#prompt', 'a quiet valley, morning light');
        await page.locator('.strip .thumb').nth(2).click();
        await page.waitForTimeout(600);
    },
    async queue(page) {
        await page.fill('#prompt', 'a quiet valley');
        for (let i = 0; i < 3; i++) await page.click('[data-testid=draw]');
        await page.waitForTimeout(1500);
        await page.click('[data-testid=queue-button]');
        await page.waitForTimeout(600);
    },
    async gallery(page) { await page.goto(`${url}/#/gallery`); await page.waitForTimeout(1500); },
    async see(page) {
        await page.locator('.strip .thumb').nth(1).click();
        await page.getByRole('button', { name: 'Ask', exact: true }).click();
        await page.waitForTimeout(900);
        await page.getByRole('button', { name: 'Describe' }).click();
        await page.waitForTimeout(4500);
        await page.getByRole('button', { name: 'Find', exact: true }).click();
        await page.fill('input[placeholder="What to find"]', 'sun');
        await page.keyboard.press('Enter');
        await page.waitForTimeout(4500);
        await page.locator('.found .chip').first().hover();
    },
    async edit(page) {
        await page.locator('.strip .thumb').nth(1).click();
        await page.getByRole('button', { name: 'Edit', exact: true }).click();
        await page.waitForTimeout(1200);
        const box = await page.locator('[data-testid=edit-canvas]').boundingBox();
        await page.mouse.move(box.x + box.width * 0.4, box.y + box.height * 0.4);
        await page.mouse.down();
        for (let i = 0; i < 20; i++) await page.mouse.move(box.x + box.width * (0.4 + 0.01 * i), box.y + box.height * (0.4 + 0.06 * Math.sin(i / 3)));
        await page.mouse.up();
        await page.waitForTimeout(500);
    },
    async grid(page) { await page.goto(`${url}/#/grid`); await page.waitForTimeout(800); },
    async system(page) { await page.goto(`${url}/#/system`); await page.waitForTimeout(3200); },
};
const looks = [['desk', { width: 1440, height: 900 }, 'light'], ['desk', { width: 1440, height: 900 }, 'dark'],
    ['phone', { width: 390, height: 844 }, 'light'], ['phone', { width: 390, height: 844 }, 'dark']];
for (const [name, scene] of Object.entries(scenes)) {
    if (only.length && !only.includes(name)) continue;
    for (const [kind, viewport, colorScheme] of looks) {
        const page = await browser.newPage({ viewport, colorScheme, hasTouch: kind === 'phone' });
        page.on('console', (m) => ['error', 'warning'].includes(m.type()) && console.log(name, kind, m.text()));
        page.on('pageerror', (e) => console.log(name, kind, String(e)));
        await page.goto(url);
        await page.waitForTimeout(700);
        try {
            await scene(page);
        } catch (e) {
            console.log(name, kind, String(e).split('\n')[0]);
        }
        await page.screenshot({ path: `${out}/${name}-${kind}-${colorScheme}.png` });
        await page.close();
    }
}
await browser.close();
