// SPDX-License-Identifier: MIT
// Pictures are decoded in processes of their own: they are locked in, what happens to them is an
// answer and not the end of the server, and without them nothing is decoded.
import { readFileSync, readdirSync } from 'node:fs';
import { Server, check, equal, png, run, sleep, until } from './harness.mjs';

const upload = (s, data) => s.call('POST', '/v1/uploads', data, { 'Content-Type': 'image/png' });
const decoding = async (s) => (await s.get('/v1/system')).json.decoding;

function children(pid) {
  try {
    // Each thread has its own; any may have started the host.
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number));
  } catch { return []; }
}

// Ended, also when nobody has asked for its end yet.
function isGone(pid) {
  try { return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1][0] === 'Z'; } catch { return true; }
}

const host = (s) => children(s.process.pid)[0];

async function ready(s) {
  const d = await until(async () => { const now = await decoding(s); return now.state !== 'starting' && now; });
  if (!d) throw new Error('no decoder starts');
  return d;
}

async function locks(s) {
  const first = await ready(s);
  equal('ready', [first.apart, first.state, first.why], [true, 'ready', null]);
  equal('a picture comes in', (await upload(s, png(40, 30))).status, 201);
  // A decoder that is caught between its start and its locks is asked again, as is another when it has gone.
  let status = '', limits = '';
  for (let i = 0; i < 500 && !/Seccomp:\s+2/.test(status); i++) {
    try {
      const idle = children(host(s)).at(-1);
      status = readFileSync(`/proc/${idle}/status`, 'utf8');
      limits = readFileSync(`/proc/${idle}/limits`, 'utf8');
    } catch { /* gone */ }
    await sleep(10);
  }
  equal('a filter holds a decoder', /Seccomp:\s+(\d)/.exec(status)[1], '2');
  equal('no new rights', /NoNewPrivs:\s+(\d)/.exec(status)[1], '1');
  equal('no capabilities', /CapEff:\s+(\w+)/.exec(status)[1], '0000000000000000');
  check('no core', /Max core file size\s+0 /.test(limits), limits);
  check('no files', /Max file size\s+0 /.test(limits));
  check('memory', /Max address space\s+2147483648 /.test(limits) || /asan/i.test(process.env.LIMN_SANITIZED ?? ''));
  check('it has none of the server\'s files', readdirSync(`/proc/${host(s)}/fd`).length < 12);
  const environment = readFileSync(`/proc/${host(s)}/environ`, 'utf8');
  check('nor its environment', !environment.includes('A_SECRET'), environment);
}

// A large picture takes long enough to hit its process.
async function killed(s) {
  const before = await decoding(s);
  const large = png(4000, 4000);
  let hit = null;
  for (let i = 0; i < 20 && !hit; i++) {
    let r = null;
    const answer = upload(s, large).then((x) => { r = x; });
    while (!r) {
      const busy = (await decoding(s)).busy > 0 ? children(host(s)) : [];
      const worked = busy.find((pid) => {
        try { return Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')[11]) >= 5; } catch { return false; }
      });
      if (worked) { process.kill(worked, 'SIGKILL'); break; }
      await sleep(2);
    }
    await answer;
    hit = r.status !== 201; // else it had just finished
    if (hit) equal('its picture is refused', [r.status, r.json?.error?.code], [400, 'bad_image']);
  }
  check('a decoder was hit at work', hit);
  equal('counted', (await decoding(s)).crashed - before.crashed, 1);
  check('in the log', s.log.some((l) => l.includes('by signal 9')));
  equal('the next one is fine', (await upload(s, png(41, 31))).status, 201);
}

// An upload that is taken in as soon as there is a decoder again.
async function taken(s, data) {
  return until(async () => { const r = await upload(s, data); return r.status === 201 && r; });
}

async function hostKilled(s) {
  await taken(s, png(42, 31));
  process.kill(host(s), 'SIGKILL');
  check('a new host', await taken(s, png(42, 32)));
  // A second death at once is not answered by a start at once, and is said as what it is. "At once"
  // is a second: on a machine that is busy it may take several tries to be that quick.
  let refused = null;
  for (let i = 0; i < 20 && !refused; i++) {
    const old = host(s);
    process.kill(old, 'SIGKILL');
    let over = false;
    const first = upload(s, png(43, 33)).finally(() => { over = true; }); // starts another one, or is refused
    await until(() => over || (host(s) && host(s) !== old));
    if (host(s) && host(s) !== old) process.kill(host(s), 'SIGKILL');
    const answers = [await upload(s, png(43, 34)), await first];
    refused = answers.find((r) => r.status === 503);
    await taken(s, png(43, 35));
  }
  equal('later', [refused?.json.error.code, refused?.headers.get('retry-after') !== null], ['unavailable', true]);
  check('and then', await taken(s, png(43, 33)));
}

// With one HTTP thread: while uploads wait for decoders that stand still, others are answered.
async function meanwhile() {
  const s = await Server.start({ args: ['--http-threads', '1'] });
  await ready(s);
  const processes = [host(s), ...children(host(s))];
  const signal = (name) => processes.forEach((pid) => { try { process.kill(pid, name); } catch { /* gone */ } });
  signal('SIGSTOP');
  const stopped = Date.now();
  const base64 = png(300, 200, { noise: true }).toString('base64');
  const waiting = [upload(s, png(300, 200, { noise: true })), s.post('/v1/see?wait=20', { prompt: 'x', images: [`data:image/png;base64,${base64}`] }),
    s.post('/sdapi/v1/png-info', { image: base64 })];
  let answered = 0;
  waiting.forEach((p) => p.then(() => answered++));
  await until(async () => (await decoding(s)).busy === 3);
  const wait = [(await decoding(s)).busy, answered];
  const others = [(await s.post('/v1/draw?wait=20', { prompt: 'a fox', width: 64, height: 64, steps: 1 })).json.job.state, (await s.get('/livez')).status, answered];
  signal('SIGCONT');
  // A decoder may take 15 s to say that it is there; when the machine stood still for as long, 503 was right.
  if (Date.now() - stopped > 14000) {
    await Promise.all(waiting);
    await s.stop();
    s.remove();
    await meanwhile();
    return;
  }
  equal('three wait for decoders', wait, [3, 0]);
  equal('others are answered', others, ['succeeded', 200, 0]);
  equal('and they too, then', (await Promise.all(waiting)).map((r) => r.status), [201, 200, 200]);
  equal('stops', (await s.stop()).code, 0);
  s.remove();
}

async function damaged(s) {
  const whole = png(300, 200);
  for (const cut of [10, 33, 60, whole.length >> 1, whole.length - 1]) {
    const r = await upload(s, whole.subarray(0, cut));
    equal(`cut at ${cut}`, [r.status, r.json.error.code], [400, 'bad_image']);
  }
  const crashed = (await decoding(s)).crashed;
  equal('damage is no crash', crashed, (await decoding(s)).crashed);
}

run(async () => {
  const s = await Server.start({ env: { A_SECRET: 'yes' } });
  await locks(s);
  await damaged(s);
  await killed(s);
  await hostKilled(s);
  const pids = [host(s), ...children(host(s))];
  equal('stops', (await s.stop()).code, 0);
  check('nothing is left', await until(() => pids.every(isGone)));
  s.remove();

  await meanwhile();

  const here = await Server.start({ args: ['--no-decode-apart'] });
  equal('off', [(await decoding(here)).apart, (await decoding(here)).state], [false, 'off']);
  equal('decodes here', (await upload(here, png(40, 30))).status, 201);
  equal('without a process', children(here.process.pid), []);
  check('the log says so', here.log.some((l) => l.includes('in the server itself')));
  await here.stop();
  here.remove();

  const gone = await Server.start();
  await ready(gone);
  const left = [host(gone), ...children(host(gone))];
  await gone.stop('SIGKILL');
  check('a killed server leaves no process', await until(() => left.every(isGone)));
  gone.remove();
});
