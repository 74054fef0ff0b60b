// SPDX-License-Identifier: MIT
// The native interface as docs/API.md states it, against the stub engine: jobs, events, artifacts,
// lists, settings; and every example of the OpenAPI document is sent.
import { Server, check, equal, follow, png, run, until } from './harness.mjs';

const fox = { prompt: 'a fox', steps: 3, width: 64, height: 64, seed: 7 };

async function draws(s) {
  const made = await s.post('/v1/draw', { ...fox, job: { tags: ['b', 'a'] } });
  equal('202', made.status, 202);
  const id = made.json.job.id;
  equal('Location', made.headers.get('location'), `/v1/jobs/${id}`);
  check('id', /^[0-9a-f-]{36}$/.test(id));
  const done = await s.post('/v1/draw?wait=20', { ...fox, seed: -1, count: 2 });
  equal('waited', [done.status, done.json.job.state, done.json.job.artifacts.length], [200, 'succeeded', 2]);
  check('the seed is chosen', done.json.job.params.seed >= 0);
  equal('seeds count up', done.json.job.artifacts.map((a) => a.seed), [done.json.job.seed, done.json.job.seed + 1]);
  const again = await s.post('/v1/draw?wait=20', { ...fox });
  const first = (await s.get(`/v1/jobs/${id}`)).json.job;
  equal('the same seed gives the same picture', again.json.job.artifacts[0].id, first.artifacts[0].id);
  equal('tags are sorted', first.tags, ['a', 'b']);
  equal('a final job has no standing', [first.position, first.left_ms, first.progress, first.error], [null, null, null, null]);
  const failed = await s.post('/v1/draw?wait=20', { ...fox, prompt: 'stub:fail' });
  equal('a failure is told', [failed.json.job.state, failed.json.job.error.code], ['failed', 'numeric_error']);
  return first;
}

async function refusals(s) {
  const refused = async (name, body, status, code, param) => {
    const r = await s.post('/v1/draw', body);
    equal(name, [r.status, r.json?.error?.code, r.json?.error?.param], [status, code, param]);
  };
  await refused('steps 0', { ...fox, steps: 0 }, 400, 'value_out_of_range', 'steps');
  await refused('steps as text', { ...fox, steps: '5' }, 400, 'value_out_of_range', 'steps');
  await refused('width 7', { ...fox, width: 7 }, 400, 'value_out_of_range', 'width');
  await refused('width 2^31', { ...fox, width: 2 ** 31 }, 400, 'value_out_of_range', 'width');
  await refused('an unknown member', { ...fox, stepz: 5 }, 400, 'value_out_of_range', 'stepz');
  await refused('a path as a model', { ...fox, model: '/etc/passwd' }, 400, 'value_out_of_range', 'model');
  await refused('a path above', { ...fox, loras: ['../../secret:1'] }, 400, 'value_out_of_range', 'loras');
  await refused('a path in a prompt', { ...fox, prompt: 'a <lora:/etc/passwd:1>' }, 400, 'value_out_of_range', 'prompt');
  await refused('a path as a picture', { ...fox, init_image: '/etc/passwd' }, 400, 'value_out_of_range', 'init_image');
  await refused('a URL as a picture', { ...fox, init_image: 'http://169.254.169.254/' }, 400, 'value_out_of_range', 'init_image');
  await refused('an unknown artifact', { ...fox, init_image: `artifact:${'0'.repeat(64)}` }, 400, 'value_out_of_range', 'init_image');
  await refused('a bad job member', { ...fox, job: { nice: 1 } }, 400, 'unknown_field', 'job');
  await refused('job no object', { ...fox, job: 5 }, 400, 'value_out_of_range', 'job');
  await refused('17 tags', { ...fox, job: { tags: Array(17).fill('x') } }, 400, 'value_out_of_range', 'job');
  equal('1e309', (await s.post('/v1/draw', '{"prompt": "a", "cfg_scale": 1e309}')).status, 400);
  const edit = await s.post('/v1/edit', fox);
  equal('edit needs a picture', [edit.status, edit.json.error.param], [400, 'init_image']);
  equal('?wait=x', (await s.post('/v1/draw?wait=x', fox)).status, 400);
  equal('unknown job', (await s.get('/v1/jobs/01938e7c-2f6b-7c11-b0d5-4a3f9a6e1c22')).json.error.code, 'job_not_found');
  equal('no job id', (await s.get('/v1/jobs/..%2F..%2Fetc')).json.error.code, 'job_not_found');
  equal('unknown state', (await s.get('/v1/jobs?state=done')).status, 400);
  equal('limit 201', (await s.get('/v1/jobs?limit=201')).status, 400);
}

async function idempotency(s) {
  const key = { 'Idempotency-Key': 'once-1' };
  const a = await s.post('/v1/draw', fox, key), b = await s.post('/v1/draw', fox, key);
  equal('the same key and body: the same job', b.json.job.id, a.json.job.id);
  const c = await s.post('/v1/draw', { ...fox, steps: 4 }, key);
  equal('another body', [c.status, c.json.error.code], [422, 'idempotency_mismatch']);
}

async function lists(s, job) {
  const page = await s.get('/v1/jobs?limit=2');
  equal('page', [page.json.data.length, typeof page.json.next, page.json.data[0].params], [2, 'string', null]);
  const next = await s.get(`/v1/jobs?limit=2&after=${page.json.next}`);
  check('the next page is older', next.json.data[0].created <= page.json.data[1].created && next.json.data[0].id !== page.json.data[1].id);
  equal('by tag', (await s.get('/v1/jobs?tag=a&tag=b')).json.data.map((j) => j.id), [job.id]);
  check('by words', (await s.get('/v1/jobs?q=FOX')).json.data.length > 2);
  equal('by words that do not occur', (await s.get('/v1/jobs?q=elephant')).json.data, []);
  equal('by state', (await s.get('/v1/jobs?state=failed')).json.data.length, 1);
  const tagged = await s.call('PATCH', `/v1/jobs/${job.id}`, { tags: ['new'] });
  equal('tags change', tagged.json.job.tags, ['new']);
  equal('only tags change', (await s.call('PATCH', `/v1/jobs/${job.id}`, { state: 'queued' })).status, 400);
  const done = await s.post(`/v1/jobs/${job.id}/cancel`);
  equal('cancel what has ended', [done.status, done.json.error.code], [409, 'job_finished']);
  const params = (await s.get('/v1/params')).json;
  check('parameters', params.data.find((p) => p.name === 'init_image').flags.includes('image') && params.groups[0] === 'prompt');
  equal('schema', (await s.get('/v1/params/schema')).json.properties.steps.maximum, 1000);
  const text = (await s.post('/v1/params/format', fox)).json.text;
  equal('text and back', (await s.post('/v1/params/parse', { text })).json.params.seed, 7);
  equal('check', (await s.post('/v1/params/check', fox)).json.ok, true);
  equal('check refuses', (await s.post('/v1/params/check', { ...fox, steps: 0 })).status, 400);
  // What it would take: time as drawings before took it; the stub has no models, so no memory.
  const cost = (await s.post('/v1/params/check', fox)).json, twice = (await s.post('/v1/params/check', { ...fox, batch_size: 2 })).json;
  check('seconds', cost.seconds > 0 && Math.abs(twice.seconds / cost.seconds - 2) < 0.01);
  equal('images, memory', [cost.images, twice.images, cost.memory], [1, 2, null]);
  const { width: _w, ...base } = fox;
  const axes = [{ parameter: 'width', values: [64, 128] }, { parameter: 'seed', values: [1, 2, 3] }];
  const grid = (await s.post('/v1/grid/check', { params: base, axes })).json;
  equal('a grid of six', [grid.ok, grid.images], [true, 6]);
  check('as long as its cells', Math.abs(grid.seconds / cost.seconds - 9) < 0.01);
  equal('a grid that would be refused', (await s.post('/v1/grid/check', { params: base, axes: [{ parameter: 'width', values: [7] }] })).json.error.param, 'axes');
  equal('checking makes no job', (await s.get('/v1/jobs?kind=grid')).json.data, []);
  // What was made in the last hour is what the history says.
  const { throughput } = (await s.get('/v1/system')).json;
  const all = (await s.get('/v1/jobs?state=succeeded&limit=200')).json.data.filter((j) => j.lane === 'draw' && !/load/.test(j.kind));
  equal('throughput', [throughput.minutes, throughput.draw.jobs, throughput.draw.images, throughput.see.jobs],
    [60, all.length, all.reduce((n, j) => n + j.images, 0), 0]);
  check('busy', throughput.draw.busy_ms >= 0 && throughput.draw.busy_ms <= 3600000);
  for (const name of ['samplers', 'schedules', 'upscalers'])
    check(name, (await s.get(`/v1/${name}`)).json.data.every((c) => c.name && Array.isArray(c.aliases)));
  for (const name of ['models', 'loras', 'vaes', 'embeddings', 'styles'])
    check(name, Array.isArray((await s.get(`/v1/${name}`)).json.data));
  equal('models is OpenAI\'s list too', (await s.get('/v1/models')).json.object, 'list');
  equal('an unknown model', (await s.get('/v1/models/nope')).json.error.code, 'model_not_found');
}

// Parts of a file, as players of clips and downloads that go on ask for them.
async function parts(s, a) {
  const path = `${s.base}/v1/artifacts/${a.id}/file`;
  const whole = Buffer.from(await (await fetch(path)).arrayBuffer());
  const part = async (headers, method = 'GET') => { const r = await fetch(path, { method, headers }); return { status: r.status, range: r.headers.get('content-range'), tag: r.headers.get('etag'), bytes: Buffer.from(await r.arrayBuffer()) }; };
  const { tag } = await part({});
  for (const [range, from, to] of [['bytes=0-9', 0, 10], ['bytes=5-', 5, whole.length], ['bytes=-7', whole.length - 7, whole.length], [`bytes=3-${10 ** 12}`, 3, whole.length], [`bytes=-${10 ** 12}`, 0, whole.length], [`bytes=3-${'9'.repeat(30)}`, 3, whole.length]]) {
    const r = await part({ Range: range });
    equal(range, [r.status, r.range, r.bytes.equals(whole.subarray(from, to))], [206, `bytes ${from}-${to - 1}/${whole.length}`, true]);
  }
  for (const range of [`bytes=${whole.length}-`, `bytes=${'9'.repeat(30)}-`, 'bytes=-0']) {
    const r = await part({ Range: range });
    equal(range, [r.status, r.range, JSON.parse(r.bytes).error.code], [416, `bytes */${whole.length}`, 'range_not_satisfiable']);
  }
  for (const range of ['bytes=9-3', 'bytes=0-1,4-5', 'bytes=', 'bytes=a-b', 'bytes=5', 'bytes=5,7-8', 'lines=0-1']) {
    const r = await part({ Range: range }).catch((e) => ({ status: String(e) }));
    equal(`${range}: the whole`, [r.status, r.range, r.bytes?.equals(whole)], [200, null, true]);
  }
  equal('If-Range of this file', (await part({ Range: 'bytes=0-0', 'If-Range': tag })).status, 206);
  equal('of another one', (await part({ Range: 'bytes=0-0', 'If-Range': '"x"' })).status, 200);
  equal('HEAD', (await part({ Range: 'bytes=0-0' }, 'HEAD')).status, 200);
  equal('what is known already', [(await part({ 'If-None-Match': tag })).status, (await part({ 'If-None-Match': `"x", W/${tag}` })).status, (await part({ 'If-None-Match': '*' })).status, (await part({ 'If-None-Match': '"x"' })).status], [304, 304, 304, 200]);
}

async function artifacts(s, job) {
  const a = job.artifacts[0];
  const file = await s.fetch(a.url);
  const bytes = Buffer.from(await file.arrayBuffer());
  equal('file', [file.status, file.headers.get('content-type'), bytes.length], [200, 'image/png', a.bytes]);
  check('immutable', file.headers.get('cache-control').includes('immutable'));
  equal('ETag', (await s.fetch(a.url, { headers: { 'If-None-Match': file.headers.get('etag') } })).status, 304);
  const thumb = await s.fetch(a.thumbnail);
  equal('thumbnail', [thumb.status, thumb.headers.get('content-type')], [200, 'image/webp']);
  check('download', (await s.fetch(`${a.url}?download=1`)).headers.get('content-disposition').startsWith('attachment'));
  await parts(s, a);
  const facts = (await s.get(`/v1/artifacts/${a.id}`)).json;
  equal('recipe', [facts.recipe.seed, facts.artifact.id], [7, a.id]);
  const redo = await s.post('/v1/draw?wait=20', facts.recipe);
  equal('a recipe draws the same', redo.json.job?.artifacts[0].id ?? redo.text, a.id);
  for (const id of ['0'.repeat(64), 'x', '..%2f..%2fetc%2fpasswd', a.id.toUpperCase()])
    equal(`artifact ${id.slice(0, 8)}`, (await s.get(`/v1/artifacts/${id}/file`)).status, 404);
}

async function uploads(s) {
  const up = (bytes, type = 'image/png', path = '/v1/uploads') => s.call('POST', path, bytes, { 'Content-Type': type });
  const good = await up(png(24, 16, { text: 'a fox\nSteps: 5, Sampler: Euler a, Seed: 9, Size: 64x64, Wings: 2' }));
  equal('upload', [good.status, good.json.artifact.width, good.json.artifact.height, good.json.recipe?.seed], [201, 24, 16, 9]);
  check('unknown keys are told', good.json.unknown?.includes('Wings'));
  const used = await s.post('/v1/edit?wait=20', { ...fox, init_image: `artifact:${good.json.artifact.id}` });
  equal('... and used', [used.status, used.json.job?.artifacts.map((a) => a.role).sort()], [200, ['input', 'result']]);
  equal('recipe of a file', (await up(png(8, 8, { text: 'x\nSteps: 5, Sampler: Euler, CFG scale: 7, Seed: 3, Size: 64x64' }), 'image/png', '/v1/recipe')).json.recipe.seed, 3);
  equal('1 x 1', (await up(png(1, 1))).status, 201);
  const animation = [['acTL', Buffer.alloc(8)]];
  for (const [name, bytes, want, type] of [
    ['nothing', Buffer.alloc(0), 400], ['text', Buffer.from('hello'), 400], ['a script', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'), 400, 'image/svg+xml'],
    ['half a GIF', Buffer.from('4749463839610100010000', 'hex'), 400, 'image/gif'],
    ['a header of 65535 x 65535', png(65535, 65535, { rows: 1 }), 400], ['a bomb of 30000 x 30000', png(30000, 30000, { rows: 4 }), 400],
    ['0 x 0', png(0, 0), 400], ['an animation', png(8, 8, { extra: animation }), 400], ['cut off', png(64, 64).subarray(0, 20), 400],
    ['JSON', '{}', 415, 'application/json'],
  ]) {
    const r = await up(bytes, type ?? 'image/png');
    check(`upload of ${name}`, r.status === want || (want === 400 && r.status === 422), [r.status, r.text]);
    check(`... says nothing of libraries`, !/vips|png_|libpng|0x[0-9a-f]+/i.test(r.text), r.text);
  }
  equal('a picture above 32 MB', (await up(Buffer.concat([png(8, 8), Buffer.alloc(33554432)]))).status, 413);
  equal('64 MB and more', (await up(Buffer.alloc(67108865))).status, 413);
}

async function events(s) {
  const made = (await s.post('/v1/draw', { ...fox, seed: 21, prompt: 'stub:slow', steps: 4, job: { preview_every: 1 } })).json.job;
  const all = follow(s, '/v1/events');
  const one = follow(s, `/v1/jobs/${made.id}/events`);
  await one.end;
  equal('stream', [one.status, one.type], [200, 'text/event-stream']);
  const types = one.events.map((e) => e.event);
  check('the order', ['queued', 'started'].includes(types[0]) && types.at(-1) === 'done', types);
  check('progress comes', types.includes('progress') && one.events.some((e) => e.data.progress?.steps === 4), types);
  check('the picture comes', one.events.filter((e) => e.event === 'artifact').length === 1, types);
  check('the same in data', one.events.every((e) => e.data.type === e.event && e.data.id === e.id && e.data.job === made.id));
  const numbers = one.events.map((e) => Number(e.id));
  check('numbers rise', numbers.every((n, i) => i === 0 || n > numbers[i - 1]), numbers);
  const half = one.events[Math.floor(one.events.length / 2)].id;
  const rest = follow(s, `/v1/jobs/${made.id}/events`, { 'Last-Event-ID': half });
  await rest.end;
  check('goes on where it was', rest.events.length > 0 && rest.events.every((e) => Number(e.id) > Number(half)) && rest.events.at(-1).event === 'done', rest.events.map((e) => e.id));
  const none = follow(s, `/v1/jobs/${made.id}/events?previews=0`);
  await none.end;
  check('without previews', !none.events.some((e) => e.event === 'preview'));
  check('the stream of all jobs', await until(() => all.events.some((e) => e.data.job === made.id && e.event === 'done')), all.events.map((e) => e.event));
  all.close();
  equal('bad event id', (await s.get(`/v1/jobs/${made.id}/events`, { 'Last-Event-ID': 'x' })).status, 400);
}

async function cancelling(s) {
  const slow = { ...fox, prompt: 'stub:slow', steps: 1000 };
  const running = (await s.post('/v1/draw', slow)).json.job;
  const waiting = (await s.post('/v1/draw', { ...slow, seed: 8 })).json.job;
  equal('a waiting job has a place', (await s.get(`/v1/jobs/${waiting.id}`)).json.job.position !== null, true);
  equal('cancel waiting', (await s.post(`/v1/jobs/${waiting.id}/cancel`)).json.job.state, 'cancelled');
  await until(async () => (await s.get(`/v1/jobs/${running.id}`)).json.job.state !== 'queued');
  equal('delete what runs', (await s.call('DELETE', `/v1/jobs/${running.id}`)).status, 409);
  equal('cancel running', (await s.post(`/v1/jobs/${running.id}/cancel`)).status, 200);
  await until(async () => (await s.get(`/v1/jobs/${running.id}`)).json.job.state !== 'running');
  equal('... ends it', (await s.get(`/v1/jobs/${running.id}`)).json.job.state, 'cancelled');
  equal('delete', (await s.call('DELETE', `/v1/jobs/${running.id}`)).status, 204);
  equal('... is gone', (await s.get(`/v1/jobs/${running.id}`)).status, 404);
  const stop = new AbortController();
  const left = s.fetch('/v1/draw?wait=60', { method: 'POST', signal: stop.signal, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ ...slow, seed: 99, job: { keep: false, tags: ['left'] } }) }).catch(() => null);
  let job = await until(async () => (await s.get('/v1/jobs?tag=left')).json.data[0]);
  stop.abort();
  await left;
  job = await until(async () => { const now = (await s.get(`/v1/jobs/${job.id}`)).json.job; return !['queued', 'running'].includes(now.state) && now; });
  equal('a client that leaves cancels', job.state, 'cancelled');
}

async function settings(s) {
  const set = (body) => s.call('PATCH', '/v1/settings', body);
  equal('change', (await set({ queue_depth: 2 })).json.settings.queue_depth, 2);
  equal('unknown', (await set({ nope: 1 })).status, 400);
  equal('wrong', (await set({ queue_depth: 0 })).status, 400);
  equal('all or nothing', [(await set({ paused: true, nope: 1 })).status, (await s.get('/v1/settings')).json.settings.paused], [400, false]);
  await set({ paused: true });
  const statuses = [];
  for (let i = 0; i < 3; i++) statuses.push(await s.post('/v1/draw', { ...fox, seed: 100 + i }));
  equal('depth limit', statuses.map((r) => r.status), [202, 202, 429]);
  equal('... before any work', [statuses[2].json.error.code, Number(statuses[2].headers.get('retry-after')) > 0], ['queue_full', true]);
  equal('cancel all', (await s.post('/v1/jobs/cancel')).json.cancelled, 2);
  await set({ paused: false, queue_depth: 256 });
  equal('studio', (await s.call('PUT', '/v1/settings/studio', { theme: 'dark' })).status, 204);
  equal('... is kept', (await s.get('/v1/settings')).json.studio, { theme: 'dark' });
  equal('studio too large', (await s.call('PUT', '/v1/settings/studio', { x: 'a'.repeat(70000) })).status, 413);
}

// What a schema of the document says, checked to the depth that the document uses.
function fits(doc, schema, value, path = '') {
  if (schema.$ref) return fits(doc, doc.components.schemas[schema.$ref.split('/').pop()], value, path);
  if (schema.anyOf) return schema.anyOf.some((s) => fits(doc, s, value, path) === '') ? '' : `${path}: none of anyOf`;
  const type = value === null ? 'null' : Array.isArray(value) ? 'array' : Number.isInteger(value) ? 'integer' : typeof value;
  const types = schema.type ? [schema.type].flat() : null;
  if (types && !types.includes(type) && !(type === 'integer' && types.includes('number'))) return `${path}: ${type}, not ${types}`;
  if (schema.enum && !schema.enum.includes(value)) return `${path}: not in the enum`;
  if (schema.pattern && !new RegExp(schema.pattern).test(value)) return `${path}: not of the pattern`;
  for (const name of type === 'object' ? schema.required ?? [] : []) if (!(name in value)) return `${path}/${name}: missing`;
  for (const [name, s] of type === 'object' ? Object.entries(schema.properties ?? {}) : []) {
    const bad = name in value ? fits(doc, s, value[name], `${path}/${name}`) : '';
    if (bad) return bad;
  }
  for (const [i, v] of type === 'array' && schema.items ? value.entries() : []) {
    const bad = fits(doc, schema.items, v, `${path}/${i}`);
    if (bad) return bad;
  }
  return '';
}

async function openapi(s, job) {
  const doc = (await s.get('/v1/openapi.json')).json;
  equal('version', doc.openapi, '3.1.0');
  const refs = [...JSON.stringify(doc).matchAll(/#\/components\/schemas\/(\w+)/g)].map((m) => m[1]);
  check('every $ref leads somewhere', refs.every((r) => doc.components.schemas[r]), refs.filter((r) => !doc.components.schemas[r]));
  const ids = Object.values(doc.paths).flatMap((p) => Object.values(p).map((o) => o.operationId));
  equal('operation ids are unique', new Set(ids).size, ids.length);
  let sent = 0;
  for (const [path, item] of Object.entries(doc.paths)) {
    for (const [method, op] of Object.entries(item)) {
      const example = op.requestBody?.content?.['application/json']?.example;
      const answer = Object.entries(op.responses).find(([k]) => k !== 'default');
      const schema = answer[1].content?.['application/json']?.schema;
      const readable = method === 'get' && !path.includes('{') && !/events|\/ws$/.test(path);
      if (!example && !(readable && path.startsWith('/v1'))) continue;
      const r = await s.call(method.toUpperCase(), path, example);
      sent++;
      check(`${method} ${path}: ${answer[0]}`, r.status === Number(answer[0]), [r.status, r.text.slice(0, 200)]);
      if (schema) equal(`${method} ${path}: the schema`, fits(doc, schema, r.json), '');
    }
  }
  check('examples were sent', sent > 20, sent);
  equal('a job fits its schema', fits(doc, doc.components.schemas.Job, job), '');
  const docs = await s.get('/docs');
  check('docs', docs.status === 200 && docs.text.includes('/v1/draw') && !/https?:\/\//.test(docs.text));
}

async function restart(s) {
  const made = (await s.post('/v1/draw', { ...fox, prompt: 'stub:slow', steps: 50, seed: 5 })).json.job;
  await s.stop('SIGKILL');
  const again = await Server.start({ dir: s.dir, args: ['--stub-ms', '1'] });
  check('a job survives kill -9', await until(async () => (await again.get(`/v1/jobs/${made.id}`)).json.job?.state === 'succeeded'));
  equal('settings survive', (await again.get('/v1/settings')).json.studio, { theme: 'dark' });
  equal('clean end', (await again.stop()).code, 0);
}

run(async () => {
  const s = await Server.start({ args: ['--stub-ms', '1'] });
  equal('session', (await s.get('/v1/session')).json, { auth: 'off', signed_in: true, owner: '', scopes: ['read', 'infer', 'admin'], version: (await s.get('/v1/system')).json.version });
  const job = await draws(s);
  await refusals(s);
  await idempotency(s);
  await lists(s, job);
  await artifacts(s, job);
  await uploads(s);
  await events(s);
  await cancelling(s);
  await settings(s);
  await openapi(s, job);
  const metrics = (await s.get('/metrics')).text;
  check('metrics', /limn_jobs_ended_total\{state="succeeded"\} [1-9]/.test(metrics) && metrics.includes('route="/v1/draw"'));
  equal('ready', (await s.get('/readyz')).json, { status: 'ok' });
  await restart(s);
  s.remove();
});
