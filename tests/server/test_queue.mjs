// SPDX-License-Identifier: MIT
// The queue over HTTP: lanes, moving, skipping, pictures of running jobs, deleting and taking it back.
import { Server, check, equal, follow, run, until } from './harness.mjs';

const fox = { prompt: 'a fox', width: 64, height: 64, steps: 2, seed: 7 };
const slow = { ...fox, prompt: 'stub:slow', steps: 1000 }; // 100 ms each: longer than any test
const make = async (s, body = fox, path = '/v1/draw') => (await s.post(path, body)).json.job;
const job = async (s, id) => (await s.get(`/v1/jobs/${id}`)).json.job;
const runs = (s, id) => until(async () => (await job(s, id)).state === 'running');

async function lanes(s) {
  const drawing = await make(s, slow);
  check('a drawing runs', await runs(s, drawing.id));
  const answer = await s.post('/v1/see?wait=10', { prompt: 'what is here' });
  equal('a question is answered meanwhile', [answer.status, answer.json.job.state, answer.json.job.lane], [200, 'succeeded', 'see']);
  const chat = await s.post('/v1/chat/completions', { model: 'stub', messages: [{ role: 'user', content: 'hello' }] });
  equal('so is a chat', [chat.status, chat.json.choices?.[0].message.role], [200, 'assistant']);
  const now = await job(s, drawing.id);
  equal('the drawing goes on', [now.state, now.lane], ['running', 'draw']);
  equal('/slots count the lane of questions', (await s.get('/slots')).json.map((x) => x.is_processing), [false]);
  await s.post(`/v1/jobs/${drawing.id}/cancel`);
}

async function moving(s) {
  const first = await make(s, slow);
  await runs(s, first.id);
  const ids = [];
  for (let i = 0; i < 4; i++) ids.push((await make(s, { ...fox, seed: i })).id);
  const change = (i, body) => s.call('PATCH', `/v1/jobs/${ids[i]}`, body);
  const places = async () => Promise.all(ids.map(async (id) => (await job(s, id)).position));
  equal('as they came', await places(), [0, 1, 2, 3]);
  const f = follow(s, `/v1/jobs/${ids[3]}/events`);
  const moved = await change(3, { position: 0 });
  equal('to the front', [moved.status, moved.json.job.position, await places()], [200, 0, [1, 2, 3, 0]]);
  check('readers hear of it', await until(() => f.events.filter((e) => e.event === 'queued').length >= 2));
  f.close();
  await change(3, { position: 1000 });
  equal('to the end', await places(), [0, 1, 2, 3]);
  const high = await change(2, { priority: 10, tags: ['soon'] });
  equal('priority and tags', [high.json.job.priority, high.json.job.tags, await places()], [10, ['soon'], [1, 2, 0, 3]]);
  for (const [name, body] of [['nothing', {}], ['a text', { position: 'first' }], ['below 0', { position: -1 }], ['a half', { position: 0.5 }],
    ['too high', { priority: 101 }], ['2^40', { priority: 2 ** 40 }], ['other members', { position: 0, state: 'queued' }], ['null', { priority: null }]])
    equal(`refused: ${name}`, [(await change(0, body)).status, await places()], [400, [1, 2, 0, 3]]);
  const busy = await s.call('PATCH', `/v1/jobs/${first.id}`, { position: 0 });
  equal('what runs has no place', [busy.status, busy.json.error.code], [409, 'conflict']);
  equal('nor has what is not there', (await s.call('PATCH', '/v1/jobs/00000000-0000-7000-8000-000000000000', { position: 0 })).status, 404);
  await s.post('/v1/jobs/cancel');
  await s.post(`/v1/jobs/${first.id}/cancel`);
}

async function skipping(s) {
  const made = await make(s, { ...fox, prompt: 'stub:slow', count: 3, steps: 20, seed: 40 });
  await runs(s, made.id);
  await until(async () => (await job(s, made.id)).progress?.step >= 1);
  equal('skip', (await s.post(`/v1/jobs/${made.id}/skip`)).status, 200);
  const end = await until(async () => { const j = await job(s, made.id); return j.state === 'succeeded' && j; });
  // usually the first is skipped; a slow machine may be at another one
  check('the others are drawn', end?.artifacts.length === 2 && end.artifacts.every((a) => a.seed >= 40 && a.seed <= 42), end?.artifacts.map((a) => a.seed));
  const late = await s.post(`/v1/jobs/${made.id}/skip`);
  equal('skip what has ended', [late.status, late.json.error.code], [409, 'conflict']);
  const answer = s.post('/sdapi/v1/txt2img', { prompt: 'stub:slow', n_iter: 2, steps: 20, width: 64, height: 64, seed: 50 });
  await until(async () => (await s.get('/sdapi/v1/progress')).json.state.sampling_step >= 1);
  equal('skip as A1111 has it', (await s.post('/sdapi/v1/skip')).json, {});
  const r = await answer;
  equal('... ends one picture', [r.status, r.json.images?.length], [200, 1]);
  equal('skip when nothing runs', (await s.post('/sdapi/v1/skip')).status, 200);
}

async function early(s) {
  const made = await make(s, { ...fox, prompt: 'stub:slow', count: 2, steps: 40, seed: 60 });
  const f = follow(s, `/v1/jobs/${made.id}/events`);
  const event = await until(() => f.events.find((e) => e.event === 'artifact'));
  const a = event.data.artifact;
  const [file, thumb, facts, running] = await Promise.all([s.fetch(a.url), s.fetch(a.thumbnail), s.get(`/v1/artifacts/${a.id}`), job(s, made.id)]);
  equal('file, thumbnail and facts of a running job', [file.status, thumb.status, facts.status, facts.json.recipe?.seed], [200, 200, 200, 60]);
  equal('the job shows it', [running.state, running.artifacts.map((x) => x.id)], ['running', [a.id]]);
  await f.end;
  equal('once, when it has ended', (await job(s, made.id)).artifacts.length, 2);
}

async function undoing(s) {
  const { id, artifacts: [a] } = (await s.post('/v1/draw?wait=20', { ...fox, seed: 70 })).json.job;
  equal('delete', (await s.call('DELETE', `/v1/jobs/${id}`)).status, 204);
  equal('is gone', [(await s.get(`/v1/jobs/${id}`)).status, (await s.get(a.url)).status, (await s.call('DELETE', `/v1/jobs/${id}`)).status], [404, 404, 404]);
  const trash = (await s.get('/v1/jobs?deleted=1')).json.data;
  check('is listed as deleted', trash.length === 1 && trash[0].id === id && trash[0].deleted > 0, trash);
  const back = await s.post(`/v1/jobs/${id}/restore`);
  equal('restore', [back.status, back.json.job.deleted, (await s.fetch(a.url)).status], [200, null, 200]);
  equal('restore what is there', (await s.post(`/v1/jobs/${id}/restore`)).status, 404);
  equal('delete a picture', (await s.call('DELETE', `/v1/jobs/${id}/artifacts/${a.id}`)).status, 204);
  const without = await job(s, id);
  equal('the job stays', [without.state, without.artifacts, (await s.get(a.url)).status], ['succeeded', [], 404]);
  const none = await s.call('DELETE', `/v1/jobs/${id}/artifacts/${a.id}`);
  equal('delete it again', [none.status, none.json.error.code], [404, 'artifact_not_found']);
  const again = await s.post(`/v1/jobs/${id}/artifacts/${a.id}/restore`);
  equal('restore the picture', [again.status, again.json.job.artifacts.map((x) => x.id), (await s.fetch(a.url)).status], [200, [a.id], 200]);
  equal('for ever', (await s.call('DELETE', `/v1/jobs/${id}?forever=1`)).status, 204);
  equal('no way back', (await s.post(`/v1/jobs/${id}/restore`)).status, 404);
  const running = await make(s, slow);
  await runs(s, running.id);
  equal('delete what runs', (await s.call('DELETE', `/v1/jobs/${running.id}`)).status, 409);
  await s.post(`/v1/jobs/${running.id}/cancel`);
  check('it ends', await until(async () => (await job(s, running.id)).state === 'cancelled'));
  // how long is a setting that acts at once: without any time, nothing can be taken back
  const set = async (trash_hours) => (await s.call('PATCH', '/v1/settings', { trash_hours })).json;
  equal('no trash', (await set(0)).settings.trash_hours, 0);
  const gone = (await s.post('/v1/draw?wait=20', { ...fox, seed: 71 })).json.job;
  await s.call('DELETE', `/v1/jobs/${gone.id}`);
  equal('deleted is gone', (await s.post(`/v1/jobs/${gone.id}/restore`)).status, 404);
  equal('trash again', (await set(24)).settings.trash_hours, 24);
  equal('below none', (await set(-1)).error.param, 'trash_hours');
  for (const path of ['/artifacts/x', `/artifacts/${'0'.repeat(64)}`])
    equal(`no such picture ${path.slice(0, 13)}`, (await s.call('DELETE', `/v1/jobs/${running.id}${path}`)).status, 404);
}

run(async () => {
  const s = await Server.start({ args: ['--stub-ms', '1'] });
  await lanes(s);
  await moving(s);
  await skipping(s);
  await early(s);
  await undoing(s);
  equal('stops', await s.stop(), { code: 0, signal: null });
  s.remove();
});
