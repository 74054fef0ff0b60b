// SPDX-License-Identifier: MIT
// The one place that talks to the server. Every failure becomes an ApiError: the server's own words when it answered,
// code "away" when it did not.
import type { Artifact, ErrorBody, Job, Media, Page, Recipe, Values } from './types';

export class ApiError extends Error {
    constructor(
        readonly status: number,
        readonly code: string,
        message: string,
        readonly param: string | null = null,
        readonly requestId: string | null = null,
        readonly retryAfter: number | null = null,
    ) {
        super(message);
        this.name = 'ApiError';
    }
}

type Listener = (e: ApiError) => void;
const listeners = new Set<Listener>();
/* Told of every failed request; the connection watches for "away" and 401 here. */
export function onFailure(listener: Listener): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
}

function failed(e: ApiError): never {
    for (const listener of listeners) listener(e);
    throw e;
}

async function readError(answer: Response): Promise<ApiError> {
    const wait = answer.headers.get('Retry-After');
    let body: Partial<ErrorBody> = {};
    try {
        body = ((await answer.json()) as { error?: ErrorBody }).error ?? {};
    } catch {
        // Not JSON: a proxy's page, perhaps. The status says what there is to say.
    }
    return new ApiError(answer.status, body.code ?? 'http', body.message ?? `${answer.status} ${answer.statusText}`,
        body.param ?? null, body.request_id ?? answer.headers.get('X-Request-Id'), wait ? Number(wait) : null);
}

export interface CallOptions {
    body?: unknown;
    bytes?: Blob;
    headers?: Record<string, string>;
    signal?: AbortSignal;
}

export async function call<T>(method: string, path: string, options: CallOptions = {}): Promise<T> {
    const headers: Record<string, string> = { ...options.headers };
    let body: BodyInit | undefined;
    if (options.bytes) {
        body = options.bytes;
        headers['Content-Type'] = options.bytes.type || 'application/octet-stream';
    } else if (options.body !== undefined) {
        body = JSON.stringify(options.body);
        headers['Content-Type'] = 'application/json';
    }
    let answer: Response;
    try {
        answer = await fetch(path, { method, headers, body, signal: options.signal });
    } catch (e) {
        if ((e as Error).name === 'AbortError') throw e;
        return failed(new ApiError(0, 'away', 'the server does not answer'));
    }
    if (!answer.ok) return failed(await readError(answer));
    if (answer.status === 204) return undefined as T;
    try {
        return (await answer.json()) as T;
    } catch (e) {
        if ((e as Error).name === 'AbortError') throw e;
        return failed(new ApiError(0, 'away', 'the answer was cut off'));
    }
}

/* The bytes of a file. */
export async function blob(path: string): Promise<Blob> {
    let answer: Response;
    try {
        answer = await fetch(path);
        if (answer.ok) return await answer.blob();
    } catch {
        return failed(new ApiError(0, 'away', 'the server does not answer'));
    }
    return failed(await readError(answer));
}

export const get = <T>(path: string, signal?: AbortSignal): Promise<T> => call<T>('GET', path, { signal });
export const post = <T>(path: string, body: unknown = {}): Promise<T> => call<T>('POST', path, { body });

/* A random text that names one attempt: the same key sent again gives the same job, never a second one. */
export function newKey(): string {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
}

/*
 * Makes a job. When the connection breaks before the answer, the same request goes out again with the same key, so that
 * the user neither loses a drawing nor gets it twice.
 */
export async function submit(kind: 'draw' | 'edit' | 'upscale' | 'see' | 'grid', body: Values, key = newKey()): Promise<Job> {
    for (let attempt = 0; ; attempt++) {
        try {
            const answer = await call<{ job: Job }>('POST', `/v1/${kind}`, { body, headers: { 'Idempotency-Key': key } });
            return answer.job;
        } catch (e) {
            if (!(e instanceof ApiError) || e.code !== 'away' || attempt >= 2) throw e;
            await new Promise((done) => setTimeout(done, 400 * (attempt + 1)));
        }
    }
}

export async function upload(file: Blob): Promise<{ artifact: Artifact; media?: Media } & Recipe> {
    // The content decides what it is; a browser's guess of another kind would only be refused.
    const bytes = /^(image|video)\/|^application\/pdf$/.test(file.type) ? file : new Blob([file]);
    return call('POST', '/v1/uploads', { bytes });
}

export async function readRecipe(file: Blob): Promise<Recipe> {
    return call('POST', '/v1/recipe', { bytes: file });
}

/* Walks a paged list to its end or to `most` items. */
export async function readAll<T>(path: string, most = 1000): Promise<T[]> {
    const all: T[] = [];
    let after = '';
    do {
        const mark = path.includes('?') ? '&' : '?';
        const page = await get<Page<T>>(`${path}${mark}limit=200${after ? `&after=${encodeURIComponent(after)}` : ''}`);
        all.push(...page.data);
        after = page.next ?? '';
    } while (after && all.length < most);
    return all;
}
