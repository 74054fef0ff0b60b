// SPDX-License-Identifier: MIT
// What the server costs, measured with the stub engine on this machine (loopback): time from exec to
// the first byte, latency that a job adds, requests per second, and what many clients cost. Medians;
// beside nginx serving a small static file when nginx is installed, and stable-diffusion.cpp's server
// (SD_SERVER, its program; SD_MODEL, a checkpoint for it). Node 18 or newer, no packages.
//     LIMN=build/limn node bench/serve.mjs
import { Server, sleep } from '../tests/server/harness.mjs';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync, writeSync, rmSync, mkdirSync, openSync, closeSync, fdatasyncSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import http from 'node:http';
import net from 'node:net';

const STARTS = 11, JOBS = 300, LOOKS = 4000, CONNECTIONS = 16, FOLLOWERS = 1000, IDLE = 2000, PEER_JOBS = 20;

const rank = (list, q) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * q))];
const ms = (v) => `${v < 10 ? v.toFixed(2) : v.toFixed(0)} ms`;
const row = (name, text) => console.log(`${name.padEnd(46)} ${text}`);
const now = () => performance.now();

function get(port, path, agent, method = 'GET', body = null) {
  return new Promise((resolve, reject) => {
    const headers = body ? { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) } : {};
    const rq = http.request({ host: '127.0.0.1', port, path, method, agent, headers }, (r) => {
      r.resume();
      r.on('end', () => resolve(r.statusCode));
    });
    rq.on('error', reject);
    rq.end(body);
  });
}

async function times(count, fn) {
  const list = [];
  for (let i = 0; i < count; i++) {
    const begin = now();
    await fn(i);
    list.push(now() - begin);
  }
  return list;
}

async function perSecond(port, path) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  let left = LOOKS;
  const begin = now();
  await Promise.all(Array.from({ length: CONNECTIONS }, async () => { while (left-- > 0) await get(port, path, agent); }));
  const rate = LOOKS / ((now() - begin) / 1000);
  agent.destroy();
  return rate;
}

async function starts() {
  const list = [];
  for (let i = 0; i < STARTS; i++) {
    const begin = now();
    const s = await Server.start();
    await get(s.port, '/livez');
    list.push(now() - begin);
    await s.stop();
    s.remove();
  }
  row('exec to the first byte', `${ms(rank(list, .5))} (best ${ms(Math.min(...list))}; of this, the test's own process start)`);
}

async function followers(s) {
  const before = s.rss(), done = [], sockets = [];
  let open = 0;
  await Promise.all(Array.from({ length: FOLLOWERS }, () => new Promise((resolve, reject) => {
    let heard = false;
    const socket = net.connect(s.port, '127.0.0.1', () => socket.write('GET /v1/events?previews=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'));
    sockets.push(socket);
    socket.setEncoding('latin1');
    socket.on('error', reject);
    socket.on('data', (d) => {
      if (d.startsWith('HTTP/1.1 200')) { open++; resolve(); }
      if (!heard && d.includes('event: done')) { heard = true; done.push(now()); }
    });
  })));
  const held = s.rss() - before, begin = now();
  await get(s.port, '/v1/draw', undefined, 'POST', '{"prompt":"a","width":64,"height":64,"steps":1}');
  while (done.length < FOLLOWERS && now() - begin < 20000) await sleep(5);
  row(`${open} event streams`, `${(held / open / 1024).toFixed(1)} KiB each; all ${done.length} heard of a job's end in ${ms(Math.max(...done) - begin)}`);
  for (const socket of sockets) socket.destroy();
}

async function idle(s) {
  const before = s.rss(), sockets = [];
  await Promise.all(Array.from({ length: IDLE }, () => new Promise((resolve, reject) => {
    const socket = net.connect(s.port, '127.0.0.1', () => socket.write('GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'));
    sockets.push(socket);
    socket.on('data', resolve);
    socket.on('error', reject);
  })));
  const list = await times(200, () => get(s.port, '/livez'));
  row(`${IDLE} idle connections`, `${((s.rss() - before) / IDLE / 1024).toFixed(1)} KiB each; a look meanwhile ${ms(rank(list, .5))}, 99% ${ms(rank(list, .99))}`);
  for (const socket of sockets) socket.destroy();
}

async function nginx() {
  if (spawnSync('nginx', ['-v']).error) return row('nginx, static file', 'not installed');
  const dir = mkdtempSync(join(tmpdir(), 'limn-nginx-'));
  const port = 20000 + process.pid % 20000;
  mkdirSync(join(dir, 'www'));
  writeFileSync(join(dir, 'www/livez'), '{"status":"ok"}');
  writeFileSync(join(dir, 'nginx.conf'), `daemon off; pid ${dir}/pid; error_log ${dir}/error; worker_processes 2; events {}
    http { access_log off; client_body_temp_path ${dir}/t1; proxy_temp_path ${dir}/t2; fastcgi_temp_path ${dir}/t3; uwsgi_temp_path ${dir}/t4; scgi_temp_path ${dir}/t5;
    server { listen 127.0.0.1:${port}; root ${dir}/www; } }`);
  const p = spawn('nginx', ['-c', join(dir, 'nginx.conf'), '-e', join(dir, 'error')], { stdio: 'ignore' });
  await sleep(400);
  const agent = new http.Agent({ keepAlive: true });
  const list = await times(500, () => get(port, '/livez', agent));
  row('nginx, static file', `${ms(rank(list, .5))}; ${(await perSecond(port, '/livez')).toFixed(0)} a second`);
  agent.destroy();
  p.kill();
  await sleep(100);
  rmSync(dir, { recursive: true, force: true });
}

// Its answer without work, and a job taken into its memory; the next one when that has been drawn, so
// that nothing else goes on.
async function peer() {
  const { SD_SERVER, SD_MODEL } = process.env;
  if (!SD_SERVER) return row('stable-diffusion.cpp, look', 'not measured: SD_SERVER is not set');
  const port = 20001 + process.pid % 20000, look = '/sdapi/v1/latent-upscale-modes', list = [];
  const p = spawn(SD_SERVER, ['-m', SD_MODEL, '--listen-port', `${port}`, '-t', '2'], { stdio: 'ignore' });
  const url = `http://127.0.0.1:${port}`;
  while (!await fetch(url + look).then((r) => r.ok, () => false)) await sleep(100);
  const agents = [new http.Agent({ keepAlive: true }), new http.Agent({ keepAlive: false })];
  const [kept, fresh] = [await times(100, () => get(port, look, agents[0])), await times(500, () => get(port, look, agents[1]))];
  row('stable-diffusion.cpp, look', `${ms(rank(kept, .5))} over a kept connection, ${ms(rank(fresh, .5))} over a new one; ${(await perSecond(port, look)).toFixed(0)} a second`);
  for (let i = 0; i < PEER_JOBS; i++) {
    const begin = now();
    const r = await fetch(`${url}/sdcpp/v1/img_gen`, { method: 'POST', headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ prompt: 'a', width: 64, height: 64, seed: i, sample_params: { sample_steps: 1 } }) });
    const job = await r.json();
    list.push(now() - begin);
    if (r.status !== 202) throw new Error(`stable-diffusion.cpp: ${r.status} ${JSON.stringify(job)}`);
    while (['queued', 'running', 'generating'].includes((await (await fetch(url + job.poll_url)).json()).status)) await sleep(20);
  }
  row('stable-diffusion.cpp, job taken (in memory)', `${ms(rank(list, .5))}, 99% ${ms(rank(list, .99))}`);
  for (const agent of agents) agent.destroy();
  p.kill('SIGKILL');
}

// What the disk takes for a promise: a job makes several.
function disk() {
  const dir = mkdtempSync(join(tmpdir(), 'limn-disk-')), fd = openSync(join(dir, 'file'), 'w'), list = [];
  for (let i = 0; i < 200; i++) {
    const begin = now();
    writeSync(fd, Buffer.alloc(12288));
    fdatasyncSync(fd);
    list.push(now() - begin);
  }
  closeSync(fd);
  rmSync(dir, { recursive: true, force: true });
  row('12 KiB brought to the disk', `${ms(rank(list, .5))}, 99% ${ms(rank(list, .99))}`);
}

disk();
await starts();
const s = await Server.start({ args: ['--queue-depth', '100000', '--no-log-requests'] });
const agent = new http.Agent({ keepAlive: true });
const looks = await times(500, () => get(s.port, '/livez', agent));
row('a look (/livez)', `${ms(rank(looks, .5))}; ${(await perSecond(s.port, '/livez')).toFixed(0)} a second`);
await nginx();
await peer();
const body = (i) => JSON.stringify({ prompt: 'a', width: 64, height: 64, steps: 1, seed: i });
const jobs = await times(JOBS, (i) => get(s.port, '/v1/draw?wait=60', agent, 'POST', body(i)));
row('a job, from request to answer', `${ms(rank(jobs, .5))}, 99% ${ms(rank(jobs, .99))} (stub engine; on disk twice)`);
const made = await times(JOBS, (i) => get(s.port, '/v1/draw', agent, 'POST', body(JOBS + i)));
row('a job acknowledged (on disk)', `${ms(rank(made, .5))}, 99% ${ms(rank(made, .99))}`);
await followers(s);
await idle(s);
row('memory of the server at the end', `${(s.rss() / 1048576).toFixed(1)} MiB`);
agent.destroy();
await s.stop();
s.remove();
process.exit(0);
