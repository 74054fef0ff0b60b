// SPDX-License-Identifier: MIT
// Drawings that were asked for while the server was away. They are written down, survive a reload, and are sent when the
// user says so. Each keeps the key that it was first tried with: one that did arrive is not drawn a second time.
import { ApiError, newKey, submit } from './api';
import { load, save } from './store';
import type { Job, Values } from './types';

interface Kept {
    key: string;
    body: Values;
}
const MOST = 50;

class Outbox {
    list = $state.raw<Kept[]>(load<Kept[]>('outbox', []));

    private put(list: Kept[]): void {
        this.list = list.slice(-MOST);
        save('outbox', this.list);
    }

    /* The job, or null when the server is away: then the drawing is kept. The same one is kept once. */
    async draw(body: Values, away: boolean): Promise<Job | null> {
        const key = newKey();
        if (!away) {
            try {
                return await submit('draw', body, key);
            } catch (e) {
                if (!(e instanceof ApiError) || e.code !== 'away') throw e;
            }
        }
        const text = JSON.stringify(body);
        if (!this.list.some((x) => JSON.stringify(x.body) === text)) this.put([...this.list, { key, body }]);
        return null;
    }

    /* Sends what was kept, oldest first; what the server refuses is left out and thrown at the end. */
    async send(): Promise<Job[]> {
        const made: Job[] = [];
        let refused: unknown = null;
        for (const one of [...this.list]) {
            try {
                made.push(await submit('draw', one.body, one.key));
            } catch (e) {
                if (!(e instanceof ApiError) || e.code === 'away' || e.status === 401 || e.status === 429) throw e;
                refused = e;
            }
            this.put(this.list.filter((x) => x.key !== one.key));
        }
        if (refused) throw refused;
        return made;
    }

    forget(): void {
        this.put([]);
    }
}

export const outbox = new Outbox();
