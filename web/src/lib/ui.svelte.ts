// SPDX-License-Identifier: MIT
// Where the user is in the page, how it looks, and what it says in passing.
import { ApiError } from './api';
import { maybe, t } from './i18n.svelte';
import { load, save } from './store';

export const views = ['draw', 'gallery', 'see', 'edit', 'grid', 'system'] as const;
export type View = (typeof views)[number];
export type Theme = 'auto' | 'light' | 'dark' | 'contrast';

export interface Toast {
    id: number;
    text: string;
    kind: 'info' | 'error' | 'done';
    action?: { label: string; run: () => void };
    /* Called when it goes away without the action having been used. */
    gone?: () => void;
}

class Ui {
    view = $state<View>('draw');
    rest = $state<string[]>([]);
    theme = $state<Theme>(load<Theme>('theme', 'auto'));
    queueOpen = $state(false);
    helpOpen = $state(false);
    toasts = $state<Toast[]>([]);
    private next = 1;
    private timers = new Map<number, ReturnType<typeof setTimeout>>();

    start(): void {
        const read = (): void => {
            const [, view = 'draw', ...rest] = decodeURIComponent(location.hash.slice(1)).split('/');
            this.view = (views as readonly string[]).includes(view) ? (view as View) : 'draw';
            this.rest = rest;
            this.queueOpen = false;
        };
        window.addEventListener('hashchange', read);
        read();
        this.setTheme(this.theme);
    }

    go(view: View, ...rest: string[]): void {
        const hash = `#/${[view, ...rest].map(encodeURIComponent).join('/')}`;
        if (location.hash !== hash) location.hash = hash;
        this.queueOpen = false;
    }

    setTheme(theme: Theme): void {
        this.theme = theme;
        if (theme === 'auto') delete document.documentElement.dataset.theme;
        else document.documentElement.dataset.theme = theme;
        save('theme', theme);
    }

    /* What is said again takes the place of what was said before, unless that one still has something to do at its end. */
    say(text: string, more: Partial<Omit<Toast, 'id' | 'text'>> = {}, ms = 5000): number {
        for (const old of this.toasts.filter((x) => x.text === text && !x.gone)) this.dismiss(old.id, true);
        const id = this.next++;
        this.toasts.push({ id, text, kind: 'info', ...more });
        this.timers.set(id, setTimeout(() => this.dismiss(id), ms));
        return id;
    }

    dismiss(id: number, acted = false): void {
        clearTimeout(this.timers.get(id));
        this.timers.delete(id);
        const toast = this.toasts.find((x) => x.id === id);
        this.toasts = this.toasts.filter((x) => x.id !== id);
        if (toast && !acted) toast.gone?.();
    }

    /* Says what went wrong, in the server's words. */
    fail(e: unknown): void {
        console.error(e);
        const text = e instanceof ApiError ? describe(e) : e instanceof Error ? e.message : String(e);
        this.say(text, { kind: 'error' }, 9000);
    }
}

/* An error as one line for people. */
export function describe(e: { code: string; message: string; retryAfter?: number | null }): string {
    const hint = maybe(`error.${e.code}`, '');
    if (e.code === 'away') return t('error.away');
    const wait = e.retryAfter ? ` ${t('error.wait', { n: e.retryAfter })}` : '';
    return hint ? `${hint} (${e.message})${wait}` : `${e.message}${wait}`;
}

export const ui = new Ui();

/* Runs an action whose failure the user should read. */
export async function tell(action: () => Promise<unknown>): Promise<void> {
    try {
        await action();
    } catch (e) {
        ui.fail(e);
    }
}
