// SPDX-License-Identifier: MIT
// Fills the store of a stopped server with many finished drawings, so that the gallery can be measured. One real drawing
// is the pattern, whatever columns the store has; ids, times, words and files are new. Needs the sqlite3 program.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { crc32 } from '../../web/dev/png.mjs';

const SIDE = 96;
const DISTINCT = 2000;
const DAYS = 60;
const adjectives = ['quiet', 'red', 'tiny', 'wooden', 'golden', 'misty', 'paper', 'blue', 'winter', 'glass', 'round', 'old'];
const nouns = ['harbour', 'owl', 'teapot', 'forest', 'lantern', 'bicycle', 'lighthouse', 'pear', 'valley', 'robot', 'castle', 'kite', 'fox'];
const styles = ['in oil', 'flat colours', 'pencil drawing', 'at dusk', 'seen from above'];

/* A disc on a ground of two colours: small, and no two are alike. */
function picture(n) {
    const hue = (k) => [0, 1, 2].map((c) => Math.round(127 + 110 * Math.sin(n * 0.7 + k * 2.1 + c * 2.09)));
    const [ground, low, disc] = [hue(0), hue(1), hue(2)];
    const cx = 20 + (n * 37) % 56;
    const cy = 20 + (n * 53) % 56;
    const r2 = (10 + n % 17) ** 2;
    const raw = Buffer.alloc(SIDE * (1 + 3 * SIDE));
    for (let y = 0; y < SIDE; y++) {
        for (let x = 0; x < SIDE; x++) {
            const rgb = (x - cx) ** 2 + (y - cy) ** 2 < r2 ? disc : y > 60 + 8 * Math.sin((x + n) / 13) ? low : ground;
            for (let c = 0; c < 3; c++) raw[y * (1 + 3 * SIDE) + 1 + 3 * x + c] = rgb[c];
        }
    }
    const chunk = (type, data) => {
        const b = Buffer.alloc(12 + data.length);
        b.writeUInt32BE(data.length, 0);
        b.write(type, 4, 'latin1');
        data.copy(b, 8);
        b.writeUInt32BE(crc32(b.subarray(4, 8 + data.length)), 8 + data.length);
        return b;
    };
    const head = Buffer.alloc(13);
    head.writeUInt32BE(SIDE, 0);
    head.writeUInt32BE(SIDE, 4);
    head[8] = 8;
    head[9] = 2;
    return Buffer.concat([Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]), chunk('IHDR', head), chunk('IDAT', deflateSync(raw)), chunk('IEND', Buffer.alloc(0))]);
}

/* `count` more drawings like the newest finished one of the store below `folder`. */
export function seed(folder, count) {
    const files = Array.from({ length: Math.min(count, DISTINCT) }, (_, n) => {
        const bytes = picture(n);
        const sha = createHash('sha256').update(bytes).digest('hex');
        const at = join(folder, 'blobs', sha.slice(0, 2));
        mkdirSync(at, { recursive: true });
        writeFileSync(join(at, sha), bytes);
        return [n, sha, bytes.length];
    });
    const list = (words) => `'${JSON.stringify(words)}'`;
    const pick = (words, by) => `json_extract(${list(words)}, '$[' || (${by} % ${words.length}) || ']')`;
    const words = `${pick(adjectives, 'n')} || ' ' || ${pick(nouns, '(n / 3)')} || ', ' || ${pick(styles, '(n / 7)')}`;
    const fresh = {
        id: `printf('%08x-%04x-7%03x-8%03x-%012x', n, n % 65536, n % 4096, n % 4096, n)`,
        key: 'NULL', seed: 'n', title: words, words, created_ms: 't', started_ms: 't + 40', finished_ms: 't + 900',
    };
    const run = (sql) => {
        const done = spawnSync('sqlite3', ['-bail', join(folder, 'jobs.db')], { input: sql, encoding: 'utf8', maxBuffer: 1 << 26 });
        if (done.status !== 0) throw new Error(`sqlite3: ${done.error ?? done.stderr}`);
        return done.stdout.trim().split('\n');
    };
    const columns = (table) => run(`SELECT name FROM pragma_table_info('${table}');`);
    const from = (table, own) => {
        const names = columns(table).filter((c) => !(table === 'job' && c === 'seq'));
        return [names.join(', '), names.map((c) => own[c] ?? `p.${c}`).join(', ')];
    };
    const [jobColumns, jobValues] = from('job', fresh);
    const [fileColumns, fileValues] = from('artifact', { job: 'j.seq', sha: 'f.sha', bytes: 'f.bytes', width: SIDE, height: SIDE });
    run(`PRAGMA foreign_keys = ON; BEGIN;
        CREATE TEMP TABLE f (n INTEGER PRIMARY KEY, sha TEXT, bytes INTEGER);
        INSERT INTO f VALUES ${files.map(([n, sha, size]) => `(${n},'${sha}',${size})`).join(',')};
        CREATE TEMP TABLE p AS SELECT * FROM job WHERE state = 2 AND kind = (SELECT kind FROM job ORDER BY seq LIMIT 1) ORDER BY seq DESC LIMIT 1;
        CREATE TEMP TABLE mark AS SELECT max(seq) AS seq FROM job;
        WITH s AS (SELECT value AS n, p.created_ms - ${DAYS * 86400000} + value * (${DAYS * 86400000} / ${count}) - 1000 AS t FROM generate_series(0, ${count - 1}), p)
        INSERT INTO job (${jobColumns}) SELECT ${jobValues} FROM s, p ORDER BY n;
        INSERT INTO artifact (${fileColumns}) SELECT ${fileValues} FROM job j JOIN f ON f.n = (j.seq - (SELECT seq FROM mark) - 1) % ${files.length}
            JOIN artifact p ON p.job = (SELECT seq FROM p) AND p.role = (SELECT min(role) FROM artifact WHERE job = (SELECT seq FROM p)) WHERE j.seq > (SELECT seq FROM mark);
        COMMIT; ANALYZE;`);
}
