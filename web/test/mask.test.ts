// SPDX-License-Identifier: MIT
import { describe, expect, it } from 'vitest';
import { Mask, outpaintMask, snapFrame } from '../src/lib/mask';

const make = (w: number, h: number, act?: (m: Mask) => void): Mask => {
    const mask = new Mask(w, h);
    if (act) {
        mask.begin();
        act(mask);
        mask.commit();
    }
    return mask;
};
const at = (m: Mask, x: number, y: number): number => m.data[y * m.width + x] as number;
const same = (a: Uint8Array, b: Uint8Array | undefined): boolean => b !== undefined && a.length === b.length && a.every((v, i) => v === b[i]);
const area = (m: Mask): number => m.data.reduce((sum, v) => sum + v, 0) / 255;

describe('strokes', () => {
    it('cover the area of a capsule', () => {
        const m = make(300, 200, (x) => x.stroke(60, 100, 30, 240, 100, 30));
        expect(area(m) / (180 * 60 + Math.PI * 900)).toBeCloseTo(1, 1);
        expect(at(m, 60, 100)).toBe(255);
        expect(at(m, 60, 135)).toBe(0);
    });
    it('follow pressure', () => {
        const m = make(300, 100, (x) => x.stroke(50, 50, 4, 250, 50, 30));
        expect(at(m, 55, 60)).toBe(0);
        expect(at(m, 240, 70)).toBe(255);
    });
    it('do not add up', () => {
        const once = make(100, 100, (x) => x.stroke(50, 50, 30, 50, 50, 30, 0.2));
        const twice = make(100, 100, (x) => { x.stroke(50, 50, 30, 50, 50, 30, 0.2); x.stroke(50, 50, 30, 50, 50, 30, 0.2); });
        expect(same(twice.data, once.data)).toBe(true);
    });
    it('erase what they cover and nothing else', () => {
        const m = make(100, 100, (x) => x.fill(255));
        m.begin();
        m.stroke(50, 50, 20, 50, 50, 20, 1, true);
        m.commit();
        expect(at(m, 50, 50)).toBe(0);
        expect(at(m, 5, 5)).toBe(255);
    });
    it('are clipped at the edges and outside', () => {
        const m = make(64, 64, (x) => { x.stroke(-500, -500, 10, -400, -400, 10); x.stroke(0, 0, 10, 63, 63, 10); });
        expect(at(m, 0, 0)).toBe(255);
        expect(at(m, 63, 63)).toBe(255);
    });
});

describe('fills', () => {
    it('fill an outline by even-odd', () => {
        const m = make(100, 100, (x) => x.polygon([{ x: 10, y: 10 }, { x: 90, y: 10 }, { x: 90, y: 90 }, { x: 10, y: 90 }]));
        expect(area(m)).toBe(6400);
        expect(at(m, 9, 50)).toBe(0);
        expect(at(m, 10, 10)).toBe(255);
    });
    it('flood only near colours that hang together', () => {
        const w = 60, h = 40;
        const pixels = new Uint8ClampedArray(4 * w * h).fill(200);
        for (let y = 0; y < h; y++) pixels.fill(20, 4 * (y * w + 30), 4 * (y * w + 31));
        const m = make(w, h, (x) => x.flood(5, 5, pixels, 10));
        expect(area(m)).toBe(30 * h);
        expect(at(m, 29, 0)).toBe(255);
        expect(at(m, 30, 0)).toBe(0);
        expect(at(m, 59, 39)).toBe(0);
        m.begin();
        m.flood(-1, 5, pixels, 10);
        expect(m.commit()).toBe(false);
    });
    it('flood a maze whole', () => {
        const w = 101, h = 101;
        const pixels = new Uint8ClampedArray(4 * w * h).fill(255);
        for (let y = 1; y < h; y += 2) for (let x = 0; x < w; x++) if (x !== (y % 4 === 1 ? 0 : w - 1)) pixels.fill(0, 4 * (y * w + x), 4 * (y * w + x + 1));
        const m = make(w, h, (x) => x.flood(50, 0, pixels, 3));
        expect(at(m, 50, 100)).toBe(255);
        expect(area(m)).toBe(51 * w + 50);
    });
    it('invert twice is the same', () => {
        const m = make(70, 50, (x) => x.stroke(30, 20, 12, 40, 30, 5, 0.5));
        const before = m.data.slice();
        for (let i = 0; i < 2; i++) {
            m.begin();
            m.invert();
            m.commit();
        }
        expect(same(m.data, before)).toBe(true);
    });
    it('feather keeps the weight and softens the edge', () => {
        const m = make(200, 200, (x) => x.rect(60, 60, 140, 140));
        const before = area(m);
        m.begin();
        m.feather(6);
        m.commit();
        expect(Math.abs(area(m) / before - 1)).toBeLessThan(0.01);
        expect(at(m, 100, 100)).toBe(255);
        expect(at(m, 60, 100)).toBeGreaterThan(90);
        expect(at(m, 60, 100)).toBeLessThan(165);
        expect(at(m, 20, 20)).toBe(0);
    });
});

describe('history', () => {
    it('undoes and redoes every kind of change to the byte', () => {
        let seed = 7;
        const random = (n: number): number => (seed = (seed * 48271) % 2147483647) % n;
        const m = new Mask(230, 170);
        const states = [m.data.slice()];
        const pixels = new Uint8ClampedArray(4 * 230 * 170).map(() => random(3) * 90);
        for (let i = 0; i < 40; i++) {
            m.begin();
            const kind = random(7);
            if (kind < 3) m.stroke(random(260) - 15, random(200) - 15, 2 + random(25), random(260) - 15, random(200) - 15, 2 + random(25), random(10) / 10, kind === 2);
            else if (kind === 3) m.polygon(Array.from({ length: 5 }, () => ({ x: random(230), y: random(170) })));
            else if (kind === 4) m.invert();
            else if (kind === 5) m.feather(1 + random(5));
            else m.flood(random(230), random(170), pixels, 20);
            if (m.commit()) states.push(m.data.slice());
        }
        expect(states.length).toBeGreaterThan(30);
        for (let i = states.length - 2; i >= 0; i--) {
            expect(m.undo()).toBe(true);
            expect(same(m.data, states[i])).toBe(true);
        }
        expect(m.undo()).toBe(false);
        for (let i = 1; i < states.length; i++) {
            expect(m.redo()).toBe(true);
            expect(same(m.data, states[i])).toBe(true);
        }
        expect(m.redo()).toBe(false);
    });
    it('forgets what was undone when something new is done', () => {
        const m = make(80, 80, (x) => x.rect(0, 0, 40, 40));
        m.undo();
        m.begin();
        m.rect(50, 50, 60, 60);
        m.commit();
        expect(m.canRedo).toBe(false);
        expect(m.bounds()).toEqual({ x: 50, y: 50, w: 10, h: 10 });
    });
    it('does not remember a change that changed nothing', () => {
        const m = make(80, 80);
        m.begin();
        m.rect(5, 5, 5, 5);
        m.fill(0);
        expect(m.commit()).toBe(false);
        expect(m.canUndo).toBe(false);
        expect(m.isEmpty()).toBe(true);
    });
    it('says what to paint anew', () => {
        const m = make(200, 200, (x) => x.rect(10, 20, 30, 40));
        expect(m.takeDirty()).toEqual({ x: 10, y: 20, w: 20, h: 20 });
        expect(m.takeDirty()).toBeNull();
        m.undo();
        expect(m.takeDirty()).toEqual({ x: 0, y: 0, w: 64, h: 64 });
    });
    it('takes no change outside of begin and commit', () => {
        expect(() => new Mask(4, 4).fill(255)).toThrow();
        expect(() => new Mask(0, 4)).toThrow();
    });
});

describe('frames', () => {
    it('have a size that is a multiple of 8', () => {
        const f = snapFrame({ left: 13, top: 0, right: 3, bottom: 7 }, 500, 333);
        expect((500 + f.left + f.right) % 8).toBe(0);
        expect((333 + f.top + f.bottom) % 8).toBe(0);
        expect(f.left).toBe(13);
    });
    it('mask what is new and a seam, and keep the user\'s mask', () => {
        const m = make(64, 64, (x) => x.rect(30, 30, 34, 34));
        const out = outpaintMask(m, { left: 0, top: 0, right: 32, bottom: 0 }, 8);
        expect(out.width).toBe(96);
        expect(at(out, 80, 10)).toBe(255);
        expect(at(out, 57, 10)).toBe(255);
        expect(at(out, 55, 10)).toBe(0);
        expect(at(out, 31, 31)).toBe(255);
        expect(area(out)).toBe((32 + 8) * 64 + 16);
    });
});
