// SPDX-License-Identifier: MIT
// The arithmetic of a long list of pictures in rows below day headings: which rows exist, where they lie, which of them
// are in view. Twenty thousand pictures are a few thousand small rows here and about thirty elements in the page.

export interface Row {
    /* First and one past the last item; from === to for a heading. */
    from: number;
    to: number;
    heading: boolean;
    top: number;
    height: number;
}

/* Times come newest first; a heading stands where the day changes. */
export function layout(times: readonly number[], columns: number, cell: number, headingHeight: number): Row[] {
    const rows: Row[] = [];
    let top = 0;
    for (let i = 0; i < times.length;) {
        rows.push({ from: i, to: i, heading: true, top, height: headingHeight });
        top += headingHeight;
        // The ends of the day are asked of the calendar once, not for every picture.
        const day = new Date(times[i] as number).setHours(0, 0, 0, 0);
        let end = i + 1;
        while (end < times.length && (times[end] as number) >= day) end++;
        for (; i < end; i = Math.min(end, i + columns)) {
            rows.push({ from: i, to: Math.min(end, i + columns), heading: false, top, height: cell });
            top += cell;
        }
    }
    return rows;
}

export const heightOf = (rows: Row[]): number => {
    const last = rows.at(-1);
    return last ? last.top + last.height : 0;
};

/* Index of the first row whose end is below y. */
export function rowAt(rows: Row[], y: number): number {
    let low = 0;
    let high = rows.length;
    while (low < high) {
        const mid = (low + high) >> 1;
        const row = rows[mid] as Row;
        if (row.top + row.height <= y) low = mid + 1;
        else high = mid;
    }
    return low;
}

export function inView(rows: Row[], top: number, height: number, margin: number): Row[] {
    return rows.slice(rowAt(rows, top - margin), rowAt(rows, top + height + margin) + 1);
}

const term = /\w+:"[^"]*"|"[^"]*"|\S+/g;

/* The value of a filter in a search text, or ''. */
export function filterOf(text: string, name: string): string {
    const found = (text.match(term) ?? []).find((w) => w.startsWith(`${name}:`));
    return found ? found.slice(name.length + 1).replaceAll('"', '') : '';
}

/* The search text with one filter set to a value, or without it. */
export function withFilter(text: string, name: string, value: string): string {
    const rest = (text.match(term) ?? []).filter((w) => !w.startsWith(`${name}:`));
    const clean = value.replaceAll('"', '').trim();
    return [...rest, ...(clean ? [`${name}:${/\s/.test(clean) ? `"${clean}"` : clean}`] : [])].join(' ');
}

/* "seed:42 model:x owl in snow" as the server's filters. Dates are days in the user's own time. */
export function parseSearch(text: string): URLSearchParams {
    const filters = new URLSearchParams();
    const words: string[] = [];
    for (const word of text.match(term) ?? []) {
        const m = /^(seed|model|tag|from|to|kind):"?([^"]+)"?$/.exec(word);
        if (!m) {
            words.push(word.replaceAll('"', ''));
            continue;
        }
        const [, name = '', value = ''] = m;
        if (name === 'from' || name === 'to') {
            const day = /^(\d{4})-(\d{1,2})-(\d{1,2})$/.exec(value);
            if (!day) {
                words.push(word);
                continue;
            }
            const ms = new Date(Number(day[1]), Number(day[2]) - 1, Number(day[3]) + (name === 'to' ? 1 : 0)).getTime();
            filters.set(name, String(name === 'to' ? ms - 1 : ms));
        } else if (name === 'tag') {
            filters.append(name, value);
        } else {
            filters.set(name, value);
        }
    }
    if (words.length > 0) filters.set('q', words.join(' '));
    return filters;
}
