// SPDX-License-Identifier: MIT
// Between pictures, canvases and masks: what the edit and grid screens need of the browser's drawing.
import { blob } from './api';
import type { Frame, Mask, Rect } from './mask';

export async function bitmap(source: Blob | string): Promise<ImageBitmap> {
    return createImageBitmap(typeof source === 'string' ? await blob(source) : source);
}

export function canvasOf(width: number, height: number): { canvas: HTMLCanvasElement; context: CanvasRenderingContext2D } {
    const canvas = document.createElement('canvas');
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext('2d', { willReadFrequently: true });
    if (!context) throw new Error('no 2d canvas');
    return { canvas, context };
}

export const pngOf = (canvas: HTMLCanvasElement): Promise<Blob> =>
    new Promise((resolve, reject) => canvas.toBlob((b) => (b ? resolve(b) : reject(new Error('no PNG'))), 'image/png'));

/* White where the mask is, black elsewhere: what the server's `mask` wants. */
export async function maskPng(mask: Mask): Promise<Blob> {
    const { canvas, context } = canvasOf(mask.width, mask.height);
    const image = context.createImageData(mask.width, mask.height);
    for (let i = 0; i < mask.data.length; i++) {
        const v = mask.data[i] as number;
        image.data[4 * i] = v;
        image.data[4 * i + 1] = v;
        image.data[4 * i + 2] = v;
        image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    return pngOf(canvas);
}

/* Paints a part of the mask as a tint of one colour. */
export function paintMask(context: CanvasRenderingContext2D, mask: Mask, rect: Rect, [r, g, b]: [number, number, number]): void {
    const image = context.createImageData(rect.w, rect.h);
    for (let y = 0; y < rect.h; y++) {
        for (let x = 0; x < rect.w; x++) {
            const at = 4 * (y * rect.w + x);
            image.data[at] = r;
            image.data[at + 1] = g;
            image.data[at + 2] = b;
            image.data[at + 3] = mask.data[(rect.y + y) * mask.width + rect.x + x] as number;
        }
    }
    context.putImageData(image, rect.x, rect.y);
}

/*
 * The picture in its larger frame. The new room is filled with the picture's own edges, stretched outwards and blurred:
 * colours that fit are a better start for the drawing than black.
 */
export function frameCanvas(picture: ImageBitmap, f: Frame): HTMLCanvasElement {
    const { width: w, height: h } = picture;
    const { canvas, context } = canvasOf(w + f.left + f.right, h + f.top + f.bottom);
    // What is drawn reaches beyond the canvas, so that the blur mixes no emptiness into its rim.
    const out = 48;
    context.filter = 'blur(12px)';
    context.drawImage(picture, 0, 0, w, h, -out, -out, canvas.width + 2 * out, canvas.height + 2 * out);
    const edge = 2;
    if (f.left > 0) context.drawImage(picture, 0, 0, edge, h, -out, f.top, out + f.left + 12, h);
    if (f.right > 0) context.drawImage(picture, w - edge, 0, edge, h, f.left + w - 12, f.top, f.right + 12 + out, h);
    if (f.top > 0) context.drawImage(picture, 0, 0, w, edge, f.left, -out, w, out + f.top + 12);
    if (f.bottom > 0) context.drawImage(picture, 0, h - edge, w, edge, f.left, f.top + h - 12, w, f.bottom + 12 + out);
    context.filter = 'none';
    context.drawImage(picture, f.left, f.top);
    return canvas;
}
