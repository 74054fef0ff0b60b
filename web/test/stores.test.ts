// SPDX-License-Identifier: MIT
// @vitest-environment jsdom
// The stores that the screens stand on: what is kept in the browser, the link to the server, deleting, conversations.
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { nameOf, plan, redo } from '../src/lib/actions';
import { chats, history } from '../src/lib/chats.svelte';
import { placesOf } from '../src/lib/boxes';
import { readCsv, csv } from '../src/lib/markdown';
import { asWord, hintAt } from '../src/lib/prompt';
import { picturesOf, server } from '../src/lib/server.svelte';
import { flush, load, save, saveSoon } from '../src/lib/store';
import type { Artifact, Job, Picture } from '../src/lib/types';

class Stream {
    static last: Stream;
    onopen: (() => void) | null = null;
    onerror: (() => void) | null = null;
    private heard = new Map<string, ((e: { data: string }) => void)[]>();
    constructor(readonly url: string) {
        Stream.last = this;
    }
    addEventListener(type: string, act: (e: { data: string }) => void): void {
        this.heard.set(type, [...(this.heard.get(type) ?? []), act]);
    }
    closed = false;
    close(): void {
        this.closed = true;
    }
    say(type: string, data: Record<string, unknown>): void {
        for (const act of this.heard.get(type) ?? []) act({ data: JSON.stringify({ type, time: 0, ...data }) });
    }
}
const artifact = (n: number): Artifact => ({ id: String(n).repeat(4), role: 'result', index: n, mime: 'image/png', width: 8, height: 8, bytes: 9, seed: n, url: '', thumbnail: '' });
const job = (id: string, more: Partial<Job> = {}): Job => ({
    id, kind: 'draw', state: 'queued', title: id, tags: [], owner: '', parent: null, priority: 0, lane: 'draw', attempt: 1, model: '', seed: 1, images: 1,
    created: 1, started: null, finished: null, position: 0, left_ms: null, progress: null, params: null, artifacts: [], result: null, error: null, ...more,
});
const answers = new Map<string, unknown>();
const asked: string[] = [];
vi.stubGlobal('EventSource', Stream);
vi.stubGlobal('fetch', async (path: string, options: { method?: string; body?: string } = {}) => {
    const line = `${options.method ?? 'GET'} ${path}`;
    asked.push(options.body ? `${line} ${options.body}` : line);
    const found = [...answers].find(([key]) => line.startsWith(key));
    return found ? new Response(JSON.stringify(found[1]), { status: 200 }) : new Response('{"error":{"code":"not_found","message":"no"}}', { status: 404 });
});
const settled = (): Promise<void> => new Promise((done) => setTimeout(done, 20));

describe('values kept in the browser', () => {
    it('come back, and a broken one is the fallback', () => {
        save('a', { x: [1, 'ü'] });
        expect(load('a', null)).toEqual({ x: [1, 'ü'] });
        localStorage.setItem('limn.b', '{broken');
        expect(load('b', 7)).toBe(7);
        expect(load('never', 'x')).toBe('x');
    });
    it('are written once after many changes, and before the page goes', () => {
        let read = 0;
        for (let i = 0; i < 5; i++) saveSoon('c', () => { read++; return i; });
        expect(load('c', null)).toBeNull();
        window.dispatchEvent(new Event('pagehide'));
        expect([load('c', null), read]).toEqual([4, 1]);
        flush();
        expect(read).toBe(1);
    });
    it('live on in memory when the browser keeps nothing', () => {
        const broken = vi.spyOn(Storage.prototype, 'setItem').mockImplementation(() => { throw new Error('full'); });
        const unread = vi.spyOn(Storage.prototype, 'getItem').mockImplementation(() => { throw new Error('no'); });
        save('d', 5);
        expect(load('d', 0)).toBe(5);
        broken.mockRestore();
        unread.mockRestore();
    });
});

describe('the link to the server', () => {
    beforeEach(async () => {
        answers.clear();
        server.jobs.clear();
        answers.set('GET /v1/session', { auth: 'off', signed_in: true, owner: '', scopes: ['admin'], version: '1' });
        answers.set('GET /v1/jobs?state=queued,running', { data: [job('a'), job('b', { position: 1 }), job('q', { lane: 'see', kind: 'see' })], next: null });
        for (const [id, more] of [['a', {}], ['b', { position: 1 }], ['q', { lane: 'see', kind: 'see' }]] as const) answers.set(`GET /v1/jobs/${id}`, { job: job(id, more) });
        answers.set('GET /v1/jobs?state=succeeded', { data: [], next: null });
        if (server.link === 'starting') server.start();
        else {
            Stream.last.onerror?.();
            server.again();
        }
        await settled();
        Stream.last.onopen?.();
        await settled();
        asked.length = 0;
    });
    it('takes up what waits, by lane', () => {
        expect(server.link).toBe('live');
        expect(server.queued.map((j) => j.id)).toEqual(['a', 'b', 'q']);
    });
    it('moves those behind up when one begins, in its lane only', () => {
        Stream.last.say('started', { id: '1', job: 'a', state: job('a', { state: 'running', position: null }) });
        expect(server.running.map((j) => j.id)).toEqual(['a']);
        expect(server.jobs.get('b')?.position).toBe(0);
        expect(server.jobs.get('q')?.position).toBe(0);
    });
    it('goes on from the last event, and an old answer does not undo an end', () => {
        Stream.last.say('done', { id: '7', job: 'a', state: job('a', { state: 'succeeded', finished: 9, artifacts: [artifact(0)] }) });
        Stream.last.say('queued', { id: '8', job: 'a', state: job('a') });
        expect(server.jobs.get('a')?.state).toBe('succeeded');
        expect(server.recent.map((p) => p.key)).toEqual(['a/result/0']);
        Stream.last.onerror?.();
        expect(server.link).toBe('away');
    });
    it('keeps lists the same object while nothing in them changes', () => {
        Stream.last.say('done', { id: '7', job: 'a', state: job('a', { state: 'succeeded', finished: 9, artifacts: [artifact(0)] }) });
        Stream.last.say('started', { id: '8', job: 'b', state: job('b', { state: 'running' }) });
        const before = server.recent;
        Stream.last.say('progress', { id: '9', job: 'b', progress: { stage: 'denoise', image: 0, images: 1, step: 3, steps: 9, fraction: 0.3, left_ms: 5, tokens: 0 } });
        expect(server.jobs.get('b')?.progress?.step).toBe(3);
        expect(server.recent).toBe(before);
        const one = server.jobs.get('a') as Job;
        expect(picturesOf(one)).toBe(picturesOf(one));
    });
    it('moves a job at once and takes it back when the server refuses', async () => {
        answers.set('PATCH /v1/jobs/b', { job: job('b', { position: 0 }) });
        const moving = server.move('b', 0);
        expect(server.queued.filter((j) => j.lane === 'draw').map((j) => j.id)).toEqual(['b', 'a']);
        await moving;
        expect(asked[0]).toBe('PATCH /v1/jobs/b {"position":0}');
        await expect(server.move('a', 0)).rejects.toThrow('no');
        expect(server.queued.filter((j) => j.lane === 'draw').map((j) => j.id)).toEqual(['b', 'a']);
    });
    it('collects what a question writes from the stream of its job, from the start after a new beginning', () => {
        const main = Stream.last;
        server.follow('q');
        const own = Stream.last;
        expect([own === main, own.url]).toEqual([false, '/v1/jobs/q/events?previews=0']);
        server.follow('q');
        expect(Stream.last).toBe(own);
        own.say('started', { id: '1', job: 'q' });
        own.say('token', { id: '2', job: 'q', text: 'A ' });
        own.say('token', { id: '3', job: 'q', text: 'cat' });
        expect(server.texts.get('q')).toBe('A cat');
        own.say('started', { id: '4', job: 'q' });
        expect(server.texts.get('q')).toBeUndefined();
        own.say('done', { id: '5', job: 'q' });
        expect(own.closed).toBe(true);
        Stream.last = main;
    });
    it('takes an answer that was told before its request was answered', async () => {
        await chats.start();
        const state = job('s', { kind: 'see', lane: 'see', state: 'succeeded', finished: 9, result: { text: 'A cat.' } });
        Stream.last.say('done', { id: '6', job: 's', state });
        answers.set('POST /v1/see', { job: job('s', { kind: 'see', lane: 'see' }) });
        await chats.ask('What is it?');
        expect(chats.current?.turns.map((x) => [x.state, x.text])).toEqual([['done', 'A cat.']]);
    });
    it('asks an enlargement again as it was asked', async () => {
        answers.set('POST /v1/upscale', { job: job('u2', { kind: 'upscale' }) });
        answers.set('GET /v1/jobs/u1', { job: job('u1', { kind: 'upscale', params: { init_image: 'artifact:1', upscale: 2 } }) });
        await redo(job('u1', { kind: 'upscale' }));
        expect(asked.at(-1)).toBe('POST /v1/upscale {"image":"artifact:1","upscale":2,"job":{"tags":[]}}');
    });
    it('names a job by its words, else by what it is', () => {
        expect(nameOf(job('a', { title: 'a cat' }))).toBe('a cat');
        expect(nameOf(job('a', { title: '', model: 'm' }))).toBe('Drawing');
        expect(nameOf(job('a', { kind: 'load', title: '', model: 'm' }))).toBe('m');
        expect(nameOf(job('a', { kind: 'see', title: 'boxes' }))).toBe('Find');
    });
});

describe('deleting', () => {
    const picture = (id: string, n: number): Picture => ({ ...artifact(n), key: `${id}/result/${n}`, job: id, kind: 'draw', created: 1, title: '' });
    const all = (id: string): Picture[] => [0, 1, 2].map((n) => picture(id, n));
    it('takes the job when all of its pictures go, else the pictures', () => {
        expect(plan([...all('x'), picture('y', 1)], all)).toEqual([
            { job: 'x', artifact: null, keys: ['x', 'x/result/0', 'x/result/1', 'x/result/2'] },
            { job: 'y', artifact: '1111', keys: ['y/result/1'] },
        ]);
    });
    it('asks once for pictures that are the same bytes', () => {
        const twins = [picture('z', 0), { ...picture('z', 1), id: '0000' }, picture('z', 2)];
        expect(plan([twins[0] as Picture], () => twins)).toEqual([{ job: 'z', artifact: '0000', keys: ['z/result/0', 'z/result/1'] }]);
    });
});

describe('conversations', () => {
    const turn = (n: number, pictures: string[] = []): Parameters<typeof history>[0][number] => ({ prompt: `q${n}`, text: `a${n}`, pictures: pictures.map((id) => ({ id, width: 1, height: 1 })) });
    it('send what was said as messages', () => {
        expect(history([turn(1, ['p']), turn(2)], 16)).toEqual({
            seen: ['p'],
            messages: [{ role: 'user', content: [{ type: 'file', file: 'artifact:p' }, { type: 'text', text: 'q1' }] }, { role: 'assistant', content: 'a1' },
                { role: 'user', content: 'q2' }, { role: 'assistant', content: 'a2' }],
        });
    });
    it('leave the oldest pictures out when there are too many', () => {
        expect(history([turn(1, ['p', 'q']), turn(2, ['r'])], 2).seen).toEqual(['q', 'r']);
        expect(history([turn(1, ['p'])], 0).messages[0]).toEqual({ role: 'user', content: 'q1' });
        expect(history(Array.from({ length: 300 }, (_, n) => turn(n)), 16).messages.length).toBe(200);
    });
    it('place findings by the size of their picture', () => {
        expect(placesOf([{ label: 'fox', picture: 1, box: [10, 20, 50, 100] }, { label: 'x', score: 1 }, { label: 'p', point: [50, 50], start: 2 }], [{ width: 100, height: 100 }, { width: 100, height: 200 }])).toEqual([
            { kind: 'box', x1: 0.1, y1: 0.1, x2: 0.5, y2: 0.5, label: 'fox', picture: 1 }, null,
            { kind: 'point', x1: 0.5, y1: 0.5, x2: 0.5, y2: 0.5, label: 'p', picture: null, time: 2 },
        ]);
    });
    it('read tables back as they were written', () => {
        const rows = [['a', 'b "q"'], ['1,5', 'two\nlines'], ['', 'x']];
        expect(readCsv(csv(rows))).toEqual(rows);
    });
});

describe('names in prompts', () => {
    it('are offered where one begins and nowhere else', () => {
        expect(hintAt('a __se', 6)).toEqual({ from: 2, to: 6, kind: 'wildcard', start: 'se' });
        expect(hintAt('a <lora:br>', 10)).toEqual({ from: 2, to: 11, kind: 'lora', start: 'br' });
        expect(hintAt('a __season__', 12)).toBeNull();
        expect(hintAt('snake_case', 10)).toBeNull();
        expect([asWord('wildcard', 'x'), asWord('lora', 'x'), asWord('embedding', 'x')]).toEqual(['__x__', '<lora:x:1>', 'x']);
    });
});
