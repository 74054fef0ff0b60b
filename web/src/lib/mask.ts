// SPDX-License-Identifier: MIT
// The mask of the edit screen: one byte per pixel, 255 where to draw anew. Pure arithmetic on an array, so that strokes,
// fills and undo are tested without a canvas. Every change is made between begin() and commit(); what it overwrites is
// kept in tiles, so an undo costs what the change has touched and not the whole picture.

export interface Rect {
    x: number;
    y: number;
    w: number;
    h: number;
}

interface Tile {
    index: number;
    before: Uint8Array;
    after: Uint8Array;
}

interface Step {
    tiles: Tile[];
    bytes: number;
}

const TILE = 64;
const HISTORY_BYTES = 96 << 20;

export class Mask {
    readonly data: Uint8Array;
    private readonly across: number;
    private readonly done: Step[] = [];
    private undone: Step[] = [];
    private open: Map<number, Uint8Array> | null = null;
    private held = 0;
    private dirty: Rect | null = null;

    constructor(readonly width: number, readonly height: number, data?: Uint8Array) {
        if (!Number.isInteger(width) || !Number.isInteger(height) || width < 1 || height < 1) throw new RangeError('mask size');
        if (data && data.length !== width * height) throw new RangeError('mask data');
        this.data = data ?? new Uint8Array(width * height);
        this.across = Math.ceil(width / TILE);
    }

    get canUndo(): boolean {
        return this.done.length > 0;
    }

    get canRedo(): boolean {
        return this.undone.length > 0;
    }

    /* The part that changed since the last call, for the page to paint; null when nothing did. */
    takeDirty(): Rect | null {
        const rect = this.dirty;
        this.dirty = null;
        return rect;
    }

    begin(): void {
        if (this.open) throw new Error('a change is open');
        this.open = new Map();
    }

    /* Ends a change. False when it left everything as it was; such a change is not remembered. */
    commit(): boolean {
        if (!this.open) throw new Error('no change is open');
        const tiles: Tile[] = [];
        for (const [index, before] of this.open) {
            const after = this.copyTile(index);
            if (after.some((v, i) => v !== before[i])) tiles.push({ index, before, after });
        }
        this.open = null;
        if (tiles.length === 0) return false;
        const bytes = tiles.reduce((sum, tile) => sum + 2 * tile.before.length, 0);
        this.done.push({ tiles, bytes });
        this.held += bytes - this.undone.reduce((sum, step) => sum + step.bytes, 0);
        this.undone = [];
        while (this.held > HISTORY_BYTES && this.done.length > 1) this.held -= this.done.shift()?.bytes ?? 0;
        return true;
    }

    undo(): boolean {
        const step = this.done.pop();
        if (!step) return false;
        for (const tile of step.tiles) this.putTile(tile.index, tile.before);
        this.undone.push(step);
        return true;
    }

    redo(): boolean {
        const step = this.undone.pop();
        if (!step) return false;
        for (const tile of step.tiles) this.putTile(tile.index, tile.after);
        this.done.push(step);
        return true;
    }

    /*
     * One piece of a stroke, from a circle to a circle (pressure changes the radius on the way). `hard` 1 has a sharp
     * edge, 0 falls off from the middle. Painting keeps the larger value and erasing the smaller, so going over a place
     * twice within a stroke changes nothing.
     */
    stroke(x0: number, y0: number, r0: number, x1: number, y1: number, r1: number, hard = 1, erase = false): void {
        const reach = Math.max(r0, r1) + 1;
        const rect = this.touch(Math.min(x0, x1) - reach, Math.min(y0, y1) - reach, Math.max(x0, x1) + reach, Math.max(y0, y1) + reach);
        if (!rect) return;
        const dx = x1 - x0;
        const dy = y1 - y0;
        const length = dx * dx + dy * dy;
        for (let y = rect.y; y < rect.y + rect.h; y++) {
            for (let x = rect.x; x < rect.x + rect.w; x++) {
                const px = x + 0.5 - x0;
                const py = y + 0.5 - y0;
                const along = length > 0 ? Math.max(0, Math.min(1, (px * dx + py * dy) / length)) : 0;
                const distance = Math.hypot(px - along * dx, py - along * dy);
                const radius = r0 + (r1 - r0) * along;
                const soft = Math.max(1, radius * (1 - hard));
                const cover = Math.max(0, Math.min(1, (radius + 0.5 - distance) / soft));
                if (cover <= 0) continue;
                const at = y * this.width + x;
                const now = this.data[at] as number;
                const next = Math.round(255 * cover);
                this.data[at] = erase ? Math.min(now, 255 - next) : Math.max(now, next);
            }
        }
    }

    /* Fills a closed outline (even-odd). Points are x, y pairs. */
    polygon(points: readonly { x: number; y: number }[], erase = false): void {
        if (points.length < 3) return;
        const rect = this.touch(Math.min(...points.map((p) => p.x)), Math.min(...points.map((p) => p.y)), Math.max(...points.map((p) => p.x)), Math.max(...points.map((p) => p.y)));
        if (!rect) return;
        for (let y = rect.y; y < rect.y + rect.h; y++) {
            const crossings: number[] = [];
            const cy = y + 0.5;
            for (let i = 0; i < points.length; i++) {
                const a = points[i] as { x: number; y: number };
                const b = points[(i + 1) % points.length] as { x: number; y: number };
                if ((a.y <= cy) !== (b.y <= cy)) crossings.push(a.x + ((cy - a.y) / (b.y - a.y)) * (b.x - a.x));
            }
            crossings.sort((p, q) => p - q);
            for (let k = 0; k + 1 < crossings.length; k += 2) {
                const from = Math.max(0, Math.ceil((crossings[k] as number) - 0.5));
                const to = Math.min(this.width, Math.ceil((crossings[k + 1] as number) - 0.5));
                if (to > from) this.data.fill(erase ? 0 : 255, y * this.width + from, y * this.width + to);
            }
        }
    }

    rect(x0: number, y0: number, x1: number, y1: number, erase = false): void {
        const rect = this.touch(x0, y0, x1 - 1, y1 - 1);
        if (!rect) return;
        for (let y = rect.y; y < rect.y + rect.h; y++) this.data.fill(erase ? 0 : 255, y * this.width + rect.x, y * this.width + rect.x + rect.w);
    }

    /*
     * Fills the area around a point whose colours are near to the point's own: `pixels` is RGBA of the mask's size,
     * `tolerance` the largest difference of a channel. Spans of a line at a time, no recursion.
     */
    flood(x: number, y: number, pixels: Uint8ClampedArray, tolerance: number, erase = false): void {
        const { width, height } = this;
        x = Math.floor(x);
        y = Math.floor(y);
        if (x < 0 || y < 0 || x >= width || y >= height || pixels.length !== 4 * width * height) return;
        this.touch(0, 0, width, height);
        const seed = 4 * (y * width + x);
        const seen = new Uint8Array(width * height);
        const near = (at: number): boolean => {
            if (seen[at]) return false;
            for (let c = 0; c < 4; c++) if (Math.abs((pixels[4 * at + c] as number) - (pixels[seed + c] as number)) > tolerance) return false;
            return true;
        };
        const value = erase ? 0 : 255;
        const todo = [y * width + x];
        while (todo.length > 0) {
            const at = todo.pop() as number;
            if (!near(at)) continue;
            const row = at - (at % width);
            let from = at;
            let to = at;
            while (from > row && near(from - 1)) from--;
            while (to < row + width - 1 && near(to + 1)) to++;
            let above = false;
            let below = false;
            for (let i = from; i <= to; i++) {
                seen[i] = 1;
                this.data[i] = value;
                const up = i >= width && near(i - width);
                if (up && !above) todo.push(i - width);
                above = up;
                const down = i + width < width * height && near(i + width);
                if (down && !below) todo.push(i + width);
                below = down;
            }
        }
    }

    fill(value: 0 | 255): void {
        this.touch(0, 0, this.width, this.height);
        this.data.fill(value);
    }

    invert(): void {
        this.touch(0, 0, this.width, this.height);
        for (let i = 0; i < this.data.length; i++) this.data[i] = 255 - (this.data[i] as number);
    }

    /* Softens edges: three box blurs, which together are close to a Gaussian of this radius. */
    feather(radius: number): void {
        const r = Math.max(0, Math.round(radius));
        if (r === 0) return;
        this.touch(0, 0, this.width, this.height);
        const other = new Uint8Array(this.data.length);
        for (let pass = 0; pass < 3; pass++) {
            blur(this.data, other, this.width, this.height, r, 1, this.width);
            blur(other, this.data, this.height, this.width, r, this.width, 1);
        }
    }

    isEmpty(): boolean {
        return !this.data.some((v) => v > 0);
    }

    /* The smallest rectangle with everything that is not 0. */
    bounds(): Rect | null {
        let x0 = this.width;
        let y0 = this.height;
        let x1 = -1;
        let y1 = -1;
        for (let y = 0; y < this.height; y++) {
            for (let x = 0; x < this.width; x++) {
                if (this.data[y * this.width + x] === 0) continue;
                x0 = Math.min(x0, x);
                x1 = Math.max(x1, x);
                y0 = Math.min(y0, y);
                y1 = y;
            }
        }
        return x1 < 0 ? null : { x: x0, y: y0, w: x1 - x0 + 1, h: y1 - y0 + 1 };
    }

    /* The mask in a larger or smaller frame, moved by dx, dy; new parts get `outside`. A new mask without history. */
    reframe(width: number, height: number, dx: number, dy: number, outside: number): Mask {
        const next = new Mask(width, height);
        next.data.fill(outside);
        for (let y = Math.max(0, -dy); y < Math.min(this.height, height - dy); y++) {
            const from = Math.max(0, -dx);
            const to = Math.min(this.width, width - dx);
            if (to > from) next.data.set(this.data.subarray(y * this.width + from, y * this.width + to), (y + dy) * width + from + dx);
        }
        return next;
    }

    /* Keeps what lies below a rectangle before it is overwritten. Returns the rectangle in whole pixels, null outside. */
    private touch(x0: number, y0: number, x1: number, y1: number): Rect | null {
        if (!this.open) throw new Error('no change is open');
        const x = Math.max(0, Math.floor(x0));
        const y = Math.max(0, Math.floor(y0));
        const w = Math.min(this.width, Math.floor(x1) + 1) - x;
        const h = Math.min(this.height, Math.floor(y1) + 1) - y;
        if (!(w > 0 && h > 0)) return null;
        for (let ty = Math.floor(y / TILE); ty * TILE < y + h; ty++) {
            for (let tx = Math.floor(x / TILE); tx * TILE < x + w; tx++) {
                const index = ty * this.across + tx;
                if (!this.open.has(index)) this.open.set(index, this.copyTile(index));
            }
        }
        this.spread(x, y, w, h);
        return { x, y, w, h };
    }

    private spread(x: number, y: number, w: number, h: number): void {
        const d = this.dirty;
        if (!d) {
            this.dirty = { x, y, w, h };
            return;
        }
        const x1 = Math.max(d.x + d.w, x + w);
        const y1 = Math.max(d.y + d.h, y + h);
        this.dirty = { x: Math.min(d.x, x), y: Math.min(d.y, y), w: 0, h: 0 };
        this.dirty.w = x1 - this.dirty.x;
        this.dirty.h = y1 - this.dirty.y;
    }

    private tileRect(index: number): Rect {
        const x = (index % this.across) * TILE;
        const y = Math.floor(index / this.across) * TILE;
        return { x, y, w: Math.min(TILE, this.width - x), h: Math.min(TILE, this.height - y) };
    }

    private copyTile(index: number): Uint8Array {
        const { x, y, w, h } = this.tileRect(index);
        const copy = new Uint8Array(w * h);
        for (let row = 0; row < h; row++) copy.set(this.data.subarray((y + row) * this.width + x, (y + row) * this.width + x + w), row * w);
        return copy;
    }

    private putTile(index: number, tile: Uint8Array): void {
        const { x, y, w, h } = this.tileRect(index);
        for (let row = 0; row < h; row++) this.data.set(tile.subarray(row * w, (row + 1) * w), (y + row) * this.width + x);
        this.spread(x, y, w, h);
    }
}

/* Box blur along one direction; pixels outside repeat the edge. */
function blur(from: Uint8Array, to: Uint8Array, length: number, lines: number, r: number, step: number, stride: number): void {
    const size = 2 * r + 1;
    for (let line = 0; line < lines; line++) {
        const base = line * stride;
        const first = from[base] as number;
        const last = from[base + (length - 1) * step] as number;
        let sum = first * r;
        for (let i = 0; i <= r; i++) sum += from[base + Math.min(i, length - 1) * step] as number;
        for (let i = 0; i < length; i++) {
            to[base + i * step] = Math.round(sum / size);
            const enter = i + r + 1 < length ? (from[base + (i + r + 1) * step] as number) : last;
            const leave = i - r >= 0 ? (from[base + (i - r) * step] as number) : first;
            sum += enter - leave;
        }
    }
}

/* Where new area of a frame begins: how far it reaches beyond a picture on each side, in pixels. */
export interface Frame {
    left: number;
    top: number;
    right: number;
    bottom: number;
}

export const noFrame: Frame = { left: 0, top: 0, right: 0, bottom: 0 };
export const hasFrame = (f: Frame): boolean => f.left + f.top + f.right + f.bottom > 0;

/* The frame whose whole size is a multiple of 8, by widening right and bottom. */
export function snapFrame(f: Frame, width: number, height: number): Frame {
    const up = (v: number): number => Math.ceil(v / 8) * 8;
    const x = Math.round(Math.max(0, f.left));
    const y = Math.round(Math.max(0, f.top));
    const r = Math.round(Math.max(0, f.right));
    const b = Math.round(Math.max(0, f.bottom));
    return { left: x, top: y, right: r + up(width + x + r) - (width + x + r), bottom: b + up(height + y + b) - (height + y + b) };
}

/*
 * The mask of an outpainting: everything beyond the picture, and a seam of `seam` pixels of the picture itself that is
 * drawn anew along each side that grows, so that old and new meet softly. The user's own mask stays.
 */
export function outpaintMask(mask: Mask, f: Frame, seam: number): Mask {
    const next = mask.reframe(mask.width + f.left + f.right, mask.height + f.top + f.bottom, f.left, f.top, 255);
    const inside: [number, number, number, number][] = [];
    if (f.left > 0) inside.push([f.left, f.top, f.left + seam, f.top + mask.height]);
    if (f.right > 0) inside.push([f.left + mask.width - seam, f.top, f.left + mask.width, f.top + mask.height]);
    if (f.top > 0) inside.push([f.left, f.top, f.left + mask.width, f.top + seam]);
    if (f.bottom > 0) inside.push([f.left, f.top + mask.height - seam, f.left + mask.width, f.top + mask.height]);
    next.begin();
    for (const [x0, y0, x1, y1] of inside) next.rect(x0, y0, x1, y1);
    next.commit();
    return next;
}
