// SPDX-License-Identifier: MIT
// What can be done with a picture, wherever it is shown.
import { blob, call, get, submit } from './api';
import { bitmap, canvasOf, pngOf } from './canvas';
import { draft } from './draft.svelte';
import { duration, maybe, t } from './i18n.svelte';
import { picturesOf, server } from './server.svelte';
import type { Artifact, Job, Picture, Values } from './types';
import { tell, ui } from './ui.svelte';

const recipes = new Map<string, Promise<{ artifact: Artifact; recipe: Values | null; text: string | null }>>();

/* The recipe of a picture; pictures never change, so one answer is enough. */
export function detail(id: string): Promise<{ artifact: Artifact; recipe: Values | null; text: string | null }> {
    let answer = recipes.get(id);
    if (!answer) {
        answer = get<{ artifact: Artifact; recipe: Values | null; text: string | null }>(`/v1/artifacts/${id}`);
        answer.catch(() => recipes.delete(id));
        recipes.set(id, answer);
    }
    return answer;
}

async function recipeOf(a: Artifact): Promise<Values> {
    const { recipe } = await detail(a.id);
    if (!recipe) throw new Error(t('recipe.none'));
    return recipe;
}

export async function useSettings(a: Artifact): Promise<void> {
    takeUp(await recipeOf(a));
}

/* The settings of a picture become the draft; what it names and this server does not have is told. */
export function takeUp(recipe: Values): void {
    const before = { ...draft.values };
    const missing = draft.use(recipe);
    ui.go('draw');
    const said = missing.length > 0 ? `${t('use.done')} ${t('use.missing', { names: missing.join(', ') })}` : t('use.done');
    ui.say(said, { kind: missing.length > 0 ? 'info' : 'done', action: { label: t('undo'), run: () => (draft.values = before) } }, missing.length > 0 ? 9000 : 5000);
}

/* The tag of what stays when the history is cleared of what is old. */
export const KEEP = 'keep';
export async function setKept(id: string, on: boolean): Promise<Job> {
    const { tags } = (await get<{ job: Job }>(`/v1/jobs/${id}`)).job;
    const { job } = await call<{ job: Job }>('PATCH', `/v1/jobs/${id}`, { body: { tags: [...tags.filter((x) => x !== KEEP), ...(on ? [KEEP] : [])] } });
    if (server.jobs.has(id)) server.restored(job);
    return job;
}

/* Onto the clipboard, which takes PNG files. */
export async function copyPicture(a: Artifact): Promise<void> {
    const png = async (): Promise<Blob> => {
        const file = await blob(a.url);
        if (file.type === 'image/png') return file;
        const picture = await bitmap(file);
        const { canvas, context } = canvasOf(picture.width, picture.height);
        context.drawImage(picture, 0, 0);
        return pngOf(canvas);
    };
    await navigator.clipboard.write([new ClipboardItem({ 'image/png': png() })]);
}

/* The same request with another seed mixed in: near relatives of the picture. */
export async function vary(a: Artifact): Promise<Job> {
    const recipe = await recipeOf(a);
    const body: Values = { ...recipe, seed: a.seed ?? recipe.seed, count: 1, batch_size: 1, variation_strength: 0.25 };
    delete body.variation_seed;
    const job = await submit(recipe.init_image ? 'edit' : 'draw', body);
    server.add(job);
    return job;
}

/* An enlargement is told with its picture where drawings have theirs. */
function asked(kind: Job['kind'], params: Values): Values {
    if (kind !== 'upscale') return params;
    const { init_image, ...rest } = params;
    return { image: init_image, ...rest };
}

/* The same request once more, as a new job. */
export async function redo(job: Job): Promise<Job> {
    const { params } = await server.find(job.id);
    const made = job.kind === 'load' || job.kind === 'unload'
        ? (await call<{ job: Job }>('POST', `/v1/models/${job.kind}`, { body: params ?? {} })).job
        : await submit(job.kind === 'draw' && params?.init_image ? 'edit' : job.kind, { ...asked(job.kind, params ?? {}), job: { tags: job.tags } });
    server.add(made);
    return made;
}

/* What tasks of the seeing half are called by the server, and on their buttons. */
const taskKeys: Record<string, string> = { caption: 'describe', video: 'clip', events: 'events', follow: 'follow', ocr: 'text', document: 'document', boxes: 'find', points: 'count', tag: 'tag', classify: 'classify', extract: 'extract', moderate: 'moderate', compare: 'compare' };

/* What a running job is at, as one text: in pieces, each would jump when the one before it grows. */
export function progressOf(job: Job, long = false): string {
    const p = job.progress;
    const steps = p && p.steps > 0 ? (long ? t('steps.of', { step: p.step, steps: p.steps }) : `${p.step}/${p.steps}`) : '';
    return [p ? maybe(`stage.${p.stage}`, p.stage) : t('stage.start'), steps, long && p && steps && p.images > 1 ? t('picture.of', { n: p.image + 1, all: p.images }) : '',
        job.left_ms !== null ? t('left', { time: duration(job.left_ms) }) : ''].filter(Boolean).join('\u00a0· ');
}

/* A job in one line: its words, else what it is. */
export function nameOf(job: Job): string {
    if (job.kind === 'see' && job.title in taskKeys) return maybe(`task.${taskKeys[job.title]}`, job.title);
    if (job.title) return job.title;
    return job.kind === 'load' || job.kind === 'unload' ? job.model || t(`kind.${job.kind}`) : t(`kind.${job.kind}`);
}

export async function upscale(a: Artifact, factor = 2, upscaler?: string): Promise<Job> {
    const body: Values = { image: `artifact:${a.id}`, upscale: factor };
    if (upscaler) body.upscaler = upscaler;
    const job = await submit('upscale', body);
    server.add(job);
    return job;
}

/*
 * Deleting happens at once; the server keeps what was deleted for a while, and undoing asks for it back. What is deleted
 * of a job is either single pictures or, when none would be left, the job itself.
 */
const AT_ONCE = 4;

interface Gone {
    job: string;
    /* A picture of the job; null: all of it. */
    artifact: string | null;
    keys: string[];
}

async function inTurn<T>(list: T[], act: (x: T) => Promise<void>): Promise<void> {
    const left = [...list];
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
        for (let x = left.shift(); x !== undefined; x = left.shift()) await act(x);
    }));
}

/* What has to be asked of the server to delete these pictures. `all` gives every picture of a job. */
export function plan(list: readonly Picture[], all: (job: string) => Picture[]): Gone[] {
    const byJob = new Map<string, Picture[]>();
    for (const p of list) if (p.job) byJob.set(p.job, [...(byJob.get(p.job) ?? []), p]);
    return [...byJob].flatMap(([job, some]): Gone[] => {
        const keys = some.map((p) => p.key);
        if (all(job).every((p) => keys.includes(p.key))) return [{ job, artifact: null, keys: [job, ...keys] }];
        // Two pictures of a job may be the same bytes: the server knows them by these and takes both.
        return [...new Set(some.map((p) => p.id))].map((artifact) => ({ job, artifact, keys: all(job).filter((p) => p.id === artifact).map((p) => p.key) }));
    });
}

const pathOf = (g: Gone): string => (g.artifact ? `/v1/jobs/${g.job}/artifacts/${g.artifact}` : `/v1/jobs/${g.job}`);
const hide = (g: Gone, on: boolean): void => {
    for (const key of g.keys) {
        if (on) server.hidden.set(key, true);
        else server.hidden.delete(key);
    }
};

export async function deletePictures(list: readonly Picture[]): Promise<void> {
    const full = new Map<string, Picture[]>();
    await inTurn([...new Set(list.flatMap((p) => p.job ?? []))], async (id) => {
        full.set(id, picturesOf(await server.find(id)).filter((p) => !server.hidden.has(p.key)));
    });
    const steps = plan(list, (id) => full.get(id) ?? []);
    const done: Gone[] = [];
    for (const g of steps) hide(g, true);
    try {
        await inTurn(steps, async (g) => {
            try {
                await call('DELETE', pathOf(g));
                done.push(g);
            } catch (e) {
                // Somebody else was quicker.
                if ((e as { status?: number }).status !== 404) throw e;
            }
        });
    } catch (e) {
        for (const g of steps) if (!done.includes(g)) hide(g, false);
        ui.fail(e);
    }
    if (done.length === 0) return;
    const n = done.reduce((sum, g) => sum + g.keys.filter((k) => k !== g.job).length, 0);
    ui.say(t('delete.done', { n }), { action: { label: t('undo'), run: () => void tell(() => restore(done)) } }, 10_000);
}

async function restore(list: Gone[]): Promise<void> {
    await inTurn(list, async (g) => {
        const { job } = await call<{ job: Job }>('POST', `${pathOf(g)}/restore`);
        hide(g.artifact ? g : { ...g, keys: [g.job, ...picturesOf(job).map((p) => p.key)] }, false);
        server.restored(job);
    });
}

/* Takes back jobs that were deleted earlier, from the list of what was deleted. */
export const restoreJobs = (ids: string[]): Promise<void> => restore(ids.map((job) => ({ job, artifact: null, keys: [job] })));

export async function deleteForever(ids: string[]): Promise<void> {
    await inTurn(ids, async (id) => {
        await call('DELETE', `/v1/jobs/${id}?forever=1`);
        server.jobs.delete(id);
    });
}

export const fileUrl = (a: Artifact): string => a.url;
export const thumb = (a: Artifact): string => a.thumbnail;
export const extension = (mime: string): string => ({ 'image/jpeg': 'jpg', 'image/webp': 'webp' })[mime] ?? 'png';
export const fileName = (a: Artifact): string => `limn-${a.seed ?? 'picture'}-${a.id.slice(0, 8)}.${extension(a.mime)}`;
