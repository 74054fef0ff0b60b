// SPDX-License-Identifier: MIT
// What the studio keeps in the browser: small values in localStorage, pictures and conversations in IndexedDB. A browser
// that refuses storage (private windows, full disk) still gets a working studio: values then live as long as the page,
// and `storageFailed` lets the page say so once.

const memory = new Map<string, string>();
let failed = false;
export const storageFailed = (): boolean => failed;

export function load<T>(key: string, fallback: T): T {
    let text: string | null = null;
    try {
        text = localStorage.getItem(`limn.${key}`);
    } catch {
        failed = true;
        text = memory.get(key) ?? null;
    }
    if (text === null) return fallback;
    try {
        return JSON.parse(text) as T;
    } catch {
        return fallback;
    }
}

export function save(key: string, value: unknown): void {
    const text = JSON.stringify(value);
    try {
        localStorage.setItem(`limn.${key}`, text);
    } catch {
        failed = true;
        memory.set(key, text);
    }
}

const waiting = new Map<string, { timer: ReturnType<typeof setTimeout>; write: () => void }>();

/* Saves a moment after the last change, and at once when the page is hidden or closed. */
export function saveSoon(key: string, read: () => unknown): void {
    const before = waiting.get(key);
    if (before) clearTimeout(before.timer);
    const write = (): void => {
        waiting.delete(key);
        save(key, read());
    };
    waiting.set(key, { timer: setTimeout(write, 250), write });
}

export function flush(): void {
    for (const { timer, write } of [...waiting.values()]) {
        clearTimeout(timer);
        write();
    }
}

if (typeof window !== 'undefined') {
    window.addEventListener('pagehide', flush);
    document.addEventListener('visibilitychange', () => {
        if (document.visibilityState === 'hidden') flush();
    });
}

export type Shelf = 'edit' | 'chats' | 'grids';
const shelves: Shelf[] = ['edit', 'chats', 'grids'];
let database: Promise<IDBDatabase> | null = null;

function open(): Promise<IDBDatabase> {
    database ??= new Promise((resolve, reject) => {
        const request = indexedDB.open('limn', 1);
        request.onupgradeneeded = () => {
            for (const shelf of shelves) {
                if (!request.result.objectStoreNames.contains(shelf)) request.result.createObjectStore(shelf);
            }
        };
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
    return database;
}

async function run<T>(shelf: Shelf, mode: IDBTransactionMode, act: (s: IDBObjectStore) => IDBRequest<T>): Promise<T> {
    const db = await open();
    return new Promise((resolve, reject) => {
        const request = act(db.transaction(shelf, mode).objectStore(shelf));
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
}

export const keep = (shelf: Shelf, key: string, value: unknown): Promise<unknown> =>
    run(shelf, 'readwrite', (s) => s.put(value, key));
export const fetchKept = <T>(shelf: Shelf, key: string): Promise<T | undefined> =>
    run<T | undefined>(shelf, 'readonly', (s) => s.get(key) as IDBRequest<T | undefined>);
export const fetchAllKept = <T>(shelf: Shelf): Promise<T[]> =>
    run<T[]>(shelf, 'readonly', (s) => s.getAll() as IDBRequest<T[]>);
export const forget = (shelf: Shelf, key: string): Promise<unknown> => run(shelf, 'readwrite', (s) => s.delete(key));
