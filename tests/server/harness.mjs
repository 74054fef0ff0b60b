// SPDX-License-Identifier: MIT
// What the server tests share: a limn of their own with the stub engine on a free port, plain HTTP,
// raw sockets, and counting. Node 18 or newer, no packages.
//
// Nothing waits for ever and nothing waits for a time: every request, start and end has a deadline
// that says what was waited for, and tests wait for states (`until`). Deadlines are long, because
// machines that run tests are busy with other things.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import net from 'node:net';
import zlib from 'node:zlib';

export const LIMN = process.env.LIMN ?? 'build/limn';

const SECONDS = Number(process.env.LIMN_TEST_SECONDS ?? 120); // of one step
const TOTAL_SECONDS = 4.5 * SECONDS;                           // of a test; tests/meson.build allows more

// A test that fails or runs out of time leaves no server behind.
const running = new Set();
process.on('exit', () => running.forEach((s) => s.process.kill('SIGKILL')));

export const sleep = (ms) => new Promise((r) => setTimeout(r, ms));

// What the promise gives, or an error that names what did not come.
export async function within(promise, what, seconds = SECONDS) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`${what}: not within ${seconds} s`)), seconds * 1000); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// What `fn` says as soon as it says something; null: it never did.
export async function until(fn, seconds = SECONDS) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(5)) {
    const v = await fn();
    if (v) return v;
  }
  return null;
}

export class Server {
  // options: {args: [...], dir: folder to reuse, env: {...}, engine: true for the real one}
  static async start(options = {}) {
    const s = new Server();
    s.dir = options.dir ?? mkdtempSync(join(tmpdir(), 'limn-server-'));
    s.log = [];
    const args = ['serve', '--engine', options.engine ? 'engine' : 'stub', '--port', '0', '--data-dir', s.dir, '--log-format', 'json',
      ...(options.args ?? [])];
    s.process = spawn(LIMN, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...options.env } });
    running.add(s);
    s.exited = new Promise((resolve) => s.process.once('exit', (code, signal) => { running.delete(s); resolve({ code, signal }); }));
    createInterface({ input: s.process.stderr }).on('line', (line) => s.log.push(line));
    const lines = createInterface({ input: s.process.stdout });
    s.base = await within(new Promise((resolve, reject) => {
      lines.once('line', (line) => resolve(/http:\S+/.exec(line)[0]));
      s.exited.then((e) => reject(new Error(`limn ended (${JSON.stringify(e)}): ${s.log.join('\n')}`)));
    }), 'the start of a server');
    s.port = Number(new URL(s.base).port);
    return s;
  }

  async stop(signal = 'SIGTERM') {
    this.process.kill(signal);
    return this.ended();
  }

  ended() {
    return within(this.exited, `the end of server ${this.process.pid}`);
  }

  remove() {
    rmSync(this.dir, { recursive: true, force: true });
  }

  // The deadline holds until the head of the answer is there; streams go on.
  fetch(path, init = {}) {
    return within(fetch(this.base + path, init), `${init.method ?? 'GET'} ${path}`);
  }

  async call(method, path, body, headers = {}) {
    const init = { method, headers: { ...headers } };
    if (body !== undefined) {
      init.body = typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body);
      init.headers['Content-Type'] ??= 'application/json';
    }
    const r = await this.fetch(path, init);
    const text = await within(r.text(), `the body of ${method} ${path}`);
    let json = null;
    try { json = JSON.parse(text); } catch { /* not JSON */ }
    return { status: r.status, headers: r.headers, text, json };
  }

  get(path, headers) { return this.call('GET', path, undefined, headers); }
  post(path, body, headers) { return this.call('POST', path, body, headers); }

  rss() {
    const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.process.pid}/status`, 'utf8'));
    return Number(line[1]) * 1024;
  }

  // Everything that the server says to these bytes until it closes; `timeout`: it was silent for `ms`.
  raw(bytes, ms = SECONDS * 1000) {
    return new Promise((resolve) => {
      const socket = net.connect(this.port, '127.0.0.1');
      const parts = [];
      let closed = false;
      const end = () => { if (!closed) { closed = true; socket.destroy(); resolve({ text: Buffer.concat(parts).toString('latin1'), bytes: Buffer.concat(parts), timeout: false }); } };
      socket.setTimeout(ms, () => { closed = true; socket.destroy(); resolve({ text: Buffer.concat(parts).toString('latin1'), bytes: Buffer.concat(parts), timeout: true }); });
      socket.on('data', (d) => parts.push(d));
      socket.on('end', end);
      socket.on('close', end);
      socket.on('error', end);
      socket.on('connect', () => { for (const b of Array.isArray(bytes) ? bytes : [bytes]) socket.write(typeof b === 'string' ? Buffer.from(b, 'latin1') : b); });
    });
  }
}

// ---- counting ----

let failed = 0, passed = 0;

export function check(name, ok, detail = '') {
  if (ok) { passed++; return; }
  failed++;
  console.log(`FAIL ${name}${detail === '' ? '' : `: ${typeof detail === 'string' ? detail : JSON.stringify(detail)}`}`);
}

export function equal(name, got, want) {
  check(name, JSON.stringify(got) === JSON.stringify(want), `got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
}

// What the servers that still run said last.
function tellLogs() {
  for (const s of running) console.log(`log of server ${s.process.pid}:\n${s.log.slice(-30).join('\n')}`);
}

// Runs the function with servers that are stopped in the end, prints the count and ends the process.
export async function run(fn) {
  const timer = setTimeout(() => { console.log(`FAIL: the test took longer than ${TOTAL_SECONDS} s`); tellLogs(); process.exit(1); }, TOTAL_SECONDS * 1000);
  try {
    await fn();
  } catch (e) {
    failed++;
    console.log(`FAIL ${e.stack}`);
    tellLogs();
  }
  clearTimeout(timer);
  console.log(`${passed} checks passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

// ---- pictures ----

function chunk(type, data) {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(data.length, 0);
  head.write(type, 4, 'latin1');
  const body = Buffer.concat([head.subarray(4), data]);
  const crc = Buffer.alloc(4);
  crc.writeUInt32BE(crc32(body), 0);
  return Buffer.concat([head.subarray(0, 4), body, crc]);
}

function crc32(data) {
  let c, crc = 0xffffffff;
  for (const byte of data) {
    c = (crc ^ byte) & 0xff;
    for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
    crc = (crc >>> 8) ^ c;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

// A PNG whose header says width x height; `rows` of them are really there.
// noise: its rows differ, so that it does not shrink.
export function png(width, height, { rows = height, extra = [], text = null, depth = 8, colour = 2, noise = false } = {}) {
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head[8] = depth;
  head[9] = colour;
  const bytesPerPixel = (colour === 2 ? 3 : colour === 6 ? 4 : 1) * depth / 8;
  const row = Buffer.alloc(1 + width * bytesPerPixel, 0x50);
  row[0] = 0;
  const raw = Buffer.concat(Array(rows).fill(row));
  for (let i = 1, x = 1; noise && i < raw.length; i++) {
    x = (x * 48271) % 2147483647;
    if (i % row.length) raw[i] = x >> 8;
  }
  const chunks = [Buffer.from('89504e470d0a1a0a', 'hex'), chunk('IHDR', head)];
  for (const [type, data] of extra) chunks.push(chunk(type, data));
  if (text) chunks.push(chunk('tEXt', Buffer.from(`parameters\0${text}`, 'latin1')));
  chunks.push(chunk('IDAT', zlib.deflateSync(raw)), chunk('IEND', Buffer.alloc(0)));
  return Buffer.concat(chunks);
}

// One parsed event stream: {events, end: promise, close()}.
export function follow(server, path, headers = {}) {
  const stop = new AbortController();
  const out = { events: [], comments: 0, close: () => stop.abort() };
  const read = (async () => {
    const r = await server.fetch(path, { headers, signal: stop.signal });
    out.status = r.status;
    out.type = r.headers.get('content-type');
    let rest = '';
    const decoder = new TextDecoder();
    for await (const part of r.body) {
      rest += decoder.decode(part, { stream: true });
      for (let at; (at = rest.indexOf('\n\n')) >= 0; rest = rest.slice(at + 2)) {
        const event = {};
        for (const line of rest.slice(0, at).split('\n')) {
          if (line.startsWith(':')) { out.comments++; continue; }
          const colon = line.indexOf(': ');
          event[line.slice(0, colon)] = line.slice(colon + 2);
        }
        if (event.data) out.events.push({ ...event, data: JSON.parse(event.data) });
      }
    }
  })().catch((e) => { if (e.name !== 'AbortError') throw e; });
  out.end = { then: (...args) => within(read, `the end of ${path}`).then(...args) }; // from when it is waited for
  out.closed = read.catch(() => {}); // over, however it ended; no deadline
  return out;
}
