// SPDX-License-Identifier: MIT
// The living link to the server: one event stream for the whole page, the jobs it tells of, and whether the server is
// there at all. One stream and not one per job, because browsers open only six connections to a host; a hidden page
// gives its connection back after a while and picks up from the last event when it is looked at again.
import { untrack } from 'svelte';
import { SvelteMap } from 'svelte/reactivity';
import { ApiError, call, get, onFailure, readAll } from './api';
import type { Artifact, Job, JobEvent, Page, Picture, Session } from './types';

export type Link = 'starting' | 'live' | 'away' | 'locked';
const kinds = ['queued', 'started', 'progress', 'preview', 'token', 'artifact', 'note', 'done', 'lost', 'bye'];
const HIDDEN_MS = 30_000;
const MAX_WAIT_MS = 5_000;

export interface Preview {
    image: number;
    step: number;
    url: string;
}

/*
 * What a job has drawn; what went into it is left out. The server hands out files when their job has ended, so until then
 * the last preview stands for a picture that is finished.
 */
export const picturesOf = (job: Job): Picture[] => job.artifacts.filter((a) => a.role === 'result' || a.role === 'sheet')
    .map((a) => (job.finished === null ? { ...a, ...early(job.id, a.index) } : a)).map((a) => ({ ...a, key: `${job.id}/${a.role}/${a.index}`, job: job.id, kind: job.kind, created: job.finished ?? job.created, title: job.title }));
const BLANK = 'data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7';
function early(job: string, index: number): { url: string; thumbnail: string } {
    const url = server.lastPreviews.get(`${job}/${index}`) ?? BLANK;
    return { url, thumbnail: url };
}
export const inputsOf = (job: Job): Artifact[] => job.artifacts.filter((a) => a.role === 'input');

class Server {
    link = $state<Link>('starting');
    session = $state.raw<Session | null>(null);
    jobs = new SvelteMap<string, Job>();
    previews = new SvelteMap<string, Preview>();
    /* The last preview of every picture of a job that has not ended, by "job/index". */
    lastPreviews = new SvelteMap<string, string>();
    /* What a see job has written so far. */
    texts = new SvelteMap<string, string>();
    /* What the engine had to say about a job, for the user. */
    notes = new SvelteMap<string, string[]>();
    /* Ids of jobs that are to go once their undo has run out; hidden everywhere. */
    hidden = new SvelteMap<string, true>();

    private source: EventSource | null = null;
    private lastId = '';
    private wait = 0;
    private timer: ReturnType<typeof setTimeout> | undefined;
    private sleeper: ReturnType<typeof setTimeout> | undefined;
    private listeners = new Set<(e: JobEvent) => void>();
    private arrivals = new Set<() => void>();

    queued = $derived([...this.jobs.values()].filter((j) => j.state === 'queued')
        .sort((a, b) => (a.position ?? 1e9) - (b.position ?? 1e9) || a.created - b.created));
    running = $derived([...this.jobs.values()].filter((j) => j.state === 'running'));
    finished = $derived([...this.jobs.values()].filter((j) => j.finished !== null && !this.hidden.has(j.id))
        .sort((a, b) => (b.finished ?? 0) - (a.finished ?? 0)));

    /* The newest pictures, newest first. */
    recent = $derived([...this.jobs.values()].filter((j) => !this.hidden.has(j.id)).flatMap(picturesOf)
        .sort((a, b) => b.created - a.created || a.index - b.index));

    start(): void {
        onFailure((e) => {
            if (e.code === 'away') this.lost();
            if (e.status === 401) this.lock();
        });
        document.addEventListener('visibilitychange', () => this.look());
        window.addEventListener('online', () => this.again());
        window.addEventListener('pageshow', (e) => e.persisted && this.again());
        void this.connect();
    }

    /* Calls back for every event; the answer ends that. */
    listen(listener: (e: JobEvent) => void): () => void {
        this.listeners.add(listener);
        return () => this.listeners.delete(listener);
    }

    /* Calls back each time the server is there (again): lists may have changed meanwhile. */
    onArrival(listener: () => void): () => void {
        this.arrivals.add(listener);
        // Not at once: the caller may be an effect, which must not watch what the listener reads.
        if (untrack(() => this.link) === 'live') queueMicrotask(listener);
        return () => this.arrivals.delete(listener);
    }

    may(scope: string): boolean {
        const scopes = this.session?.scopes ?? [];
        return scopes.includes(scope) || scopes.includes('admin') || (scope === 'read' && scopes.includes('infer'));
    }

    /* Takes up a job that was just made, before its events arrive. */
    add(job: Job): void {
        if (!this.jobs.has(job.id)) this.jobs.set(job.id, job);
    }

    async cancel(id: string): Promise<void> {
        try {
            const answer = await call<{ job: Job }>('POST', `/v1/jobs/${id}/cancel`);
            this.merge(answer.job);
        } catch (e) {
            if (!(e instanceof ApiError) || e.code !== 'job_finished') throw e;
            this.merge((await get<{ job: Job }>(`/v1/jobs/${id}`)).job);
        }
    }

    /* A job with its parameters, which lists leave out. */
    async find(id: string): Promise<Job> {
        const known = this.jobs.get(id);
        if (known?.params) return known;
        const job = (await get<{ job: Job }>(`/v1/jobs/${id}`)).job;
        if (known) this.merge(job);
        return job;
    }

    again(): void {
        clearTimeout(this.timer);
        this.wait = 0;
        if (!this.source) void this.connect();
    }

    private async connect(): Promise<void> {
        clearTimeout(this.timer);
        this.timer = undefined;
        try {
            this.session = await call<Session>('GET', '/v1/session');
        } catch (e) {
            // Whatever is wrong, it is wrong with the server: try again later.
            if (e instanceof ApiError) this.lost();
            return;
        }
        if (this.session.auth === 'key' && !this.session.signed_in) {
            this.lock();
            return;
        }
        this.open();
    }

    private open(): void {
        this.close();
        const after = this.lastId ? `?after=${encodeURIComponent(this.lastId)}` : '';
        const source = new EventSource(`/v1/events${after}`);
        this.source = source;
        source.onopen = () => {
            if (this.source !== source) return;
            this.wait = 0;
            void this.refresh();
        };
        source.onerror = () => {
            if (this.source === source) this.lost();
        };
        for (const kind of kinds) {
            source.addEventListener(kind, (e) => {
                if (this.source === source) this.take(JSON.parse((e as MessageEvent<string>).data) as JobEvent);
            });
        }
    }

    private close(): void {
        this.source?.close();
        this.source = null;
    }

    private lost(): void {
        if (this.link === 'locked') return;
        this.close();
        this.link = 'away';
        if (this.timer) return;
        this.wait = Math.min(MAX_WAIT_MS, this.wait ? this.wait * 1.6 : 400);
        this.timer = setTimeout(() => {
            this.timer = undefined;
            void this.connect();
        }, this.wait);
    }

    private lock(): void {
        this.close();
        this.link = 'locked';
    }

    unlock(): void {
        this.link = 'starting';
        void this.connect();
    }

    /* Reads what the stream cannot have told: everything before it began. */
    private async refresh(): Promise<void> {
        try {
            const [open, ended] = await Promise.all([
                readAll<Job>('/v1/jobs?state=queued,running', 1000),
                get<Page<Job>>('/v1/jobs?state=succeeded,failed,cancelled&limit=80'),
            ]);
            const known = new Set([...open, ...ended.data].map((j) => j.id));
            for (const job of [...open, ...ended.data]) this.merge(job);
            for (const job of [...this.jobs.values()]) {
                if (!known.has(job.id) && job.finished === null) void this.reread(job.id);
            }
            for (const job of open.slice(0, 20)) void this.reread(job.id);
            this.link = 'live';
            for (const listener of this.arrivals) listener();
        } catch (e) {
            if (e instanceof ApiError) this.lost();
            else throw e;
        }
    }

    private async reread(id: string): Promise<void> {
        try {
            this.merge((await get<{ job: Job }>(`/v1/jobs/${id}`)).job);
        } catch (e) {
            if (e instanceof ApiError && e.status === 404) this.jobs.delete(id);
        }
    }

    private merge(job: Job): void {
        const before = this.jobs.get(job.id);
        // An answer may be older than the event that overtook it: what has ended stays ended.
        if (before && before.finished !== null && job.finished === null) return;
        const next = { ...job, params: job.params ?? before?.params ?? null };
        // Pictures of a running job come as events; its record lists them only when it has ended.
        if (job.finished === null && before && next.artifacts.length < before.artifacts.length) next.artifacts = before.artifacts;
        this.jobs.set(job.id, next);
        if (job.finished === null) return;
        this.previews.delete(job.id);
        for (const key of [...this.lastPreviews.keys()]) if (key.startsWith(job.id)) this.lastPreviews.delete(key);
    }

    private take(e: JobEvent): void {
        this.lastId = e.id || this.lastId;
        const job = this.jobs.get(e.job);
        if (e.state) {
            const freed = job?.state === 'queued' && e.state.state !== 'queued';
            this.merge(e.state);
            // A job that begins (again, after a crash) writes its text from the start.
            if (e.type === 'started') this.texts.delete(e.job);
            // Those behind it move up; the server tells positions only when asked.
            if (freed || e.type === 'started') this.moveUp();
        }
        if (e.type === 'progress' && job && job.finished === null && e.progress) {
            this.jobs.set(e.job, { ...job, state: 'running', progress: e.progress, left_ms: e.progress.left_ms });
        } else if (e.type === 'preview' && e.data) {
            this.lastPreviews.set(`${e.job}/${e.image ?? 0}`, `data:${e.mime};base64,${e.data}`);
            this.previews.set(e.job, { image: e.image ?? 0, step: e.step ?? 0, url: `data:${e.mime};base64,${e.data}` });
        } else if (e.type === 'token') {
            this.texts.set(e.job, (this.texts.get(e.job) ?? '') + (e.text ?? ''));
        } else if (e.type === 'artifact' && e.artifact) {
            const artifact = e.artifact;
            this.previews.delete(e.job);
            if (job && !job.artifacts.some((a) => a.role === artifact.role && a.index === artifact.index)) {
                this.jobs.set(e.job, { ...job, artifacts: [...job.artifacts, artifact] });
            }
        } else if (e.type === 'note') {
            this.notes.set(e.job, [...(this.notes.get(e.job) ?? []), e.text ?? '']);
        } else if (e.type === 'lost') {
            void this.refresh();
        } else if (e.type === 'bye') {
            this.lost();
        }
        for (const listener of this.listeners) listener(e);
    }

    private moveUp(): void {
        this.queued.forEach((job, i) => {
            if (job.position !== i) this.jobs.set(job.id, { ...job, position: i });
        });
    }

    private look(): void {
        clearTimeout(this.sleeper);
        if (document.visibilityState === 'hidden') {
            this.sleeper = setTimeout(() => this.close(), HIDDEN_MS);
        } else if (!this.source && this.link !== 'locked') {
            this.again();
        }
    }
}

export const server = new Server();
