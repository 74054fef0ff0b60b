// SPDX-License-Identifier: MIT
// A disk that is full, seen over HTTP: what was acknowledged stays, what cannot be kept is refused with
// the right status, and all goes on by itself when there is room again. On a small file system of its
// own (tmpfs), so it needs the right to mount one; without it the test says so and counts nothing.
import { Server, check, equal, png, run, until } from './harness.mjs';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const fox = { prompt: 'a fox', width: 64, height: 64, steps: 2 };

// Every byte that there is.
function fill(path) {
  const fd = openSync(path, 'w');
  for (let block = Buffer.alloc(65536, 7); block.length;) {
    try {
      if (writeSync(fd, block) < block.length) block = block.subarray(0, block.length >> 1);
    } catch (e) {
      if (e.code !== 'ENOSPC') throw e;
      block = block.subarray(0, block.length >> 1);
    }
  }
  closeSync(fd);
}

async function full(s, ballast) {
  const kept = (await s.post('/v1/draw?wait=20', { ...fox, seed: 1 })).json.job;
  const running = (await s.post('/v1/draw', { ...fox, prompt: 'stub:slow', steps: 15, seed: 2 })).json.job;
  await until(async () => (await s.get(`/v1/jobs/${running.id}`)).json.job.state === 'running');
  fill(ballast);
  const refused = await until(async () => { const r = await s.post('/v1/draw', { ...fox, seed: 3 }); return r.status !== 202 && r; });
  equal('a job is refused', [refused?.status, refused?.json.error.code], [503, 'unavailable']);
  check('... with a time to come back', Number(refused.headers.get('retry-after')) >= 1);
  check('... and its reason', /full|disk|kept/.test(refused.json.error.message), refused.json.error.message);
  const upload = await s.call('POST', '/v1/uploads', png(64, 64), { 'Content-Type': 'image/png' });
  check('so is an upload', [503, 507].includes(upload.status), [upload.status, upload.text]);
  const ready = await s.get('/readyz');
  equal('it says that it is not ready', [ready.status, ready.json.reasons?.length > 0], [503, true]);
  equal('it lives', (await s.get('/livez')).status, 200);
  equal('what is there can be read', [(await s.get(`/v1/jobs/${kept.id}`)).status, (await s.fetch(kept.artifacts[0].url)).status], [200, 200]);
  await until(async () => (await s.get('/v1/system/logs?level=error')).json.data.length > 0);
  rmSync(ballast);
  check('ready again', await until(async () => (await s.get('/readyz')).status === 200));
  const after = await s.post('/v1/draw?wait=20', { ...fox, seed: 4 });
  equal('and draws', [after.status, after.json.job?.state], [200, 'succeeded']);
  const end = await until(async () => { const j = (await s.get(`/v1/jobs/${running.id}`)).json.job; return ['succeeded', 'failed'].includes(j.state) && j; });
  check('the job that ran has ended', end && (end.state === 'failed' ? end.error.message : end.artifacts.length === 1), end);
  const list = (await s.get('/v1/jobs')).json.data;
  equal('nothing else came of it', list.map((j) => j.id).sort(), [kept.id, running.id, after.json.job.id].sort());
}

run(async () => {
  const dir = mkdtempSync(join(tmpdir(), 'limn-disk-'));
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', dir]).status !== 0) {
    console.log('SKIP: this user cannot mount a small file system');
    rmSync(dir, { recursive: true });
    process.exit(77);
  }
  try {
    const s = await Server.start({ dir: join(dir, 'data'), args: ['--stub-ms', '2'] });
    await full(s, join(dir, 'ballast'));
    equal('clean end', (await s.stop()).code, 0);
    const again = await Server.start({ dir: join(dir, 'data') });
    const jobs = (await again.get('/v1/jobs')).json.data;
    equal('all of it is there at the next start', jobs.length, 3);
    for (const a of jobs.flatMap((j) => j.artifacts)) {
      const bytes = Buffer.from(await (await again.fetch(a.url)).arrayBuffer());
      equal('... with its pictures', createHash('sha256').update(bytes).digest('hex'), a.id);
    }
    await again.stop();
  } finally {
    spawnSync('umount', [dir]);
    rmSync(dir, { recursive: true });
  }
});
