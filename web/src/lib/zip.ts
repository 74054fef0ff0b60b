// SPDX-License-Identifier: MIT
// Writes a ZIP archive in the browser. Pictures are compressed already, so entries are stored as they are; the archive is
// made of the pictures' own blobs and is not held in memory a second time.

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
    return c;
});

export function crc32(bytes: Uint8Array): number {
    let c = 0xffffffff;
    for (const b of bytes) c = (crcTable[(c ^ b) & 255] as number) ^ (c >>> 8);
    return (c ^ 0xffffffff) >>> 0;
}

export interface Entry {
    name: string;
    data: Blob;
    time: number;
}

const MAX_BYTES = 0xffffffff;
const MAX_ENTRIES = 0xffff;
const UTF8_NAMES = 0x0800;

function dosTime(ms: number): [number, number] {
    const d = new Date(ms);
    const year = Math.max(1980, Math.min(2107, d.getFullYear()));
    return [(d.getHours() << 11) | (d.getMinutes() << 5) | (d.getSeconds() >> 1),
        ((year - 1980) << 9) | ((d.getMonth() + 1) << 5) | d.getDate()];
}

/* Names must be unique; the second of two equal names gets a number. */
function unique(name: string, taken: Set<string>): string {
    let free = name;
    for (let n = 2; taken.has(free); n++) free = name.replace(/(\.\w+)?$/, (end) => `-${n}${end}`);
    taken.add(free);
    return free;
}

export async function zip(entries: Iterable<Entry> | AsyncIterable<Entry>): Promise<Blob> {
    const parts: BlobPart[] = [];
    const central: BlobPart[] = [];
    const taken = new Set<string>();
    const encoder = new TextEncoder();
    let at = 0;
    let count = 0;
    let centralSize = 0;
    for await (const { name, data, time } of entries) {
        const bytes = encoder.encode(unique(name, taken));
        const [clock, day] = dosTime(time);
        const crc = crc32(new Uint8Array(await data.arrayBuffer()));
        if (++count > MAX_ENTRIES || at + data.size > MAX_BYTES) throw new RangeError('the archive would be larger than 4 GB');
        const fields = (view: DataView, from: number): void => {
            view.setUint16(from, 20, true);
            view.setUint16(from + 2, UTF8_NAMES, true);
            view.setUint16(from + 6, clock, true);
            view.setUint16(from + 8, day, true);
            view.setUint32(from + 10, crc, true);
            view.setUint32(from + 14, data.size, true);
            view.setUint32(from + 18, data.size, true);
            view.setUint16(from + 22, bytes.length, true);
        };
        const local = new DataView(new ArrayBuffer(30));
        local.setUint32(0, 0x04034b50, true);
        fields(local, 4);
        const row = new DataView(new ArrayBuffer(46));
        row.setUint32(0, 0x02014b50, true);
        row.setUint16(4, 20, true);
        fields(row, 6);
        row.setUint32(42, at, true);
        parts.push(local.buffer, bytes, data);
        central.push(row.buffer, bytes);
        at += 30 + bytes.length + data.size;
        centralSize += 46 + bytes.length;
    }
    const end = new DataView(new ArrayBuffer(22));
    end.setUint32(0, 0x06054b50, true);
    end.setUint16(8, count, true);
    end.setUint16(10, count, true);
    end.setUint32(12, centralSize, true);
    end.setUint32(16, at, true);
    return new Blob([...parts, ...central, end.buffer], { type: 'application/zip' });
}

/* Offers a blob as a file. */
export function offer(blob: Blob, name: string): void {
    const url = URL.createObjectURL(blob);
    const link = document.createElement('a');
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
