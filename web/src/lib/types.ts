// SPDX-License-Identifier: MIT
// The shapes of docs/API.md, as the studio reads them.

export type JobKind = 'draw' | 'upscale' | 'see' | 'grid' | 'load' | 'unload';
export type JobState = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled';
export type Values = Record<string, unknown>;

export interface Progress {
    stage: string;
    image: number;
    images: number;
    step: number;
    steps: number;
    fraction: number;
    left_ms: number | null;
    tokens: number;
}

export interface Artifact {
    id: string;
    role: 'result' | 'input' | 'sheet' | 'extra';
    index: number;
    mime: string;
    width: number;
    height: number;
    bytes: number;
    seed: number | null;
    url: string;
    thumbnail: string;
}

/* A picture with the job that made it; an upload has none. */
export interface Picture extends Artifact {
    /* Two jobs can draw the same bytes, so the artifact's id alone names no picture of a list. */
    key: string;
    job: string | null;
    kind: JobKind | null;
    created: number;
    title: string;
}

export interface ErrorBody {
    type: string;
    code: string;
    param: string | null;
    message: string;
    request_id?: string;
}

export interface Usage {
    prompt_tokens: number;
    image_tokens: number;
    cached_tokens: number;
    completion_tokens: number;
}

export interface Job {
    id: string;
    kind: JobKind;
    state: JobState;
    /* The prompt or question, cut to one line. */
    title: string;
    tags: string[];
    owner: string;
    parent: string | null;
    priority: number;
    /* One job of each lane runs at a time: drawings, questions. */
    lane: string;
    attempt: number;
    model: string;
    seed: number | null;
    images: number;
    created: number;
    started: number | null;
    finished: number | null;
    position: number | null;
    left_ms: number | null;
    progress: Progress | null;
    /* Null in lists. */
    params: Values | null;
    artifacts: Artifact[];
    result: (Values & { text?: string; usage?: Usage; finish_reason?: string }) | null;
    error: ErrorBody | null;
}

export interface Param {
    name: string;
    type: 'int' | 'real' | 'bool' | 'enum' | 'text' | 'list';
    group: string;
    help: string;
    unit: string | null;
    default: unknown;
    default_note: string | null;
    min: number | null;
    max: number | null;
    multiple: number | null;
    words: string[] | null;
    list: string | null;
    ui: { min: number; max: number; step: number } | null;
    aliases: string[];
    flags: string[];
}

export interface Named {
    name: string;
    /* Shown instead of the name. */
    label?: string;
    aliases?: string[];
    help?: string;
    bytes?: number;
    modified?: number;
    lines?: number;
    fits?: Fits;
    prompt?: string;
    negative_prompt?: string;
}

export interface Model {
    id: string;
    created: number;
    kind: 'draw' | 'see';
    title?: string;
    family?: string;
    bytes: number;
    loaded: boolean;
    default: boolean;
    /* Bytes: what it takes now, what it takes when it is open (an estimate). */
    memory?: number;
    need?: number | null;
    fits?: Fits | null;
    /* As its files say it, and which of them; null where they say nothing. */
    license?: string | null;
    license_from?: string | null;
}
export type Fits = 'now' | 'after_unload' | 'no';

/* A key as it is listed: what it is, never its secret. */
export interface ApiKey {
    id: string;
    owner: string;
    scope: 'read' | 'infer' | 'admin';
    created: number;
    expires: number | null;
    /* The one that this browser is signed in with. */
    own: boolean;
}

export interface Session {
    auth: 'off' | 'key';
    signed_in: boolean;
    owner: string;
    scopes: string[];
    version: string;
}

export interface Done {
    jobs: number;
    images: number;
    busy_ms: number;
}

/* What a request would take; null where the server cannot say. */
export interface Cost {
    images: number;
    seconds: number | null;
    memory: { model: number; work: number; fits: boolean } | null;
}

export interface SystemState {
    version: string;
    time: number;
    started: number;
    state: 'starting' | 'ready' | 'draining';
    backend: string;
    cores: number;
    isa: string[];
    memory: { total: number; available: number; rss: number; limit: number | null; budget?: number; models?: number };
    cpu?: { used_ms: number; cores: [number, number][] | null };
    queue: { queued: number; running: number; depth_limit: number; paused: boolean };
    /* What the last minutes have made. */
    throughput?: { minutes: number; draw: Done; see: Done } | null;
    model: { id: string; kind: string } | null;
    clients: { sse: number; ws: number };
    limits: { upload_bytes: number; pixels: number; images_per_job: number };
}

export interface Page<T> {
    data: T[];
    next: string | null;
}

/* What a file is; `total` counts frames or pages. */
export interface Media {
    kind: 'picture' | 'clip' | 'document';
    format: string;
    total: number;
    width: number;
    height: number;
    fps: number | null;
    seconds: number | null;
}

export interface LogLine {
    id: string;
    time: number;
    level: 'debug' | 'info' | 'warn' | 'error';
    message: string;
    fields: Record<string, unknown>;
}

export interface Recipe {
    recipe: Values | null;
    text: string | null;
    unknown: string | null;
}

export interface JobEvent {
    id: string;
    type: string;
    job: string;
    time: number;
    state?: Job;
    progress?: Progress;
    artifact?: Artifact;
    text?: string;
    tokens?: number;
    image?: number;
    step?: number;
    mime?: string;
    data?: string;
}
