// SPDX-License-Identifier: MIT
// The words of the page. English is part of the program and complete; the other languages are loaded when chosen. A test
// fails when a language misses a key, has one too many, or drops a placeholder.
import en from '../locales/en.json';
import { load, save } from './store';

export type Key = keyof typeof en;
export const languages = { en: 'English', de: 'Deutsch', fr: 'Français' } as const;
export type Language = keyof typeof languages;

const files: Record<Exclude<Language, 'en'>, () => Promise<{ default: Record<string, string> }>> = {
    de: () => import('../locales/de.json'),
    fr: () => import('../locales/fr.json'),
};

class Words {
    language = $state<Language>('en');
    private table = $state.raw<Record<string, string>>(en);

    async set(language: Language): Promise<void> {
        this.table = language === 'en' ? en : (await files[language]()).default;
        this.language = language;
        document.documentElement.lang = language;
        save('language', language);
    }

    async start(): Promise<void> {
        const wanted = load<string>('language', navigator.language.slice(0, 2));
        if (wanted in languages && wanted !== 'en') await this.set(wanted as Language);
    }

    get(key: string): string | undefined {
        return this.table[key];
    }
}

export const words = new Words();

/* The text of a key with {name} replaced by the values. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
    return fill(words.get(key) ?? en[key], values);
}

/* The text of a key that is made at run time (names of parameters, codes of errors), or the fallback. */
export function maybe(key: string, fallback: string, values: Record<string, string | number> = {}): string {
    const text = words.get(key);
    return text === undefined ? fallback : fill(text, values);
}

/* {name} becomes its value; {name|one:picture|other:pictures} the form that the language has for so many. */
export function fill(text: string, values: Record<string, string | number>, language: string = words.language): string {
    return text.replace(/\{(\w+)(?:\|([^}]*))?\}/g, (all, name: string, forms: string | undefined) => {
        const value = values[name];
        if (value === undefined) return all;
        return forms === undefined ? String(value) : form(forms, Number(value), language);
    });
}

/* A count that was written with a thousands mark is no number here: then it is many. */
function form(forms: string, n: number, language: string): string {
    const table = new Map(forms.split('|').map((x) => [x.slice(0, x.indexOf(':')), x.slice(x.indexOf(':') + 1)]));
    return table.get(Number.isNaN(n) ? 'other' : new Intl.PluralRules(language).select(n)) ?? table.get('other') ?? '';
}

export const number = (value: number, digits = 0): string =>
    new Intl.NumberFormat(words.language, { maximumFractionDigits: digits }).format(value);

export function bytes(value: number): string {
    const units = ['B', 'kB', 'MB', 'GB', 'TB'];
    let at = 0;
    while (value >= 1000 && at < units.length - 1) {
        value /= 1000;
        at++;
    }
    return `${number(value, value < 10 && at > 0 ? 1 : 0)} ${units[at]}`;
}

/* `digits`: of seconds, as long as there are less than ten. */
export function duration(ms: number, digits = 0): string {
    if (digits > 0 && ms < 9950) return t('time.seconds', { n: number(Math.max(0, ms) / 1000, digits) });
    const s = Math.max(0, Math.round(ms / 1000));
    if (s < 60) return t('time.seconds', { n: s });
    if (s < 3600) return t('time.minutes', { m: Math.floor(s / 60), s: s % 60 });
    return t('time.hours', { h: Math.floor(s / 3600), m: Math.floor((s % 3600) / 60) });
}

export const date = (ms: number): string =>
    new Intl.DateTimeFormat(words.language, { dateStyle: 'medium', timeStyle: 'short' }).format(ms);
export const day = (ms: number): string => new Intl.DateTimeFormat(words.language, { dateStyle: 'full' }).format(ms);
