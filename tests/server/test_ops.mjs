// SPDX-License-Identifier: MIT
// What operators see: the log over HTTP, traces, memory of models, wildcards.
import { Server, check, equal, follow, run, until } from './harness.mjs';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LIMN } from './harness.mjs';

const fox = { prompt: 'a secret fox', width: 64, height: 64, steps: 2, seed: 7 };
const trace = '0af7651916cd43dd8448eb211c80319c';

async function logs(s) {
  await s.post('/v1/draw?wait=20', fox, { 'X-Request-Id': 'find-me' });
  await s.post('/v1/draw?wait=20', { ...fox, prompt: 'stub:fail' });
  await s.get('/nowhere\x7f');
  const all = (await s.get('/v1/system/logs')).json;
  const line = all.data.find((l) => l.fields.request_id === 'find-me');
  equal('a request', [line?.level, line?.message, line?.fields.route, line?.fields.status, line?.fields.method], ['info', 'request', '/v1/draw', '200', 'POST']);
  check('its job', /^[0-9a-f-]{36}$/.test(line.fields.job_id), line);
  check('in order', all.data.every((l, i) => i === 0 || Number(l.id) > Number(all.data[i - 1].id)) && all.next === null);
  check('no prompts', !JSON.stringify(all).includes('secret'));
  const warnings = (await s.get('/v1/system/logs?level=warn')).json.data;
  check('by level', warnings.length > 0 && warnings.every((l) => ['warn', 'error'].includes(l.level)) && warnings.some((l) => l.message.includes('failed')), warnings);
  equal('a tail', (await s.get('/v1/system/logs?tail=2')).json.data.map((l) => l.id), all.data.slice(-2).map((l) => l.id));
  equal('after one', (await s.get(`/v1/system/logs?after=${all.data.at(-3).id}`)).json.data.slice(0, 2).map((l) => l.id), all.data.slice(-2).map((l) => l.id));
  for (const q of ['tail=0', 'tail=1001', 'level=loud', 'after=-1', 'after=x'])
    equal(`refused: ${q}`, (await s.get(`/v1/system/logs?${q}`)).status, 400);
  const f = follow(s, '/v1/system/logs?tail=1', { Accept: 'text/event-stream' });
  await until(() => f.events.length === 1);
  equal('a stream begins with the tail', [f.status, f.type, f.events[0].event, f.events[0].id === f.events[0].data.id], [200, 'text/event-stream', 'log', true]);
  await s.get('/v1/jobs', { 'X-Request-Id': 'as-it-comes' });
  check('... and goes on', await until(() => f.events.find((e) => e.data.fields?.request_id === 'as-it-comes')));
  const last = f.events.at(-1).id;
  f.close();
  await s.get('/v1/jobs', { 'X-Request-Id': 'missed' });
  const again = follow(s, '/v1/system/logs', { Accept: 'text/event-stream', 'Last-Event-ID': last });
  check('... after a break too', await until(() => again.events.find((e) => e.data.fields?.request_id === 'missed')));
  check('... without what was seen', again.events.every((e) => Number(e.id) > Number(last)), again.events);
  again.close();
  await Promise.all(Array.from({ length: 2100 / 50 }, async () => { for (let i = 0; i < 50; i++) await s.get('/v1/session'); }));
  const late = follow(s, '/v1/system/logs', { Accept: 'text/event-stream', 'Last-Event-ID': '1' });
  check('lost lines are told', await until(() => late.events[0]?.event === 'lost'), late.events[0]);
  late.close();
  equal('lines at most', (await s.get('/v1/system/logs?tail=1000')).json.data.length, 1000);
}

async function traces(s) {
  const made = await s.post('/v1/draw?wait=20', fox, { traceparent: `00-${trace}-b7ad6b7169203331-01` });
  equal('a trace is kept', made.json.job.trace, trace);
  check('... and logged', (await s.get('/v1/system/logs')).json.data.some((l) => l.fields.trace_id === trace && l.fields.job_id === made.json.job.id));
  for (const bad of ['00-zz', `ff-${trace}-b7ad6b7169203331-01`, `00-${'0'.repeat(32)}-b7ad6b7169203331-01`, `00-${trace.toUpperCase()}-b7ad6b7169203331-01`,
    `00-${trace}-b7ad6b7169203331-01-more`, `00-${trace}-${'0'.repeat(16)}-01`])
    equal(`no trace: ${bad.slice(0, 12)}`, (await s.post('/v1/draw?wait=20', fox, { traceparent: bad })).json.job.trace, null);
}

async function facts(s) {
  const memory = (await s.get('/v1/system')).json.memory;
  check('memory', memory.total > 0 && Number.isInteger(memory.budget) && Number.isInteger(memory.models), memory);
  for (const m of (await s.get('/v1/models')).json.data)
    check(`what ${m.id} needs`, m.need >= m.bytes && ['now', 'after_unload', 'no'].includes(m.fits), m);
  const list = (await s.get('/v1/wildcards')).json;
  equal('wildcards', list.data.map((w) => [w.name, w.lines]), [['animals/cats', 2], ['colours', 3]]);
}

// The rules of Prometheus' text format 0.0.4 that `promtool check metrics` holds too, which is asked as
// well where it is installed (tools/setup.sh brings it).
async function metrics(s) {
  const r = await s.get('/metrics');
  check('metrics', r.status === 200 && r.headers.get('content-type').startsWith('text/plain; version=0.0.4') && r.text.endsWith('\n'), r.headers.get('content-type'));
  const types = new Map(), seen = new Set(), bad = [], groups = [];
  for (const line of r.text.trimEnd().split('\n')) {
    const meta = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line);
    if (meta) {
      if (meta[1] === 'TYPE' && (types.has(meta[2]) || !['counter', 'gauge', 'histogram'].includes(meta[3]))) bad.push(line);
      if (meta[1] === 'TYPE') types.set(meta[2], meta[3]);
      continue;
    }
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*\})? (-?[0-9.e+-]+|NaN|[+-]Inf)$/.exec(line);
    if (!sample || seen.has(line.slice(0, line.lastIndexOf(' ')))) { bad.push(line); continue; }
    seen.add(line.slice(0, line.lastIndexOf(' ')));
    const family = types.has(sample[1]) ? sample[1] : sample[1].replace(/_(bucket|sum|count)$/, '');
    const type = types.get(family);
    if (!type || (type === 'counter' && !family.endsWith('_total')) || (type === 'gauge' && family.endsWith('_total'))) bad.push(line);
    if (groups.at(-1) !== family) { if (groups.includes(family)) bad.push(`${line} (not beside its family)`); groups.push(family); }
  }
  equal('its format', bad, []);
  check('what is counted', ['limn_jobs_running', 'limn_workers'].every((n) => types.get(n) === 'gauge') && types.size > 15, [...types.keys()]);
  const promtool = spawnSync(process.env.PROMTOOL ?? 'promtool', ['check', 'metrics'], { input: r.text, encoding: 'utf8' });
  if (!promtool.error) equal('promtool agrees', [promtool.status, promtool.stdout + promtool.stderr], [0, '']);
}

// Keys: only admins see the log, and no key is in it.
async function guarded(models) {
  const dir = mkdtempSync(join(tmpdir(), 'limn-ops-'));
  const key = (scope) => /lk_\S+/.exec(spawnSync(LIMN, ['key', 'create', scope, scope, '--data-dir', dir]).stdout)[0];
  const [admin, infer] = [key('admin'), key('infer')];
  const s = await Server.start({ dir, args: ['--models-dir', models] });
  const as = (k) => ({ Authorization: `Bearer ${k}` });
  equal('the log is for admins', [(await s.get('/v1/system/logs')).status, (await s.get('/v1/system/logs', as(infer))).status], [401, 403]);
  await s.get('/v1/jobs?key=x', { 'X-Api-Key': infer });
  const seen = await s.get('/v1/system/logs', as(admin));
  check('it holds no keys', seen.status === 200 && !seen.text.includes(admin) && !seen.text.includes(infer) && seen.json.data.length > 0);
  await s.stop();
  s.remove();
}

run(async () => {
  const models = mkdtempSync(join(tmpdir(), 'limn-models-'));
  mkdirSync(join(models, 'wildcards/animals'), { recursive: true });
  writeFileSync(join(models, 'wildcards/colours.txt'), 'red\n\n# no colour\ngreen\n  blue  ');
  writeFileSync(join(models, 'wildcards/animals/cats.txt'), 'tiger\nlynx\n');
  writeFileSync(join(models, 'wildcards/readme.md'), 'x');
  symlinkSync('/etc/passwd', join(models, 'wildcards/link.txt'));
  const s = await Server.start({ args: ['--models-dir', models] });
  await traces(s);
  await facts(s);
  await metrics(s);
  await logs(s);
  await s.stop();
  s.remove();
  await guarded(models);
  rmSync(models, { recursive: true });
});
