// SPDX-License-Identifier: MIT
// A small harness: a server of its own, one browser, tests in order, one line each, pictures of what failed.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export async function freePort() {
    return new Promise((resolve) => {
        const s = createServer();
        s.listen(0, '127.0.0.1', () => {
            const { port } = s.address();
            s.close(() => resolve(port));
        });
    });
}

export class Server {
    constructor(binary, port, args, env) {
        Object.assign(this, { binary, port, args, env, log: '' });
        this.data = mkdtempSync(join(tmpdir(), 'limn-web-'));
        this.url = `http://127.0.0.1:${port}`;
    }

    async start() {
        this.child = spawn(this.binary, ['serve', '--port', String(this.port), '--data-dir', this.data, ...this.args],
            { env: { ...process.env, ...this.env }, stdio: ['ignore', 'pipe', 'pipe'] });
        for (const stream of [this.child.stdout, this.child.stderr]) stream.on('data', (d) => (this.log += d));
        for (let i = 0; i < 200; i++) {
            if (this.child.exitCode !== null) throw new Error(`the server ended:\n${this.log}`);
            try {
                if ((await fetch(`${this.url}/livez`)).ok) return;
            } catch {
                // Not yet.
            }
            await sleep(50);
        }
        throw new Error(`the server does not answer:\n${this.log}`);
    }

    async kill(signal = 'SIGKILL') {
        if (!this.child || this.child.exitCode !== null || this.child.signalCode !== null) return;
        const gone = new Promise((done) => this.child.once('exit', done));
        this.child.kill(signal);
        await gone;
    }

    async stop() {
        await this.kill('SIGTERM');
        rmSync(this.data, { recursive: true, force: true });
    }
}

/* A safetensors file of f16 tensors: name -> [shape, the one value it is full of]. */
function tensors(list) {
    const header = {};
    let end = 0;
    for (const [name, [shape]] of Object.entries(list)) {
        const bytes = 2 * shape.reduce((a, b) => a * b, 1);
        header[name] = { dtype: 'F16', shape, data_offsets: [end, end + bytes] };
        end += bytes;
    }
    const text = Buffer.from(JSON.stringify(header).padEnd(8 * Math.ceil(JSON.stringify(header).length / 8)));
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(text.length));
    const data = Buffer.alloc(end);
    for (const [name, [, value]] of Object.entries(list)) {
        const [from, to] = header[name].data_offsets;
        for (let i = from; i < to; i += 2) data.writeUInt16LE(value, i);
    }
    return Buffer.concat([size, text, data]);
}

/* A models folder of its own: the models of `folder`, and what people put beside them. */
export function shelf(folder) {
    const library = mkdtempSync(join(tmpdir(), 'limn-web-models-'));
    for (const name of readdirSync(folder)) symlinkSync(resolve(folder, name), join(library, name));
    for (const name of ['wildcards', 'loras']) mkdirSync(join(library, name), { recursive: true });
    writeFileSync(join(library, 'styles.csv'), 'name,prompt,negative_prompt\nNight,"{prompt}, on a blue background",day\nFlat,"{prompt}, flat colours",\n');
    writeFileSync(join(library, 'wildcards', 'colour.txt'), 'red\ngreen\nblue\n');
    const layer = 'lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q';
    const [half, little] = [0x3800, 0x1400]; // 0.5, 0.001
    const lora = (width) => tensors({ [`${layer}.lora_down.weight`]: [[1, width], half], [`${layer}.lora_up.weight`]: [[width, 1], little] });
    writeFileSync(join(library, 'loras', 'soft.safetensors'), lora(192));
    writeFileSync(join(library, 'loras', 'foreign.safetensors'), lora(100)); // of another network: drawing with it fails
    return library;
}

export class Suite {
    constructor(only) {
        this.only = only;
        this.failed = 0;
        this.run = 0;
        this.shots = join(tmpdir(), 'limn-web-failures');
        this.album = process.env.LIMN_WEB_SHOTS; // a folder for pictures of everything, to be looked at
    }

    async keep(name, page) {
        if (!this.album) return;
        mkdirSync(this.album, { recursive: true });
        const bytes = await page.screenshot({ timeout: 20000 }).catch(() => null);
        if (bytes) writeFileSync(join(this.album, `${name.replace(/\W+/g, '-')}.png`), bytes);
    }

    async test(name, page, act) {
        if (this.only.length && !this.only.some((x) => name.includes(x))) return;
        const began = Date.now();
        this.run++;
        try {
            await act();
            await this.keep(name, page);
            console.log(`ok ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
        } catch (e) {
            this.failed++;
            console.log(`FAIL ${name}: ${String(e.stack ?? e).split('\n').slice(0, 12).join('\n    ')}`);
            mkdirSync(this.shots, { recursive: true });
            const file = join(this.shots, `${name.replace(/\W+/g, '-')}.png`);
            const bytes = await page.screenshot({ timeout: 5000 }).catch(() => null);
            if (bytes) {
                writeFileSync(file, bytes);
                console.log(`    see ${file}`);
            }
        }
    }
}

export function check(value, message) {
    if (!value) throw new Error(message);
}
export function same(a, b, what) {
    if (JSON.stringify(a) !== JSON.stringify(b)) throw new Error(`${what}: ${JSON.stringify(a)} is not ${JSON.stringify(b)}`);
}
/* Waits until a question has a true answer, and gives it. It is asked so often that this takes `ms`: while the whole
   machine stands still no time goes by. */
export async function until(what, ask, ms = 60000) {
    for (let left = ms / 100; left > 0; left--) {
        const answer = await ask();
        if (answer) return answer;
        await sleep(100);
    }
    throw new Error(`waited ${ms} ms for: ${what}`);
}
