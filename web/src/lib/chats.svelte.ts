// SPDX-License-Identifier: MIT
// Conversations about pictures. Each answer is a job on the server, so it goes on when the page is closed and is found
// again when it is opened; the conversation itself is kept in the browser.
import { ApiError, newKey, submit } from './api';
import { t } from './i18n.svelte';
import { server } from './server.svelte';
import { fetchAllKept, forget, keep } from './store';
import type { Job, Usage, Values } from './types';
import { describe } from './ui.svelte';

export interface Shown {
    id: string;
    width: number;
    height: number;
}

export interface Turn {
    key: string;
    job: string | null;
    prompt: string;
    /* Pictures that came with this question. */
    pictures: Shown[];
    text: string;
    state: 'sending' | 'running' | 'done' | 'failed' | 'cancelled';
    error: string | null;
    usage: Usage | null;
    body: Values;
}

export interface Chat {
    id: string;
    created: number;
    updated: number;
    turns: Turn[];
    /* Pictures chosen for the next question. */
    waiting: Shown[];
    /* The question as far as it is typed. */
    text: string;
}

const KEPT = 200;
const MAX_PICTURES = 16;
/* Earlier questions and answers that go along with the next one. */
const MEMORY_CHARS = 6000;

const fresh = (): Chat => ({ id: newKey(), created: Date.now(), updated: Date.now(), turns: [], waiting: [], text: '' });

class Chats {
    all = $state<Chat[]>([]);
    at = $state(0);
    loaded = $state(false);
    current = $derived(this.all[this.at]);
    private saver: ReturnType<typeof setTimeout> | undefined;

    async start(): Promise<void> {
        if (this.loaded) return;
        const kept = await fetchAllKept<Chat>('chats').catch(() => []);
        if (this.loaded) return;
        this.all = kept.sort((a, b) => b.updated - a.updated);
        if (this.all.length === 0) this.all.push(fresh());
        this.loaded = true;
        server.listen((e) => {
            if (e.type === 'done' && e.state) this.end(e.state);
        });
        server.onArrival(() => void this.catchUp());
    }

    begin(): void {
        if (this.current && this.current.turns.length === 0) return;
        this.all.unshift(fresh());
        this.at = 0;
    }

    open(id: string): void {
        const at = this.all.findIndex((c) => c.id === id);
        if (at >= 0) this.at = at;
    }

    remove(id: string): Chat | undefined {
        const at = this.all.findIndex((c) => c.id === id);
        if (at < 0) return undefined;
        const [gone] = this.all.splice(at, 1);
        void forget('chats', id).catch(() => undefined);
        if (this.all.length === 0) this.all.push(fresh());
        this.at = Math.min(this.at > at ? this.at - 1 : this.at, this.all.length - 1);
        return gone;
    }

    restore(chat: Chat): void {
        this.all.unshift(chat);
        this.at = 0;
        this.save();
    }

    attach(picture: Shown): void {
        const chat = this.current;
        if (!chat || chat.waiting.some((p) => p.id === picture.id) || chat.waiting.length >= MAX_PICTURES) return;
        chat.waiting.push(picture);
        this.save();
    }

    /* Writes the conversation down a moment later. */
    save(): void {
        clearTimeout(this.saver);
        const chat = this.current;
        if (!chat) return;
        this.saver = setTimeout(() => {
            if (chat.turns.length === 0 && chat.waiting.length === 0 && !chat.text) return;
            keep('chats', chat.id, $state.snapshot(chat)).catch(() => undefined);
            for (const old of this.all.slice(KEPT)) void forget('chats', old.id).catch(() => undefined);
        }, 200);
    }

    async ask(prompt: string, more: Values = {}): Promise<void> {
        const chat = this.current;
        if (!chat) return;
        const before = chat.turns.filter((x) => x.state === 'done').map((x) => `User: ${x.prompt}\nAssistant: ${x.text}`).join('\n\n').slice(-MEMORY_CHARS);
        // All pictures of the conversation stay in sight, the newest first to stay when there are too many.
        const seen = new Map([...chat.turns.flatMap((x) => x.pictures), ...chat.waiting].map((p) => [p.id, p]));
        const images = [...seen.keys()].slice(-MAX_PICTURES).map((id) => `artifact:${id}`);
        const body: Values = { prompt, images, ...more };
        if (before) body.system = `${t('see.before')}\n\n${before}`;
        chat.turns.push({ key: newKey(), job: null, prompt, pictures: $state.snapshot(chat.waiting), text: '', state: 'sending', error: null, usage: null, body });
        chat.waiting = [];
        chat.text = '';
        chat.updated = Date.now();
        const turn = chat.turns.at(-1);
        if (turn) await this.send(turn);
    }

    async send(turn: Turn): Promise<void> {
        turn.state = 'sending';
        turn.error = null;
        turn.text = '';
        this.save();
        try {
            const job = await submit('see', $state.snapshot(turn.body), turn.key);
            turn.job = job.id;
            turn.state = 'running';
            server.add(job);
            if (job.finished !== null) this.end(job);
        } catch (e) {
            turn.state = 'failed';
            turn.error = e instanceof ApiError ? describe(e) : String(e);
            // The next try is a new request, not this one again.
            turn.key = newKey();
        }
        this.save();
    }

    private end(job: Job): void {
        for (const chat of this.all) {
            const turn = chat.turns.find((x) => x.job === job.id);
            if (!turn) continue;
            turn.text = job.result?.text ?? server.texts.get(job.id) ?? turn.text;
            turn.usage = job.result?.usage ?? null;
            turn.state = job.state === 'succeeded' ? 'done' : job.state === 'cancelled' ? 'cancelled' : 'failed';
            turn.error = job.error ? describe(job.error) : null;
            if (turn.state !== 'done') turn.key = newKey();
            keep('chats', chat.id, $state.snapshot(chat)).catch(() => undefined);
        }
    }

    /* After a reload or a break: what became of the questions that were open. */
    private async catchUp(): Promise<void> {
        for (const chat of this.all) {
            for (const turn of chat.turns) {
                if (turn.state === 'sending' && !turn.job) {
                    await this.send(turn);
                } else if (turn.state === 'running' && turn.job) {
                    try {
                        const job = await server.find(turn.job);
                        if (job.finished !== null) this.end(job);
                    } catch (e) {
                        if (!(e instanceof ApiError) || e.status !== 404) continue;
                        turn.state = 'failed';
                        turn.error = t('see.gone');
                    }
                }
            }
        }
    }
}

export const chats = new Chats();
