// SPDX-License-Identifier: MIT
// The living link to the server: one event stream for the whole page, the jobs it tells of, and whether the server is
// there at all. One stream and not one per job, because browsers open only six connections to a host; a hidden page
// gives its connection back after a while and picks up from the last event when it is looked at again.
import { untrack } from 'svelte';
import { SvelteMap } from 'svelte/reactivity';
import { ApiError, call, get, onFailure, readAll } from './api';
import type { Artifact, Job, JobEvent, Page, Picture, Session } from './types';

export type Link = 'starting' | 'live' | 'away' | 'locked';
const kinds = ['queued', 'started', 'progress', 'preview', 'artifact', 'note', 'done', 'lost', 'bye'];
const HIDDEN_MS = 30_000;
const MAX_WAIT_MS = 5_000;

export interface Preview {
    image: number;
    step: number;
    url: string;
}

/*
 * What a job has drawn; what went into it is left out. The same record gives the same objects every time, so that a list
 * of many pictures is not built anew whenever a job moves on.
 */
const drawn = new WeakMap<Artifact[], { finished: number | null; pictures: Picture[] }>();
export function picturesOf(job: Job): Picture[] {
    const known = drawn.get(job.artifacts);
    if (known && known.finished === job.finished) return known.pictures;
    const pictures = job.artifacts.filter((a) => a.role === 'result' || a.role === 'sheet')
        .map((a) => ({ ...a, key: pictureKey(job.id, a), job: job.id, kind: job.kind, created: job.finished ?? job.created, title: job.title }));
    drawn.set(job.artifacts, { finished: job.finished, pictures });
    return pictures;
}
export const pictureKey = (job: string, a: Artifact): string => `${job}/${a.role}/${a.index}`;
export const inputsOf = (job: Job): Artifact[] => job.artifacts.filter((a) => a.role === 'input');

/* A list that stays the same object while it has the same members, so that nobody who reads it does anything anew. */
function kept<T>(read: () => T[]): () => T[] {
    let last: T[] = [];
    return () => {
        const next = read();
        if (next.length !== last.length || next.some((x, i) => x !== last[i])) last = next;
        return last;
    };
}

class Server {
    link = $state<Link>('starting');
    session = $state.raw<Session | null>(null);
    jobs = new SvelteMap<string, Job>();
    previews = new SvelteMap<string, Preview>();
    /* What a see job has written so far. */
    texts = new SvelteMap<string, string>();
    /* What the engine had to say about a job, for the user. */
    notes = new SvelteMap<string, string[]>();
    /* What was deleted here, by the id of the job or the key of the picture; hidden everywhere. */
    hidden = new SvelteMap<string, true>();

    private source: EventSource | null = null;
    private writing = new Map<string, EventSource>();
    private lastId = '';
    private wait = 0;
    private timer: ReturnType<typeof setTimeout> | undefined;
    private sleeper: ReturnType<typeof setTimeout> | undefined;
    private listeners = new Set<(e: JobEvent) => void>();
    private arrivals = new Set<() => void>();
    private lining: ReturnType<typeof setTimeout> | undefined;

    queued = $derived.by(kept(() => [...this.jobs.values()].filter((j) => j.state === 'queued')
        .sort((a, b) => (a.lane ?? '').localeCompare(b.lane ?? '') || (a.position ?? 1e9) - (b.position ?? 1e9) || a.created - b.created)));
    running = $derived.by(kept(() => [...this.jobs.values()].filter((j) => j.state === 'running')));
    finished = $derived.by(kept(() => [...this.jobs.values()].filter((j) => j.finished !== null && !this.hidden.has(j.id))
        .sort((a, b) => (b.finished ?? 0) - (a.finished ?? 0))));

    /* The newest pictures, newest first. */
    recent = $derived.by(kept(() => [...this.jobs.values()].filter((j) => !this.hidden.has(j.id)).flatMap(picturesOf)
        .filter((p) => !this.hidden.has(p.key)).sort((a, b) => b.created - a.created || a.index - b.index)));

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

    /* A job that was deleted is back, or one of its pictures. */
    restored(job: Job): void {
        this.jobs.set(job.id, { ...job, params: job.params ?? this.jobs.get(job.id)?.params ?? null });
    }

    /* Gives up the picture that is being drawn; the job goes on with the next one. */
    async skip(id: string): Promise<void> {
        this.merge((await call<{ job: Job }>('POST', `/v1/jobs/${id}/skip`)).job);
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

    /* The job if it has ended. A short one is over before the answer to its request is here. */
    ended(id: string): Job | undefined {
        const job = this.jobs.get(id);
        return job && job.finished !== null ? job : undefined;
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
        for (const id of [...this.writing.keys()]) this.unfollow(id);
    }

    /*
     * Takes down what a question writes, until it has ended: pieces of text come on the stream of their job alone, which
     * begins with everything written so far.
     */
    follow(id: string): void {
        if (this.writing.has(id) || this.ended(id)) return;
        const source = new EventSource(`/v1/jobs/${id}/events?previews=0`);
        this.writing.set(id, source);
        // A job that begins (again, after a crash) writes its text from the start.
        source.addEventListener('started', () => this.texts.delete(id));
        source.addEventListener('token', (e) => {
            const { text } = JSON.parse((e as MessageEvent<string>).data) as JobEvent;
            this.texts.set(id, (this.texts.get(id) ?? '') + (text ?? ''));
        });
        source.addEventListener('done', () => this.unfollow(id));
        source.onerror = () => this.unfollow(id);
    }

    private unfollow(id: string): void {
        this.writing.get(id)?.close();
        this.writing.delete(id);
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
    }

    private take(e: JobEvent): void {
        this.lastId = e.id || this.lastId;
        const job = this.jobs.get(e.job);
        if (e.state) {
            const freed = job?.state === 'queued' && e.state.state !== 'queued';
            this.merge(e.state);
            // Those behind it move up; the server tells positions only when asked.
            if (freed || e.type === 'started') this.moveUp(e.state.lane);
            else if (e.type === 'queued' && job && e.state.position !== job.position) this.lineUp();
        }
        if (e.type === 'progress' && job && job.finished === null && e.progress) {
            this.jobs.set(e.job, { ...job, state: 'running', progress: e.progress, left_ms: e.progress.left_ms });
        } else if (e.type === 'preview' && e.data) {
            this.previews.set(e.job, { image: e.image ?? 0, step: e.step ?? 0, url: `data:${e.mime};base64,${e.data}` });
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

    private moveUp(lane: string): void {
        this.queued.filter((job) => job.lane === lane).forEach((job, i) => {
            if (job.position !== i) this.jobs.set(job.id, { ...job, position: i });
        });
    }

    /* Somebody moved a waiting job: the places of all others, a moment after the last of several moves. */
    lineUp(): void {
        clearTimeout(this.lining);
        this.lining = setTimeout(() => {
            readAll<Job>('/v1/jobs?state=queued', 1000).then((list) => {
                for (const job of list) this.merge(job);
            }, () => undefined);
        }, 150);
    }

    /* Moves a waiting job to another place of its lane; shown at once, taken back when the server refuses. */
    async move(id: string, position: number): Promise<void> {
        const job = this.jobs.get(id);
        if (!job) return;
        const before = this.queued.filter((j) => j.lane === job.lane);
        const after = before.filter((j) => j.id !== id);
        after.splice(Math.max(0, Math.min(after.length, position)), 0, job);
        const place = (list: Job[]): void => list.forEach((j, i) => {
            const now = this.jobs.get(j.id);
            if (now?.state === 'queued') this.jobs.set(j.id, { ...now, position: i });
        });
        place(after);
        try {
            this.merge((await call<{ job: Job }>('PATCH', `/v1/jobs/${id}`, { body: { position: after.indexOf(job) } })).job);
            this.lineUp();
        } catch (e) {
            place(before);
            this.lineUp();
            throw e;
        }
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
