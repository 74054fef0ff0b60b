// SPDX-License-Identifier: MIT
// What the user is about to draw: every typed and chosen value, the prompt history and the presets. Written down a
// moment after each change, so that neither a reload nor a crash costs a word.
import { untrack } from 'svelte';
import { get } from './api';
import { catalog, putStudio } from './catalog.svelte';
import { bodyOf, fromRecipe } from './params';
import { server } from './server.svelte';
import { load, saveSoon } from './store';
import type { Values } from './types';

export interface Preset {
    name: string;
    values: Values;
}
const HISTORY = 200;

class Draft {
    values = $state<Values>(load<Values>('draft', {}));
    history = $state.raw<string[]>(load<string[]>('history', []));
    presets = $state.raw<Preset[]>(load<Preset[]>('presets', []));
    lockRatio = $state(load('lockRatio', false));
    all = $state(load('allParams', false));
    closed = $state<Record<string, boolean>>(load('closedGroups', {}));

    prompt = $derived(String(this.values.prompt ?? ''));
    negative = $derived(String(this.values.negative_prompt ?? ''));

    start(): void {
        $effect.root(() => {
            $effect(() => {
                const copy = JSON.stringify(this.values);
                saveSoon('draft', () => JSON.parse(copy) as unknown);
            });
            $effect(() => {
                const { model, sampler } = this.values;
                untrack(() => catalog.drawWith(model, sampler));
            });
            $effect(() => {
                const copy = { lock: this.lockRatio, all: this.all, closed: { ...this.closed } };
                saveSoon('lockRatio', () => copy.lock);
                saveSoon('allParams', () => copy.all);
                saveSoon('closedGroups', () => copy.closed);
            });
        });
        let asked = false;
        server.onArrival(() => {
            if (asked) return;
            asked = true;
            void this.readPresets();
        });
    }

    set(name: string, value: unknown): void {
        if (value === undefined || value === null) delete this.values[name];
        else this.values[name] = value;
    }

    /* Back to what the model and the program choose; the words stay. */
    reset(): void {
        const { prompt, negative_prompt } = this.values;
        this.values = {};
        if (prompt) this.values.prompt = prompt;
        if (negative_prompt) this.values.negative_prompt = negative_prompt;
    }

    body(): Values {
        return bodyOf(catalog.params, this.values);
    }

    /* Takes over a recipe; the answer is what it names and this server does not have. */
    use(recipe: Values): string[] {
        const { values, missing } = catalog.settle(recipe);
        this.values = fromRecipe(catalog.params, values);
        return missing;
    }

    remember(prompt: string): void {
        const text = prompt.trim();
        if (!text) return;
        this.history = [text, ...this.history.filter((x) => x !== text)].slice(0, HISTORY);
        saveSoon('history', () => this.history);
    }

    savePreset(name: string): void {
        const { prompt: _p, negative_prompt: _n, seed: _s, ...values } = $state.snapshot(this.values);
        this.presets = [...this.presets.filter((p) => p.name !== name), { name, values }];
        this.keepPresets();
    }

    applyPreset(preset: Preset): void {
        const { prompt, negative_prompt, seed } = this.values;
        this.values = { ...preset.values };
        for (const [name, value] of Object.entries({ prompt, negative_prompt, seed })) this.set(name, value);
    }

    removePreset(name: string): void {
        this.presets = this.presets.filter((p) => p.name !== name);
        this.keepPresets();
    }

    private keepPresets(): void {
        saveSoon('presets', () => this.presets);
        putStudio({ presets: this.presets }).catch(() => {
            // The browser has them; the server gets them with the next change.
        });
    }

    /* Presets of other browsers join; those of this one win where names are the same. */
    private async readPresets(): Promise<void> {
        const answer = await get<{ studio: { presets?: Preset[] } }>('/v1/settings');
        const theirs = answer.studio?.presets ?? [];
        const mine = new Set(this.presets.map((p) => p.name));
        this.presets = [...theirs.filter((p) => !mine.has(p.name)), ...this.presets];
        saveSoon('presets', () => this.presets);
    }
}

export const draft = new Draft();
