// SPDX-License-Identifier: MIT
// Hours of mixed work on the stub engine, and whether anything grows: memory, descriptors, threads,
// the database, the folder of pictures. One line every 30 seconds, a verdict at the end (exit code 1
// when something grew). Node 18 or newer, no packages.
//     LIMN=build/limn node bench/soak.mjs [--hours 2] [--rate 4] [--log FILE]
import { Server, png, sleep, follow } from '../tests/server/harness.mjs';
import { readFileSync, readdirSync, statSync, appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import net from 'node:net';

const option = (name, other) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? other : process.argv[at + 1];
};
const HOURS = Number(option('hours', 2)), RATE = Number(option('rate', 4)), LOG = option('log', '');
const SAMPLE_MS = 30000, STREAMS = 8, HISTORY = 500;
const count = { jobs: 0, looks: 0, refused: 0, errors: 0, broken: 0, events: 0, restarts: 0 };
const say = (line) => {
  console.log(line);
  if (LOG) appendFileSync(LOG, `${line}\n`);
};

let turn = 1;
const random = (n) => (turn = (Math.imul(turn, 1103515245) + 12345) >>> 0) % n;
const draw = (more = {}) => ({ prompt: `fox ${random(1000)}`, width: 64, height: 64, steps: 1 + random(6), seed: random(1e9), ...more });

// ---- what clients do; each is one turn ----
const turns = [
  async (s) => s.post('/v1/draw', draw({ job: { tags: [`t${random(5)}`], preview_every: 1 } })),
  async (s) => s.post('/v1/draw?wait=30', draw({ count: 1 + random(3) })),
  async (s) => s.post('/v1/see?wait=30', { prompt: `what is ${random(1000)}` }),
  async (s) => s.post('/sdapi/v1/txt2img', { prompt: `cat ${random(1000)}`, steps: 3, width: 64, height: 64 }),
  async (s) => { // a chat as a stream
    const r = await s.fetch('/v1/chat/completions', { method: 'POST', headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ model: 'stub', stream: true, messages: [{ role: 'user', content: `hello ${random(1000)}` }] }) });
    await r.text();
    return { status: r.status };
  },
  async (s) => { // an upload, and an edit of it
    const up = await s.call('POST', '/v1/uploads', png(32 + random(32), 32), { 'Content-Type': 'image/png' });
    if (up.status !== 201) return up;
    return s.post('/v1/edit?wait=30', { ...draw(), init_image: `artifact:${up.json.artifact.id}`, strength: 0.5 });
  },
  async (s) => { // a client that leaves before the answer
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 5 + random(60));
    await s.fetch('/v1/draw?wait=30', { method: 'POST', signal: stop.signal, headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ ...draw({ steps: 40 }), job: { keep: false } }) }).then((r) => r.text()).catch(() => '');
    return { status: 202 };
  },
  async (s) => { // made, followed, cancelled
    const r = await s.post('/v1/draw', draw({ steps: 60, job: { preview_every: 2 } }));
    if (r.status !== 202) return r;
    const f = follow(s, `/v1/jobs/${r.json.job.id}/events`);
    await sleep(20 + random(50));
    await s.post(`/v1/jobs/${r.json.job.id}/cancel`, {});
    await Promise.race([f.closed, sleep(5000)]);
    f.close();
    count.events += f.events.length;
    return r;
  },
  async (s) => s.post('/v1/grid', { params: draw({ steps: 2 }), axes: [{ parameter: 'steps', values: [1, 2] }] }),
];

const looks = [
  (s) => s.get(`/v1/jobs?limit=50&q=fox&tag=t${random(5)}`),
  (s) => s.get('/v1/jobs?state=succeeded&kind=draw&limit=20'),
  (s) => s.get('/v1/system'),
  (s) => s.get('/metrics'),
  (s) => s.get('/v1/models'),
  (s) => s.get('/sdapi/v1/progress'),
  (s) => s.get('/v1/openapi.json'),
  (s) => s.get('/v1/jobs/00000000-0000-7000-8000-000000000000'),
  (s) => s.post('/v1/draw', { prompt: 'a', steps: -1 }),
  (s) => s.post('/v1/draw', '{"prompt":'),
  async (s) => { // files of the newest pictures
    const r = await s.get('/v1/jobs?state=succeeded&kind=draw&limit=3');
    for (const job of r.json.data)
      for (const a of job.artifacts) await Promise.all([s.get(a.url), s.get(a.thumbnail)]);
    return r;
  },
  async (s) => { // a picture leaves the history
    const r = await s.get('/v1/jobs?state=succeeded&order=oldest&limit=1');
    return r.json.data.length ? s.call('DELETE', `/v1/jobs/${r.json.data[0].id}`) : r;
  },
];

// ---- clients that stay ----
async function listener(s, left) {
  while (left() > 0) {
    const f = follow(s, '/v1/events');
    await Promise.race([f.closed, sleep(Math.min(left(), 20000 + random(60000)))]);
    count.events += f.events.length;
    f.close();
    count.restarts++;
  }
}

// A WebSocket that subscribes to everything, reads for a while and goes without a word.
async function socket(s, left) {
  const text = Buffer.from('{"op":"subscribe","job":"*","after":null,"previews":true}');
  while (left() > 0) {
    const c = net.connect(s.port, '127.0.0.1');
    const closed = new Promise((resolve) => c.on('close', resolve));
    c.on('error', () => {});
    c.on('data', () => count.events++);
    c.write(`GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`);
    await sleep(300);
    c.write(Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), text]));
    await Promise.race([closed, sleep(Math.min(left(), 5000 + random(30000)))]);
    c.destroy();
    count.restarts++;
  }
}

// ---- measuring ----
const size = (path) => { try { return statSync(path).size; } catch { return 0; } };
function folder(dir) {
  let files = 0, bytes = 0;
  for (const e of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, e.name);
    if (e.isDirectory()) { const d = folder(path); files += d.files; bytes += d.bytes; } else { files++; bytes += size(path); }
  }
  return { files, bytes };
}

function sample(s, begin) {
  const status = readFileSync(`/proc/${s.process.pid}/status`, 'utf8');
  const kept = folder(join(s.dir, 'blobs'));
  return {
    minutes: (Date.now() - begin) / 60000, rss: Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1024,
    fds: readdirSync(`/proc/${s.process.pid}/fd`).length, threads: Number(/Threads:\s+(\d+)/.exec(status)[1]),
    db: size(join(s.dir, 'jobs.db')) / 1048576, wal: size(join(s.dir, 'jobs.db-wal')) / 1048576,
    files: kept.files, blobs: kept.bytes / 1048576, ...count,
  };
}

const show = (p) => say([`${p.minutes.toFixed(1).padStart(6)} min`, `rss ${p.rss.toFixed(1)} MiB`, `fds ${p.fds}`, `threads ${p.threads}`,
  `db ${p.db.toFixed(2)} MiB`, `wal ${p.wal.toFixed(2)} MiB`, `files ${p.files}`, `pictures ${p.blobs.toFixed(2)} MiB`,
  `jobs ${p.jobs}`, `looks ${p.looks}`, `events ${p.events}`, `refused ${p.refused}`, `broken ${p.broken}`, `errors ${p.errors}`].join(', '));

const middle = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
// Units per hour, by least squares.
function slope(samples, name) {
  const n = samples.length, mx = samples.reduce((t, p) => t + p.minutes, 0) / n, my = samples.reduce((t, p) => t + p[name], 0) / n;
  let over = 0, under = 0;
  for (const p of samples) { over += (p.minutes - mx) * (p[name] - my); under += (p.minutes - mx) ** 2; }
  return under ? over / under * 60 : 0;
}

// Growth is judged after the first third, when caches and history are full. What is compared is the
// level at its beginning and at its end, and the slope between.
function verdict(samples) {
  const rest = samples.slice(Math.floor(samples.length / 3));
  const part = Math.max(1, Math.floor(rest.length / 4));
  const first = rest.slice(0, part), last = rest.slice(-part);
  const level = (list, name) => middle(list.map((p) => p[name]));
  let good = true;
  const judge = (name, what, room, unit) => {
    const from = level(first, name), to = level(last, name), rate = slope(rest, name), ok = to - from <= room;
    good &&= ok;
    say(`${ok ? 'ok  ' : 'GREW'} ${what}: ${from.toFixed(2)} -> ${to.toFixed(2)} ${unit} (${rate.toFixed(2)} an hour; allowed ${room} in all)`);
  };
  judge('rss', 'memory', Math.max(1.5, HOURS), 'MiB');
  judge('fds', 'descriptors', 12, '');
  judge('threads', 'threads', 2, '');
  judge('db', 'database', 0.5, 'MiB');
  judge('wal', 'its log', 4, 'MiB');
  judge('files', 'pictures kept', HISTORY / 4, 'files');
  const broken = count.broken / (count.jobs + count.looks + count.broken);
  if (broken > 0.01) { good = false; say(`BAD  ${(broken * 100).toFixed(1)}% of the connections ended early`); }
  if (count.errors) { good = false; say(`BAD  ${count.errors} answers that should not be`); }
  return good;
}

// ---- the run ----
if (LOG) writeFileSync(LOG, '');
const s = await Server.start({ args: ['--queue-depth', '200', '--history-jobs', String(HISTORY), '--no-log-requests', '--stub-ms', '5', '--rate-limit', '1000000'] });
const begin = Date.now(), until = begin + HOURS * 3600000, left = () => until - Date.now();
const seen = new Set();
const odd = (what, text) => {
  count.errors++;
  if (seen.size < 20 && !seen.has(what)) { seen.add(what); say(`odd: ${what}: ${String(text).slice(0, 300)}`); }
};
async function one(list, kind) {
  const at = random(list.length);
  try {
    const r = await list[at](s);
    count[kind]++;
    if (r.status === 429 || r.status === 503) count.refused++;
    else if (r.status === 408) count.broken++; // its body did not come in time: as below
    else if (r.status >= (kind === 'jobs' ? 400 : 500)) odd(`${kind} ${at}: ${r.status}`, r.text);
  } catch (e) {
    // a connection that ended before the answer: on a starved machine the client itself is too slow
    // for the server's time limits; the verdict allows a few
    count.broken++;
    if (seen.size < 20) say(`broken: ${kind} ${at}: ${e.cause?.code ?? e.cause?.message ?? e.message}`);
    seen.add(`${count.broken}`);
  }
}

say(`soak of ${process.env.LIMN ?? 'build/limn'}: ${HOURS} h, ${RATE} jobs a second, ${STREAMS} event streams, 2 WebSockets, history of ${HISTORY} jobs`);
const staying = [...Array.from({ length: STREAMS }, () => listener(s, left)), socket(s, left), socket(s, left)];
const samples = [];
s.log.push = () => 0; // what the server says is not kept here
let next = begin + SAMPLE_MS;
s.exited.then((e) => { if (left() > 0) { say(`BAD  the server ended: ${JSON.stringify(e)}`); process.exit(1); } });
while (left() > 0) {
  one(turns, 'jobs');
  if (random(2)) one(looks, 'looks');
  if (Date.now() >= next) {
    next += SAMPLE_MS;
    samples.push(sample(s, begin));
    show(samples.at(-1));
  }
  await sleep(1000 / RATE);
}
await Promise.all(staying);
const good = samples.length < 8 ? (say('too short for a verdict'), count.errors === 0) : verdict(samples);
const end = await s.stop();
if (end.code !== 0) say(`BAD  the server ended with ${JSON.stringify(end)}`);
s.remove();
say(good && end.code === 0 ? 'nothing grew' : 'FAILED');
process.exit(good && end.code === 0 ? 0 : 1);
