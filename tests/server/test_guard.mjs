// SPDX-License-Identifier: MIT
// Who may do what: keys in every form, scopes, owners, sessions, names, origins, rates, and the
// start that refuses to be open.
import { LIMN, Server, check, equal, run, until, within } from './harness.mjs';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import net from 'node:net';

const fox = { prompt: 'a fox', steps: 1, width: 64, height: 64, seed: 7 };
const dir = mkdtempSync(join(tmpdir(), 'limn-guard-'));
const key = (...args) => execFileSync(LIMN, ['key', ...args, '--data-dir', dir], { encoding: 'utf8' }).trim();
const basic = (user, password) => ({ Authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` });

async function names(s) {
  for (const [host, want] of [['127.0.0.1', 200], ['localhost:7860', 200], ['[::1]:7860', 200], ['evil.test', 403], ['127.0.0.1.evil.test', 403], ['limn.example', 200]]) {
    const r = await s.raw(`GET /livez HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    equal(`Host ${host}`, Number(r.text.slice(9, 12)), want);
  }
  for (const [origin, want] of [[s.base, 202], ['null', 403], ['http://evil.test', 403], [`${s.base}.evil.test`, 403], ['https://evil.test/', 403]])
    equal(`Origin ${origin}`, (await s.post('/v1/draw', fox, { Origin: origin })).status, want);
  equal('reading has no origin', (await s.get('/v1/jobs', { Origin: 'http://evil.test' })).status, 200);
  equal('... and no CORS', (await s.get('/v1/jobs', { Origin: 'http://evil.test' })).headers.get('access-control-allow-origin'), null);
  equal('cross-site', (await s.post('/v1/draw', fox, { 'Sec-Fetch-Site': 'cross-site' })).status, 403);
  const foreign = await s.raw('GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: null\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n');
  equal('a foreign WebSocket', Number(foreign.text.slice(9, 12)), 403);
}

async function keys() {
  const admin = key('create', 'root', 'admin'), anna = key('create', 'anna', 'infer'), ben = key('create', 'ben', 'infer'), eye = key('create', 'eye', 'read');
  check('the file has no key in it', !readFileSync(join(dir, 'keys.json'), 'utf8').includes(anna.slice(3)));
  equal('the file is private', statSync(join(dir, 'keys.json')).mode & 0o777, 0o600);
  const s = await Server.start({ dir, args: ['--host', '0.0.0.0'] });
  s.base = `http://127.0.0.1:${s.port}`;
  const bearer = (k) => ({ Authorization: `Bearer ${k}` });
  equal('no key', [(await s.get('/v1/jobs')).status, (await s.get('/v1/jobs')).json.error.code], [401, 'missing_key']);
  check('WWW-Authenticate', (await s.get('/v1/jobs')).headers.get('www-authenticate').startsWith('Basic'));
  equal('wrong key', (await s.get('/v1/jobs', bearer('lk_wrong'))).json.error.code, 'invalid_key');
  for (const [name, headers] of [['Bearer', bearer(eye)], ['X-Api-Key', { 'X-Api-Key': eye }], ['Basic', basic('any', eye)]]) {
    equal(`${name}: may look`, (await s.get('/v1/jobs', headers)).status, 200);
    equal(`${name}: may not draw`, [(await s.post('/v1/draw', fox, headers)).status, (await s.post('/v1/draw', fox, headers)).json.error.code], [403, 'missing_scope']);
  }
  equal('an unknown route needs a key too', (await s.get('/v1/nothing')).status, 401);
  equal('infer may not change settings', (await s.call('PATCH', '/v1/settings', {}, bearer(anna))).status, 403);
  equal('infer may not read counters', (await s.get('/metrics', bearer(anna))).status, 403);
  equal('health needs no key', (await s.get('/livez')).status, 200);
  equal('sdapi is guarded by the same', [(await s.get('/sdapi/v1/options')).status, (await s.get('/sdapi/v1/options', basic('u', eye))).status, (await s.post('/sdapi/v1/txt2img', fox, basic('u', eye))).status], [401, 200, 403]);
  const made = (await s.post('/v1/draw?wait=20', fox, bearer(anna))).json.job;
  equal('owner', made.owner, 'anna');
  const url = made.artifacts[0].url;
  for (const path of [`/v1/jobs/${made.id}`, `/v1/jobs/${made.id}/events`, url, made.artifacts[0].thumbnail, `/v1/artifacts/${made.artifacts[0].id}`])
    equal(`another's ${path.replace(/[0-9a-f-]{30,}/, 'x')}`, (await s.get(path, bearer(ben))).status, 404);
  equal('another\'s job: cancel', (await s.post(`/v1/jobs/${made.id}/cancel`, undefined, bearer(ben))).status, 404);
  equal('another\'s job: delete', (await s.call('DELETE', `/v1/jobs/${made.id}`, undefined, bearer(ben))).status, 404);
  equal('another\'s list', (await s.get('/v1/jobs', bearer(ben))).json.data, []);
  equal('another\'s picture in a job', (await s.post('/v1/edit', { ...fox, init_image: `artifact:${made.artifacts[0].id}` }, bearer(ben))).status, 400);
  equal('an admin sees all', (await s.get(`/v1/jobs/${made.id}`, bearer(admin))).status, 200);
  equal('priority needs admin', [(await s.post('/v1/draw', { ...fox, job: { priority: 5 } }, bearer(anna))).status, (await s.post('/v1/draw', { ...fox, job: { priority: 5 } }, bearer(admin))).status], [400, 202]);
  // sessions
  equal('not signed in', (await s.get('/v1/session')).json.signed_in, false);
  const login = await s.post('/v1/session', { key: anna });
  const cookie = login.headers.get('set-cookie');
  check('cookie', /HttpOnly/.test(cookie) && /SameSite=Strict/.test(cookie) && !cookie.includes(anna));
  const jar = { Cookie: cookie.split(';')[0] };
  equal('signed in', (await s.get('/v1/session', jar)).json, { auth: 'key', signed_in: true, owner: 'anna', scopes: ['read', 'infer'], version: login.json.version });
  equal('the cookie draws', (await s.post('/v1/draw', fox, jar)).status, 202);
  const forged = jar.Cookie.replace(/.$/, (c) => (c === '0' ? '1' : '0'));
  equal('a forged cookie', (await s.get('/v1/jobs', { Cookie: forged })).status, 401);
  equal('a cookie without an end', (await s.get('/v1/jobs', { Cookie: 'limn_session=..' })).status, 401);
  equal('a longer life', (await s.get('/v1/jobs', { Cookie: jar.Cookie.replace(/\.(\d+)\./, (m, n) => `.${Number(n) + 1000}.`) })).status, 401);
  // revoking
  const id = JSON.parse(key('list')).find((k) => k.owner === 'anna').id;
  key('revoke', id);
  check('a revoked key', await until(async () => (await s.get('/v1/jobs', bearer(anna))).status === 401)); // the file is looked at now and then
  equal('... and its cookie', (await s.get('/v1/jobs', jar)).status, 401);
  // keys over HTTP
  equal('only admin may see keys', (await s.get('/v1/keys', bearer(ben))).status, 403);
  const made2 = await s.post('/v1/keys', { owner: 'cleo', scope: 'infer', days: 1 }, bearer(admin));
  equal('a key is made', [made2.status, (await s.get('/v1/jobs', bearer(made2.json.key))).status], [201, 200]);
  const listed = (await s.get('/v1/keys', bearer(admin))).json.data;
  check('the list has no secret', !JSON.stringify(listed).includes(made2.json.key.slice(3)) && !('hash' in listed[0]));
  equal('which is mine', listed.filter((k) => k.own).map((k) => k.owner), ['root']);
  const cleo = listed.find((k) => k.owner === 'cleo');
  check('it ends', cleo.expires > cleo.created);
  equal('revoked', [(await s.call('DELETE', `/v1/keys/${cleo.id}`, undefined, bearer(admin))).status, (await s.get('/v1/jobs', bearer(made2.json.key))).status], [204, 401]);
  equal('none twice', (await s.call('DELETE', `/v1/keys/${cleo.id}`, undefined, bearer(admin))).status, 404);
  equal('the last admin stays', (await s.call('DELETE', `/v1/keys/${listed.find((k) => k.own).id}`, undefined, bearer(admin))).status, 409);
  // two admins who revoke one another: whatever the order, one of them stays
  const second = (await s.post('/v1/keys', { owner: 'second', scope: 'admin' }, bearer(admin))).json.key;
  const ids = Object.fromEntries((await s.get('/v1/keys', bearer(admin))).json.data.map((k) => [k.owner, k.id]));
  const duel = await Promise.all([s.call('DELETE', `/v1/keys/${ids.second}`, undefined, bearer(admin)), s.call('DELETE', `/v1/keys/${ids.root}`, undefined, bearer(second))]);
  const left = [admin, second][duel.findIndex((r) => r.status === 204)];
  check('one of two is revoked', duel.filter((r) => r.status === 204).length === 1 && duel.some((r) => [401, 409].includes(r.status)), duel.map((r) => r.status));
  equal('one admin stays', (await s.get('/v1/keys', bearer(left))).json.data.filter((k) => k.scope === 'admin').length, 1);
  equal('a scope that is none', (await s.post('/v1/keys', { owner: 'dora', scope: 'all' }, bearer(left))).status, 400);
  // many wrong keys
  // 20 in a minute: asked faster than that, however slow the machine is
  const statuses = [];
  for (let i = 0; i < 400 && !statuses.includes(429); i++) statuses.push(...(await Promise.all(Array.from({ length: 10 }, (_, k) => s.post('/v1/session', { key: `lk_${i}_${k}` })))).map((r) => r.status));
  check('wrong keys are slowed down', statuses[0] === 401 && statuses.includes(429), statuses.join());
  check('keys are in no log', !s.log.some((l) => l.includes(ben) || l.includes(admin)));
  equal('clean end', (await s.stop()).code, 0);
  s.remove();
}

async function rates() {
  const s = await Server.start({ args: ['--rate-limit', '60'] });
  // A unit comes back each second, so a slow machine may draw one more now and then.
  const began = Date.now(), answers = [];
  while (!answers.some((r) => r.status === 429) && answers.length < 200)
    answers.push(...await Promise.all(Array.from({ length: 7 }, (_, i) => s.post('/v1/draw', { ...fox, seed: answers.length + i }))));
  const drawn = answers.filter((r) => r.status === 202).length, seconds = (Date.now() - began) / 1000;
  check('60 units: 12 drawings', drawn >= 12 && drawn <= 12 + Math.ceil(seconds / 5), [drawn, seconds]);
  const refused = answers.find((r) => r.status === 429);
  equal('then 429', [refused?.json.error.code, Number(refused?.headers.get('retry-after')) > 0], ['rate_limited', true]);
  equal('health is free', (await s.get('/livez')).status, 200);
  await s.stop();
  s.remove();
}

async function starts() {
  const open = spawnSync(LIMN, ['serve', '--engine', 'stub', '--host', '0.0.0.0', '--port', '0', '--data-dir', join(dir, 'open')], { encoding: 'utf8', timeout: 100000 });
  equal('a public address without a key', [open.status, /limn key create/.test(open.stderr)], [2, true]);
  const two = await Server.start();
  const second = spawnSync(LIMN, ['serve', '--engine', 'stub', '--port', '0', '--data-dir', two.dir], { encoding: 'utf8', timeout: 100000 });
  check('a second server of one folder', second.status === 15, [second.status, second.stderr]);
  const third = spawnSync(LIMN, ['serve', '--engine', 'stub', '--port', String(two.port), '--data-dir', join(dir, 'third')], { encoding: 'utf8', timeout: 100000 });
  equal('a port that is taken', third.status, 4);
  await two.stop();
  two.remove();
}

// On SIGTERM: not ready, no new jobs, running ones finish, then the end.
async function drain() {
  const s = await Server.start({ args: ['--stub-ms', '1'] });
  const slow = s.post('/v1/draw?wait=60', { ...fox, prompt: 'stub:slow', steps: 60 });
  await until(async () => (await s.get('/sdapi/v1/status')).json.status === 'running');
  s.process.kill('SIGTERM');
  const ready = await until(async () => { const r = await s.get('/readyz'); return r.status === 503 && r; });
  equal('not ready', ready?.json.reasons, ['draining']);
  const refused = await s.post('/v1/draw', fox);
  equal('no new jobs', [refused.status, Number(refused.headers.get('retry-after')) > 0], [503, true]);
  equal('still alive', (await s.get('/livez')).status, 200);
  equal('the running job finishes', (await slow).json.job.state, 'succeeded');
  equal('and the server ends', (await s.ended()).code, 0);
  s.remove();
}

async function unixSocket() {
  const path = join(dir, 'limn.sock');
  const s = await Server.start({ args: ['--socket', path] });
  const text = await within(new Promise((resolve, reject) => {
    const c = net.connect(path);
    let t = '';
    c.on('data', (d) => { t += d; });
    c.on('error', reject);
    c.on('close', () => resolve(t));
    c.write('GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  }), 'the answer over the unix socket');
  check('unix socket', text.startsWith('HTTP/1.1 200'), text.slice(0, 60));
  await s.stop();
  s.remove();
}

run(async () => {
  const s = await Server.start({ args: ['--allow-host', 'limn.example'] });
  await names(s);
  await s.stop();
  s.remove();
  await keys();
  await rates();
  await starts();
  await drain();
  await unixSocket();
});
