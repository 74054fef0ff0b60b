// SPDX-License-Identifier: MIT
// Finds places in an answer: Qwen3-VL writes boxes and points as JSON objects with coordinates from 0 to 1000, and
// data-bbox attributes in document HTML. Works on unfinished text: whatever object is complete is taken.

export interface Place {
    kind: 'box' | 'point';
    /* 0..1 of the picture; a point has x2 === x1. */
    x1: number;
    y1: number;
    x2: number;
    y2: number;
    label: string;
    /* Which picture of the question, when the answer says so; from 0. */
    picture: number | null;
    /* Seconds into the clip, when it is about one. */
    time?: number;
}

/* What a task of the server has found, in pixels of the pictures it looked at (docs/TASKS.md). */
export interface Finding {
    label?: string;
    text?: string;
    score?: number;
    chosen?: boolean;
    picture?: number;
    box?: number[];
    point?: number[];
    start?: number;
    end?: number;
}
export interface Looked {
    page?: number;
    width: number;
    height: number;
}

export function placesOf(findings: readonly Finding[], looked: readonly Looked[]): (Place | null)[] {
    return findings.map((f) => {
        const size = looked[f.picture ?? 0];
        const numbers = f.box ?? f.point;
        if (!size || !numbers || (numbers.length !== 4 && numbers.length !== 2)) return null;
        const unit = numbers.map((v, i) => (1000 * v) / (i % 2 === 0 ? size.width : size.height));
        const one = place(unit, f.label ?? f.text ?? '', f.picture ?? null);
        return one && f.start !== undefined ? { ...one, time: f.start } : one;
    });
}

const object = /\{[^{}]*?"(bbox_2d|bbox|box_2d|point_2d|point)"\s*:\s*\[\s*(-?[\d.]+(?:\s*,\s*-?[\d.]+)*)\s*\][^{}]*\}/g;
const attribute = /data-bbox="(\d+)[ ,]+(\d+)[ ,]+(\d+)[ ,]+(\d+)"[^>]*>([^<]{0,80})/g;
const MAX = 500;

const clamp = (v: number): number => Math.max(0, Math.min(1, v / 1000));

function place(numbers: number[], label: string, picture: number | null): Place | null {
    if (numbers.some((n) => !Number.isFinite(n))) return null;
    const [a = 0, b = 0, c, d] = numbers;
    if (numbers.length === 2) return { kind: 'point', x1: clamp(a), y1: clamp(b), x2: clamp(a), y2: clamp(b), label, picture };
    if (numbers.length !== 4 || c === undefined || d === undefined) return null;
    const box = { x1: clamp(Math.min(a, c)), y1: clamp(Math.min(b, d)), x2: clamp(Math.max(a, c)), y2: clamp(Math.max(b, d)) };
    return box.x2 > box.x1 && box.y2 > box.y1 ? { kind: 'box', ...box, label, picture } : null;
}

export function places(text: string): Place[] {
    const found: Place[] = [];
    for (const m of text.matchAll(object)) {
        const numbers = (m[2] ?? '').split(',').map(Number);
        let record: Record<string, unknown> = {};
        try {
            record = JSON.parse(m[0]) as Record<string, unknown>;
        } catch {
            // Not strict JSON (a comma too many): the coordinates are good all the same.
        }
        const label = ['label', 'text_content', 'text', 'name', 'sub_label'].map((k) => record[k]).find((v) => typeof v === 'string');
        const image = record.image ?? record.image_index ?? record.picture;
        const one = place(numbers, String(label ?? ''), typeof image === 'number' ? Math.max(0, image - 1) : null);
        if (one) found.push(one);
        if (found.length >= MAX) return found;
    }
    for (const m of text.matchAll(attribute)) {
        const one = place([m[1], m[2], m[3], m[4]].map(Number), (m[5] ?? '').trim(), null);
        if (one) found.push(one);
        if (found.length >= MAX) break;
    }
    return found;
}
