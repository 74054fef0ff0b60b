// SPDX-License-Identifier: MIT
// What can be done with a picture, wherever it is shown.
import { call, get, submit } from './api';
import { draft } from './draft.svelte';
import { t } from './i18n.svelte';
import { server } from './server.svelte';
import { load, save } from './store';
import type { Artifact, Job, Values } from './types';
import { ui } from './ui.svelte';

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
    const before = { ...draft.values };
    draft.use(await recipeOf(a));
    ui.go('draw');
    ui.say(t('use.done'), { kind: 'done', action: { label: t('undo'), run: () => (draft.values = before) } });
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

export async function upscale(a: Artifact, factor = 2, upscaler?: string): Promise<Job> {
    const body: Values = { image: `artifact:${a.id}`, upscale: factor };
    if (upscaler) body.upscaler = upscaler;
    const job = await submit('upscale', body);
    server.add(job);
    return job;
}

/*
 * Jobs that the user has deleted but may still take back. The server is told when the undo has run out; when the page is
 * closed before, it is told on the next visit.
 */
const UNDO_MS = 8000;

async function remove(ids: string[]): Promise<void> {
    for (const id of ids) {
        try {
            await call('DELETE', `/v1/jobs/${id}`);
        } catch (e) {
            if ((e as { status?: number }).status !== 404) {
                for (const left of ids) server.hidden.delete(left);
                forgetPending(ids);
                throw e;
            }
        }
        server.jobs.delete(id);
        forgetPending([id]);
    }
}

const pending = (): string[] => load<string[]>('deleting', []);
const forgetPending = (ids: string[]): void => save('deleting', pending().filter((id) => !ids.includes(id)));

export function deleteJobs(ids: string[], pictures: number): void {
    for (const id of ids) server.hidden.set(id, true);
    save('deleting', [...new Set([...pending(), ...ids])]);
    ui.say(t('delete.done', { n: pictures }), {
        action: {
            label: t('undo'),
            run: () => {
                for (const id of ids) server.hidden.delete(id);
                forgetPending(ids);
            },
        },
        gone: () => {
            remove(ids).catch((e: unknown) => ui.fail(e));
        },
    }, UNDO_MS);
}

/* Finishes what an earlier visit left over. */
export function finishDeletes(): void {
    const ids = pending().filter((id) => !server.hidden.has(id));
    if (ids.length === 0) return;
    for (const id of ids) server.hidden.set(id, true);
    remove(ids).catch((e: unknown) => ui.fail(e));
}

export const fileUrl = (a: Artifact): string => a.url;
export const thumb = (a: Artifact): string => a.thumbnail;
export const extension = (mime: string): string => ({ 'image/jpeg': 'jpg', 'image/webp': 'webp' })[mime] ?? 'png';
export const fileName = (a: Artifact): string => `limn-${a.seed ?? 'picture'}-${a.id.slice(0, 8)}.${extension(a.mime)}`;
