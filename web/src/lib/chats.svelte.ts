// SPDX-License-Identifier: MIT
// Conversations about pictures. Each answer is a job on the server, so it goes on when the page is closed and is found
// again when it is opened; the conversation itself is kept in the browser.
import { ApiError, newKey, submit } from './api';
import { t } from './i18n.svelte';
import { server } from './server.svelte';
import { fetchAllKept, forget, keep } from './store';
import type { Finding, Looked } from './boxes';
import type { Artifact, Job, Media, Usage, Values } from './types';
import { describe } from './ui.svelte';

export interface Shown {
    id: string;
    width: number;
    height: number;
    /* A picture when it is not said. */
    kind?: Media['kind'];
    /* Frames or pages, as far as known. */
    total?: number;
    seconds?: number;
    name?: string;
    mime?: string;
}

/* An artifact as something to ask about. */
export function shownOf(a: Artifact, media?: Media, name?: string): Shown {
    const kind = media?.kind ?? (/^video\/|gif$/.test(a.mime) ? 'clip' : /pdf$|tiff$/.test(a.mime) ? 'document' : 'picture');
    return { id: a.id, width: a.width || 1, height: a.height || 1, kind, mime: a.mime, ...(media ? { total: media.total } : {}), ...(media?.seconds ? { seconds: media.seconds } : {}), ...(name ? { name } : {}) };
}
export const isPicture = (p: Shown): boolean => (p.kind ?? 'picture') === 'picture';

export interface Turn {
    key: string;
    job: string | null;
    prompt: string;
    /* Pictures that came with this question. */
    pictures: Shown[];
    /* Everything the answer may point at, in the order in which it counts. */
    seen?: string[];
    task?: string;
    findings?: Finding[];
    looked?: Looked[];
    note?: string;
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
    /* Which pages of documents are read, which frames of clips are seen; empty: the server decides. */
    pages?: string;
    fps?: string;
}

const KEPT = 200;
const MAX_PICTURES = 16;
const MAX_MESSAGES = 200;

const fresh = (): Chat => ({ id: newKey(), created: Date.now(), updated: Date.now(), turns: [], waiting: [], text: '' });

interface Part {
    type: 'text' | 'file';
    text?: string;
    file?: string;
}
export interface Message {
    role: 'user' | 'assistant';
    content: string | Part[];
}

/* What was said so far as messages. When there are too many pictures, the oldest stay out. */
export function history(turns: readonly Pick<Turn, 'prompt' | 'text' | 'pictures'>[], pictures: number): { messages: Message[]; seen: string[] } {
    const last = turns.slice(-MAX_MESSAGES / 2);
    const kept = new Set(last.flatMap((x) => x.pictures.map((p) => p.id)).reverse().slice(0, Math.max(0, pictures)));
    const seen: string[] = [];
    const messages = last.flatMap((x): Message[] => {
        const files = x.pictures.filter((p) => kept.has(p.id));
        seen.push(...files.map((p) => p.id));
        const content: Part[] = [...files.map((p): Part => ({ type: 'file', file: `artifact:${p.id}` })), { type: 'text', text: x.prompt }];
        return [{ role: 'user', content: files.length > 0 ? content : x.prompt }, { role: 'assistant', content: x.text }];
    });
    return { messages, seen };
}

class Chats {
    all = $state<Chat[]>([]);
    at = $state(0);
    loaded = $state(false);
    current = $derived(this.all[this.at]);
    private saving = false;
    private unsaved = new Set<Chat>();

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
        if (gone) this.unsaved.delete(gone);
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

    /* Writes the conversation down, once more when it changes meanwhile. */
    save(): void {
        const chat = this.current;
        if (!chat) return;
        this.unsaved.add(chat);
        if (!this.saving) void this.keepAll();
    }

    private async keepAll(): Promise<void> {
        this.saving = true;
        for (const chat of this.unsaved) {
            this.unsaved.delete(chat);
            if (chat.turns.length === 0 && chat.waiting.length === 0 && !chat.text) continue;
            await keep('chats', chat.id, $state.snapshot(chat)).catch(() => undefined);
        }
        for (const old of this.all.slice(KEPT)) void forget('chats', old.id).catch(() => undefined);
        this.saving = false;
    }

    /* The next turn of the conversation; what was said before goes along as messages. */
    async ask(prompt: string, more: Values = {}): Promise<void> {
        const chat = this.current;
        if (!chat) return;
        const { messages, seen } = history(chat.turns.filter((x) => x.state === 'done'), MAX_PICTURES - chat.waiting.length);
        const body: Values = { prompt, ...this.files(chat, chat.waiting), ...more };
        if (messages.length > 0) body.messages = messages;
        await this.put(chat, prompt, body, [...seen, ...chat.waiting.map((p) => p.id)]);
    }

    /* A task looks at pictures by itself: nothing of what was said matters to it. */
    async task(name: string, title: string, on: Shown[], more: Values = {}): Promise<void> {
        const chat = this.current;
        if (!chat) return;
        await this.put(chat, title, { prompt: '', task: name, ...this.files(chat, on), ...more }, on.map((p) => p.id), name);
    }

    private files(chat: Chat, list: Shown[]): Values {
        const files: Values = list.length > 0 ? { files: list.map((p) => `artifact:${p.id}`) } : {};
        const all = [...chat.turns.flatMap((x) => x.pictures), ...list];
        if (chat.pages?.trim() && all.some((p) => p.kind === 'document')) files.pages = chat.pages.trim();
        if (Number(chat.fps) > 0 && all.some((p) => p.kind === 'clip')) files.fps = Number(chat.fps);
        return files;
    }

    private async put(chat: Chat, prompt: string, body: Values, seen: string[], task?: string): Promise<void> {
        chat.turns.push({ key: newKey(), job: null, prompt, pictures: $state.snapshot(chat.waiting), seen, text: '', state: 'sending', error: null, usage: null, body, ...(task ? { task } : {}) });
        chat.waiting = [];
        if (!task) chat.text = '';
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
            const over = job.finished !== null ? job : server.ended(job.id);
            if (over) this.end(over);
            else server.follow(job.id);
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
            if (Array.isArray(job.result?.findings)) turn.findings = job.result.findings as Finding[];
            if (Array.isArray(job.result?.pictures)) turn.looked = job.result.pictures as Looked[];
            if (typeof job.result?.note === 'string') turn.note = job.result.note;
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
                        else server.follow(turn.job);
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
