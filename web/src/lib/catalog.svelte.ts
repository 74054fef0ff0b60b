// SPDX-License-Identifier: MIT
// What the server offers: parameters, samplers, models and the other lists. The last answer is kept, so that the form
// stands at once on the next visit and nothing jumps when the fresh lists arrive.
import { ApiError, call, get } from './api';
import { server } from './server.svelte';
import { advised, settleNames } from './params';
import { load, save } from './store';
import type { Model, Named, Param, SystemState, Values } from './types';

type Lists = Record<string, Named[]>;
const routes: Record<string, string> = {
    sampler: 'samplers',
    schedule: 'schedules',
    upscaler: 'upscalers',
    lora: 'loras',
    vae: 'vaes',
    embedding: 'embeddings',
    style: 'styles',
    wildcard: 'wildcards',
};

/* One entry for each name, the default one where several share it: a model may lie in two folders. */
function unique<T extends object>(list: T[], name: (x: T) => string): T[] {
    const kept = new Map<string, T>();
    for (const x of list) {
        if (!kept.has(name(x)) || ('default' in x && x.default)) kept.set(name(x), x);
    }
    return [...kept.values()];
}

/* A list that this server does not have is an empty one; the page must not depend on every one of them. */
async function listAt(path: string): Promise<{ data: Named[] }> {
    try {
        return await get<{ data: Named[] }>(path);
    } catch (e) {
        if (e instanceof ApiError && e.status === 404) return { data: [] };
        throw e;
    }
}

class Catalog {
    /* As the server's table has it, and as it is for the model that will draw. */
    private table = $state.raw<Param[]>(load('params', []));
    private advice = $state.raw<Record<string, Values>>(load('advice', {}));
    private asked = new Set<string>();
    private draws = $state.raw<{ model: unknown; sampler: unknown }>({ model: undefined, sampler: undefined });
    params = $derived(advised(this.table, this.advice[this.modelName(this.draws.model)], this.draws.sampler));
    groups = $state.raw<string[]>(load('groups', []));
    lists = $state.raw<Lists>(load('lists', {}));
    models = $state.raw<Model[]>(load('models', []));
    system = $state.raw<SystemState | null>(load('system', null));
    ready = $derived(this.params.length > 0);
    byName = $derived(new Map(this.params.map((p) => [p.name, p])));
    drawModels = $derived(this.models.filter((m) => m.kind === 'draw'));
    seeModels = $derived(this.models.filter((m) => m.kind === 'see'));

    start(): void {
        server.onArrival(() => void this.refresh());
    }

    async refresh(): Promise<void> {
        const names = Object.keys(routes);
        const [params, models, system, ...lists] = await Promise.all([
            get<{ groups: string[]; data: Param[] }>('/v1/params'),
            get<{ data: Model[] }>('/v1/models'),
            get<SystemState>('/v1/system'),
            ...names.map((n) => listAt(`/v1/${routes[n]}`)),
        ]);
        this.table = unique(params.data, (p) => p.name);
        this.groups = params.groups;
        this.models = unique(models.data, (m) => m.id);
        this.system = system;
        this.lists = Object.fromEntries(names.map((n, i) => [n, unique(lists[i]?.data ?? [], (x) => x.name)]));
        save('params', this.table);
        save('groups', this.groups);
        save('models', this.models);
        save('lists', this.lists);
        save('system', this.system);
        this.asked.clear();
        await this.ask();
    }

    /* The draft has another model or sampler now. */
    drawWith(model: unknown, sampler: unknown): void {
        this.draws = { model, sampler };
        if (server.link === 'live') void this.ask();
    }

    /* What the model recommends; without an answer the table's own values are shown. */
    private async ask(): Promise<void> {
        const model = this.modelName(this.draws.model);
        if (!model || this.asked.has(model)) return;
        this.asked.add(model);
        const answer = await get<{ params: Values }>(`/v1/models/${encodeURIComponent(model)}/advice`).catch(() => null);
        if (!answer) {
            this.asked.delete(model);
            return;
        }
        this.advice = { ...this.advice, [model]: answer.params };
        save('advice', this.advice);
    }

    async refreshModels(): Promise<void> {
        this.models = unique((await get<{ data: Model[] }>('/v1/models')).data, (m) => m.id);
        save('models', this.models);
    }

    async refreshSystem(): Promise<SystemState> {
        this.system = await get<SystemState>('/v1/system');
        return this.system;
    }

    /* The names that a parameter may have, when it is one of a list. */
    names(param: Param): Named[] {
        const list = listOf(param);
        if (list === 'model') return this.drawModels.map(namedModel);
        if (list) return this.lists[list] ?? [];
        return (param.words ?? []).map((name) => ({ name }));
    }

    /* A recipe with its names as they are called here, and what is not here. */
    settle(recipe: Values): { values: Values; missing: string[] } {
        if (this.models.length === 0) return { values: recipe, missing: [] }; // not heard of any list yet
        return settleNames(this.params, recipe, (p) => (listOf(p) ? this.names(p) : null));
    }

    modelName(id: unknown): string {
        if (typeof id === 'string' && id) return id;
        return this.drawModels.find((m) => m.default)?.id ?? this.drawModels[0]?.id ?? '';
    }
}

export const catalog = new Catalog();

/* A model as the pickers show it: what it takes when it is open, and whether that fits. */
export const namedModel = (m: Model): Named => ({ name: m.id, help: m.title, bytes: m.need ?? m.bytes, fits: m.fits ?? undefined });

/* The list that a parameter's names come from. Those of files are known by the parameter: the table calls them text. */
export function listOf(param: Param): string | null {
    const files: Record<string, string> = { model: 'model', refiner: 'model', vae: 'vae', loras: 'lora', embeddings: 'embedding', styles: 'style' };
    return param.list ?? files[param.name] ?? null;
}

/* Studio settings kept on the server for this user, so that presets follow from one browser to the next. */
export const putStudio = (value: unknown): Promise<void> => call('PUT', '/v1/settings/studio', { body: value });
