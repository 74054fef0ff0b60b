// SPDX-License-Identifier: MIT
// The server with the real engine and tiny models of random weights (tests/golden): a drawing, the
// same again, a picture from a picture, all of it through every interface, and an answer.
import { Server, check, equal, follow, png, run, sleep } from './harness.mjs';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { deflateSync } from 'node:zlib';
import { join } from 'node:path';

const golden = process.env.LIMN_GOLDEN_DIR ?? 'tests/golden';
const models = mkdtempSync(join(tmpdir(), 'limn-models-'));
mkdirSync(join(models, 'checkpoints'));
mkdirSync(join(models, 'LLM'));
cpSync(join(golden, 'pipe/sd1'), join(models, 'checkpoints/tiny'), { recursive: true });
cpSync(join(golden, 'tiny_see'), join(models, 'LLM/tiny-see'), { recursive: true });
const bundled = new URL('../../models/', import.meta.url).pathname;
symlinkSync(join(bundled, 'mini-see'), join(models, 'LLM/mini-see'));

const fox = { prompt: 'a fox', steps: 3, width: 64, height: 64, seed: 7, model: 'tiny' };

async function native(s) {
  const made = (await s.post('/v1/draw', { ...fox, job: { preview_every: 1 } })).json;
  check('accepted', made.job, made);
  const stream = follow(s, `/v1/jobs/${made.job.id}/events`);
  await stream.end;
  const done = stream.events.at(-1).data.state;
  equal('drawn', [done.state, done.error, done.artifacts.length], ['succeeded', null, 1]);
  const stages = new Set(stream.events.filter((e) => e.event === 'progress').map((e) => e.data.progress.stage));
  check('stages', stages.has('denoise'), [...stages]);
  const again = (await s.post('/v1/draw?wait=60', fox)).json.job;
  equal('the same bits', again.artifacts[0].id, done.artifacts[0].id);
  const recipe = (await s.get(`/v1/artifacts/${done.artifacts[0].id}`)).json;
  check('the recipe is complete', recipe.recipe.seed === 7 && recipe.recipe.model === 'tiny' && recipe.text.includes('Seed: 7'), recipe);
  const redo = (await s.post('/v1/draw?wait=60', recipe.recipe)).json.job;
  equal('the recipe draws it again', redo?.artifacts[0].id, done.artifacts[0].id);
  const edit = (await s.post('/v1/edit?wait=60', { ...fox, strength: 0.5, init_image: `artifact:${done.artifacts[0].id}` })).json.job;
  equal('from a picture', [edit.state, edit.artifacts.filter((a) => a.role === 'result').length], ['succeeded', 1]);
  const up = (await s.post('/v1/upscale?wait=60', { image: `artifact:${done.artifacts[0].id}`, upscaler: 'Lanczos', upscale: 2 })).json.job;
  equal('upscaled', up.artifacts.find((a) => a.role === 'result')?.width, 128);
  const grid = (await s.post('/v1/grid?wait=60', { params: fox, axes: [{ parameter: 'steps', values: [1, 2] }] })).json.job;
  equal('grid', [grid.state, grid.artifacts.map((a) => a.role).sort()], ['succeeded', ['result', 'result', 'sheet']]);
  for (const [name, change, status] of [['sampler', { sampler: 'Nope' }, 400], ['model', { model: 'nope' }, 404], ['size', { width: 60 }, 400], ['lora', { loras: ['nope'] }, 404]]) {
    const r = await s.post('/v1/draw', { ...fox, ...change });
    check(`unknown ${name} is refused before it is a job`, r.status === status, [r.status, r.text]);
  }
  const tokens = await s.post('/v1/tokens', { text: 'a fox', model: 'tiny' });
  check('tokens', tokens.json.count > 0, tokens.text);
  const used = async (text) => (await s.post('/v1/tokens', { text, model: 'tiny' })).json.used;
  equal('tokens of each chunk', await used('a fox'), [tokens.json.count]);
  equal('syntax is no token', await used('a (fox:1.3) <lora:nope:0.5>'), [tokens.json.count]);
  equal('BREAK begins a chunk', await used('a fox BREAK a fox'), [tokens.json.count, tokens.json.count]);
  equal('the longest wording counts', await used('a [fox|fox fox]'), await used('a fox fox'));
  check('a wildcard without a file counts as it stands', (await used('a __nope__'))[0] > tokens.json.count, await used('a __nope__'));
  equal('model', (await s.get('/v1/models')).json.data.find((m) => m.id === 'tiny')?.loaded, true);
  equal('what is ready', (await s.get('/v1/system')).json.model?.id, 'tiny');
  const load = (await s.post('/v1/models/load?wait=60', { model: 'tiny' })).json.job;
  equal('load', load.state, 'succeeded');
  equal('unload', (await s.post('/v1/models/unload?wait=60', { model: 'tiny' })).json.job.state, 'succeeded');
  check('no path in what is told', !JSON.stringify([await s.get('/v1/models'), await s.get('/v1/models/tiny/info'), recipe]).includes(models));
  return done.artifacts[0];
}

async function sdapi(s, first) {
  const set = await s.post('/sdapi/v1/options', { sd_model_checkpoint: 'tiny' });
  equal('options choose the model', [set.status, (await s.get('/sdapi/v1/options')).json.sd_model_checkpoint], [200, 'tiny']);
  const r = await s.post('/sdapi/v1/txt2img', { ...fox, cfg_scale: 7, sampler_name: 'Euler a' });
  equal('txt2img', [r.status, r.json.images?.length], [200, 1]);
  const info = JSON.parse(r.json.info);
  equal('info', [info.seed, info.sampler_name, info.steps, info.sd_model_name], [7, 'Euler a', 3, 'tiny']);
  const again = await s.post('/sdapi/v1/img2img', { ...fox, sampler_name: 'Euler a', init_images: r.json.images, mask: r.json.images[0], denoising_strength: 0.6 });
  equal('img2img', again.status, 200);
  const text = (await s.post('/sdapi/v1/png-info', { image: r.json.images[0] })).json;
  equal('png-info', text.parameters.Seed, '7');
  const file = Buffer.from(await (await s.fetch(first.url)).arrayBuffer()).toString('base64');
  const extra = await s.post('/sdapi/v1/extra-single-image', { image: file, upscaler_1: 'Lanczos', upscaling_resize: 2 });
  equal('extras', extra.status, 200);
}

async function seeing(s, first) {
  const answer = (await s.post('/v1/see?wait=60', { prompt: 'What is it?', images: [`artifact:${first.id}`], model: 'tiny-see', max_tokens: 4, seed: 1 })).json;
  equal('an answer', [answer.job?.state, typeof answer.job?.result?.text], ['succeeded', 'string']);
  // A clip, a document and a picture; and the turn after it, whose beginning is known.
  const upload = async (name, type) => `artifact:${(await s.call('POST', '/v1/uploads',
    readFileSync(new URL(`../../fuzz/corpus/media/${name}`, import.meta.url)), { 'Content-Type': type })).json.artifact.id}`;
  const files = [await upload('a.mp4', 'video/mp4'), await upload('s.pdf', 'application/pdf'), `artifact:${first.id}`];
  const ask = { files, frames: 2, pages: '1', dpi: 20, image_max_tokens: 16, model: 'tiny-see', max_tokens: 4, seed: 1 };
  const mixed = (await s.post('/v1/see?wait=60', { ...ask, prompt: 'What is it?' })).json.job;
  equal('a clip, a document, a picture', [mixed.state, mixed.error], ['succeeded', null]);
  check('all were seen', mixed.result.usage.image_tokens > answer.job.result.usage.image_tokens, mixed.result.usage);
  const { files: none, ...rest } = ask;
  const next = (await s.post('/v1/see?wait=60', { ...rest, prompt: 'And now?', messages: [
    ...mixed.params.messages, { role: 'assistant', content: mixed.result.text }] })).json.job;
  equal('the next turn', [next.state, next.error], ['succeeded', null]);
  check('it is longer', next.result.usage.prompt_tokens > mixed.result.usage.prompt_tokens, next.result.usage);
  const late = (await s.post('/v1/see?wait=60', { ...ask, pages: '7', prompt: 'What is it?' })).json.job;
  for (const [body, words] of [[{ categories: ['fox'] }, /\/task: ask takes no categories/], [{ task: 'boxes', policy: '{}' }, /\/task: task boxes takes no policy/], [{ task: 'caption', format: 'csv' }, /has no format csv/]]) {
    const r = await s.post('/v1/see', { ...ask, ...(body.task ? {} : { prompt: 'What is it?' }), ...body });
    equal(`refused at once: ${JSON.stringify(body)}`, [r.status, words.test(r.text)], [400, true], r.text);
  }
  equal('a page that is not there', [late.state, late.error.code], ['failed', 'value_out_of_range']);
  check('without a path', !late.error.message.includes('/'), late.error.message);
  const words = await s.post('/sdapi/v1/interrogate', { image: Buffer.from(await (await s.fetch(first.url)).arrayBuffer()).toString('base64'), model: 'clip' });
  check('interrogate', [200, 404].includes(words.status), [words.status, words.text]); // 404: no model is the default
}

// A TIFF of one-bit pages, all but the last of 24 x 16; the last a square, packed so that the file is small.
function scan(pages, side) {
  const strip = deflateSync(Buffer.alloc(side / 8 * side, 0x55)), small = Buffer.alloc(48, 0x40), first = 8 + small.length + strip.length + strip.length % 2;
  const parts = [Buffer.from([0x49, 0x49, 42, 0, ...u32(first)]), small, strip, Buffer.alloc(strip.length % 2)];
  for (let i = 0; i < pages; i++) {
    const last = i === pages - 1, [w, h, packing, at, size] = last ? [side, side, 8, 8 + small.length, strip.length] : [24, 16, 1, 8, small.length];
    const entries = [[256, w], [257, h], [258, 1], [259, packing], [262, 1], [273, at], [278, h], [279, size]];
    parts.push(Buffer.from([entries.length, 0, ...entries.flatMap(([tag, v]) => [tag & 255, tag >> 8, 4, 0, 1, 0, 0, 0, ...u32(v)]),
      ...u32(last ? 0 : first + (i + 1) * (6 + 12 * entries.length))]));
  }
  return Buffer.concat(parts);
}
const u32 = (v) => [v & 255, v >> 8 & 255, v >> 16 & 255, v >>> 24];

// A page that is too large hinders no question about the others, is named by every one about itself, and is not decoded.
async function largePage(s) {
  const file = scan(3, 16000), up = await s.call('POST', '/v1/uploads', file, { 'Content-Type': 'image/tiff' });
  equal('a document', [up.status, up.json.media?.kind, up.json.media?.total], [201, 'document', 3]);
  const before = s.rss(), ask = { files: [`artifact:${up.json.artifact.id}`], image_max_tokens: 16, model: 'tiny-see', max_tokens: 4, seed: 1 };
  const page = /page 3: .*16000 x 16000 pixels, at most/;
  const end = async (body) => { const j = (await s.post('/v1/see?wait=60', { ...ask, ...body })).json.job; return [j.state, j.error?.code ?? null, page.test(j.error?.message ?? '')]; };
  equal('pages before it', await end({ prompt: 'What is it?', pages: '1-2' }), ['succeeded', null, false]);
  equal('all pages', await end({ prompt: 'What is it?' }), ['failed', 'value_out_of_range', true]);
  equal('it alone', await end({ prompt: 'What is it?', pages: '3' }), ['failed', 'value_out_of_range', true]);
  equal('a document task', await end({ task: 'document' }), ['failed', 'value_out_of_range', true]);
  equal('a document task on the others', await end({ task: 'document', pages: '1-2' }), ['succeeded', null, false]);
  const chat = await s.post('/v1/chat/completions', { model: 'tiny-see', max_tokens: 4, messages: [{ role: 'user', content: [
    { type: 'file', file: { file_data: `data:image/tiff;base64,${file.toString('base64')}` } }, { type: 'text', text: 'What is it?' }] }] });
  equal('in a chat', [chat.status, page.test(chat.text)], [400, true], chat.text);
  const shown = async (n) => (await s.fetch(`/v1/artifacts/${up.json.artifact.id}/page?n=${n}`)).status;
  equal('pages as pictures', [await shown(1), await shown(3)], [200, 400]);
  equal('a thumbnail', (await s.fetch(`/v1/artifacts/${up.json.artifact.id}/thumbnail`)).status, 200);
  const edit = await s.post('/v1/edit?wait=60', { ...fox, strength: 0.5, init_image: ask.files[0] });
  equal('drawn over its first page', edit.json.job?.state, 'succeeded', edit.text);
  check('memory', (s.rss() - before) < 300e6, [before, s.rss()]);
}

// A question is answered while a long drawing goes on, and neither changes the other.
async function lanes(s, first) {
  const long = { ...fox, steps: 300, seed: 11 };
  const question = { prompt: 'What is it?', images: [`artifact:${first.id}`], model: 'tiny-see', max_tokens: 6, temperature: 0, seed: 1 };
  const state = async (id) => (await s.get(`/v1/jobs/${id}`)).json.job;
  // A slow machine takes more than a minute: the end is awaited, however long that is.
  const ended = async (path, body) => {
    let job = (await s.post(`${path}?wait=60`, body)).json.job;
    while (job.state === 'queued' || job.state === 'running') { await sleep(20); job = await state(job.id); }
    return job;
  };
  const alone = [(await ended('/v1/draw', long)).artifacts[0].id, (await ended('/v1/see', question)).result.text];
  const drawing = (await s.post('/v1/draw', long)).json.job;
  let before = await state(drawing.id);
  while (before.state === 'queued' || !(before.progress?.step > 0)) before = await state(drawing.id);
  const answer = await ended('/v1/see', question);
  let after = await state(drawing.id);
  check('the drawing had not ended when the answer came', after.state === 'running', [before.progress, after.state]);
  // One answer may be quicker than a step: asked again and again, the drawing must not stand still.
  for (let turn = 0; turn < 50 && after.state === 'running' && after.progress.step === before.progress.step; turn++) {
    await ended('/v1/see', question);
    after = await state(drawing.id);
  }
  check('... and went on meanwhile', after.state !== 'running' || after.progress.step > before.progress.step, [before.progress, after.progress]);
  const { state: end, artifacts: [picture] } = (await (async () => { let j; do j = await state(drawing.id); while (j.state === 'running'); return j; })());
  equal('both say the same as alone', [end, picture.id, answer.result?.text], ['succeeded', ...alone]);
}

// Categories of OpenAI from a model of random weights: scores that add up, and nobody else's name.
async function moderation(s, first) {
  const ask = (body) => s.post('/v1/moderations', { model: 'tiny-see', ...body });
  const file = Buffer.from(await (await s.fetch(first.url)).arrayBuffer()).toString('base64');
  const picture = await ask({ input: [{ type: 'image_url', image_url: { url: `data:image/png;base64,${file}` } }] });
  equal('a picture', [picture.status, picture.json.results?.length, picture.json.model], [200, 1, 'tiny-see']);
  for (const r of picture.json.results ?? []) {
    const names = Object.keys(r.categories);
    equal('thirteen categories', [names.length, Object.keys(r.category_scores), Object.keys(r.category_applied_input_types)], [13, names, names]);
    check('scores are shares', Object.values(r.category_scores).every((p) => p >= 0 && p <= 1), r.category_scores);
    equal('flags follow from scores', names.map((n) => r.categories[n]), names.map((n) => r.category_scores[n] >= 0.5));
    equal('flagged', r.flagged, Object.values(r.categories).some(Boolean));
    equal('what was applied', [r.category_applied_input_types.violence, r.category_applied_input_types.hate], [['image'], []]);
  }
  // Random weights want to say neither true nor false of a text: no score is made of that.
  const text = await ask({ input: ['you are a fool', 'a nice day'] });
  equal('a text that the model does not judge', [text.status, text.json.error?.code], [501, 'not_implemented']);
  const refused = async (name, body, status, code) => {
    const r = await s.post('/v1/moderations', body);
    equal(name, [r.status, r.json.error?.code], [status, code]);
  };
  // A model that was taught categories of its own answers with these, to who names it, and says what it did not judge.
  const input = [{ type: 'image_url', image_url: { url: `data:image/png;base64,${file}` } }], theirs = Object.keys(picture.json.results[0].categories);
  const own = ['weapon', 'alcohol', 'tobacco', 'gambling', 'medical'];
  const seen = (await s.post('/v1/moderations', { model: 'mini-see', input })).json.results?.[0];
  equal('its own categories', [Object.keys(seen.categories), Object.keys(seen.category_scores), Object.values(seen.category_applied_input_types)], [own, own, own.map(() => ['image'])]);
  equal("none of OpenAI's, by name", seen.not_judged, theirs);
  check('its scores are shares of one picture', own.every((n) => seen.category_scores[n] >= 0) && own.reduce((a, n) => a + seen.category_scores[n], 0) <= 1.001, seen.category_scores);
  await refused('a text', { input: 'x', model: 'mini-see' }, 501, 'not_implemented');
  await refused('a text beside a picture', { input: [...input, { type: 'text', text: 'x' }], model: 'mini-see' }, 501, 'not_implemented');
  const policy = join(models, 'LLM/tiny-see/moderation.json');
  const judged = async (categories) => { writeFileSync(policy, JSON.stringify({ categories })); return (await ask({ input })).json.results?.[0]; };
  const both = await judged([{ name: 'violence', description: 'blood' }, 'paint']);
  equal("one of OpenAI's is judged", [both.not_judged.length, both.not_judged.includes('violence')], [12, false]);
  const [name, p] = Object.entries(both.category_scores).sort((a, b) => b[1] - a[1])[0];
  for (const [threshold, flagged] of [[Math.max(p / 2, 1e-9), p > 0], [Math.min(2 * p + 1e-9, 1), p === 1]]) {
    const r = await judged([['violence', 'blood'], ['paint', '']].map(([n, description]) => ({ name: n, description, threshold: n === name ? threshold : 1 })));
    equal(`from ${threshold} on`, [r.categories[name], r.flagged], [flagged, flagged]);
  }
  for (const broken of ['{', '{"categories": []}', '{"categories": [5]}', '{"categories": [{"name": "a", "threshold": 2}]}']) {
    writeFileSync(policy, broken);
    await refused(`a file of the operator that is ${broken}`, { model: 'tiny-see', input }, 422, 'bad_file');
  }
  rmSync(policy);
  await refused('an unknown model', { input: 'x', model: 'nobody' }, 404, 'model_not_found');
  await refused('no input', { model: 'tiny-see' }, 400, 'value_out_of_range');
  await refused('nothing in it', { model: 'tiny-see', input: [] }, 400, 'value_out_of_range');
  await refused('too many', { model: 'tiny-see', input: Array(33).fill('x') }, 400, 'value_out_of_range');
  await refused('mixed', { model: 'tiny-see', input: ['x', { type: 'text', text: 'y' }] }, 400, 'value_out_of_range');
  await refused('a number', { model: 'tiny-see', input: 5 }, 400, 'value_out_of_range');
}

// Models that cannot call tools by themselves (random weights; a small one whose template knows none) call
// them when they must, in the form that is asked for; the same for answers in JSON.
async function forms(s, first) {
  const parameters = { type: 'object', properties: { colour: { $ref: '#/$defs/colour' }, count: { type: 'integer', minimum: 1, maximum: 9 } }, required: ['colour', 'count'],
    additionalProperties: false, $defs: { colour: { enum: ['red', 'green'] } } };
  const tools = [{ type: 'function', function: { name: 'paint', description: 'paints', parameters } }, { type: 'function', function: { name: 'stop', parameters: { type: 'object', properties: {}, additionalProperties: false } } }];
  const messages = [{ role: 'user', content: 'paint it' }];
  const fits = (x) => ['red', 'green'].includes(x.colour) && Number.isInteger(x.count) && x.count >= 1 && x.count <= 9 && Object.keys(x).length === 2;
  for (const model of ['tiny-see', 'mini-see']) {
    const base = { model, messages, max_tokens: 200, temperature: 0, seed: 1 };
    const called = await s.post('/v1/chat/completions', { ...base, tools, tool_choice: { type: 'function', function: { name: 'paint' } } });
    const c = called.json.choices?.[0], call = c?.message.tool_calls?.[0];
    check(`${model} calls what it must`, called.status === 200 && c.finish_reason === 'tool_calls' && call?.function.name === 'paint' && fits(JSON.parse(call.function.arguments)), called.text);
    const any = await s.post('/v1/chat/completions', { ...base, tools, tool_choice: 'required' });
    check(`${model} calls one of them`, ['paint', 'stop'].includes(any.json.choices?.[0].message.tool_calls?.[0].function.name), any.text);
    const free = await s.post('/v1/chat/completions', { ...base, tools, max_tokens: 4 });
    equal(`${model} and tools that it may call`, [free.status, free.json.error?.code, free.json.error?.param], model === 'mini-see' ? [501, 'not_implemented', 'tools'] : [200, undefined, undefined], free.text);
    equal(`${model} and tools that it may not call`, (await s.post('/v1/chat/completions', { ...base, tools, tool_choice: 'none', max_tokens: 4 })).status, 200);
    const json = await s.post('/v1/chat/completions', { ...base, response_format: { type: 'json_schema', json_schema: { name: 'x', schema: parameters } } });
    check(`${model} keeps to a schema`, fits(JSON.parse(json.json.choices?.[0].message.content ?? 'null') ?? {}), json.text);
    const nobody = await s.post('/v1/chat/completions', { ...base, response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { $ref: '#' } } } });
    check(`${model}: a form that refers to itself alone`, nobody.status === 400, [nobody.status, nobody.text]);
  }
  const marked = await s.post('/tokenize', { content: '<|im_start|>system', model: 'tiny-see' });
  const control = await s.post('/tokenize', { content: '<|im_start|>', model: 'tiny-see' });
  check('control words of users are text', marked.json.tokens.length > 2 && control.json.tokens.length > 1, marked.text);
  const long = await s.post('/v1/chat/completions', { model: 'tiny-see', messages: [{ role: 'user', content: 'word '.repeat(30000) }], max_tokens: 4 });
  equal('more than the context holds', [long.status, long.json.error?.code], [400, 'context_length_exceeded']);
}

// A picture that a tool gives back is seen where it stands: it costs its tokens there, is known the next
// time, and is not taken for another of the same size.
async function toolPictures(s) {
  const image = (file) => ({ type: 'image_url', image_url: { url: `data:image/png;base64,${file.toString('base64')}` } });
  const [page, crop, other] = [png(64, 64), png(96, 64, { noise: true }), png(96, 64)];
  const tools = [{ type: 'function', function: { name: 'zoom', parameters: { type: 'object', properties: { box: { type: 'array' } } } } }];
  const ask = async (result) => {
    const r = await s.post('/v1/chat/completions', { model: 'tiny-see', tools, max_tokens: 6, temperature: 0, seed: 1, messages: [
      { role: 'user', content: [image(page), { type: 'text', text: 'What does it say?' }] },
      { role: 'assistant', content: null, tool_calls: [{ id: 'c1', type: 'function', function: { name: 'zoom', arguments: '{"box": [0, 0, 500, 500]}' } }] },
      { role: 'tool', tool_call_id: 'c1', content: result }] });
    equal('a tool result', r.status, 200, r.text);
    const { prompt_tokens: all, prompt_tokens_details: d } = r.json.usage;
    return { all, images: d.image_tokens, cached: d.cached_tokens, text: JSON.stringify(r.json.choices[0].message) };
  };
  const words = [{ type: 'text', text: 'the crop' }];
  const without = await ask(words), first = await ask([image(crop), ...words]);
  equal('64 x 64 and 96 x 64 pixels', [without.images, first.images], [4, 10]);
  equal('a picture stands between two marks', first.all - without.all, 6 + 2);
  const again = await ask([image(crop), ...words]), others = await ask([image(other), ...words]);
  equal('it is known the next time', [again.cached, again.text], [first.all - 1, first.text]);
  check('another is not taken for it', others.all === first.all && others.cached < first.all - 6 - 2, [others.cached, first.all]);
}

// Jobs on documents: what the pages say one by one, and values in their form.
async function tasks(s) {
  const file = `data:application/pdf;base64,${readFileSync(new URL('../../fuzz/corpus/media/s.pdf', import.meta.url)).toString('base64')}`;
  const see = async (body) => {
    const job = (await s.post('/v1/see?wait=60', { files: [file], dpi: 20, model: 'tiny-see', max_tokens: 8, seed: 1, ...body })).json.job;
    equal(`${body.task} ${body.format ?? ''}`, [job?.state, job?.error], ['succeeded', null]);
    return job.result;
  };
  for (const [format, mark] of [['markdown', '\n\n---\n\n'], ['html', '\n<hr>\n'], ['csv', '\n\n']]) {
    const whole = await see({ task: 'document', format }), pages = [];
    for (const page of ['1', '2', '3']) pages.push((await see({ task: 'document', format, pages: page })).text);
    equal(`pages as ${format}`, whole.text, pages.join(mark));
    equal('each is named', whole.pictures.map((p) => p.page), [1, 2, 3]);
  }
  const keys = await see({ task: 'extract', format: 'json', pages: '1', keys: ['total', 'date of birth'], max_tokens: 160 });
  equal('values by key', Object.keys(keys.data), ['total', 'date of birth']);
  const schema = { type: 'object', properties: { kind: { const: 'invoice' }, n: { type: 'integer', minimum: 3, maximum: 3 } }, required: ['kind', 'n'], additionalProperties: false };
  equal('values by schema', (await see({ task: 'extract', format: 'json', pages: '1', schema: JSON.stringify(schema), max_tokens: 60 })).data, { kind: 'invoice', n: 3 });
}

async function tokens(s) {
  const words = 'What is it? Grüße 🦊';
  const ids = (await s.post('/tokenize', { content: words, model: 'tiny-see' })).json.tokens;
  check('tokens', ids.length > 3);
  equal('and back', (await s.post('/detokenize', { tokens: ids, model: 'tiny-see' })).json, { content: words });
  equal('none', (await s.post('/detokenize', { tokens: [], model: 'tiny-see' })).json, { content: '' });
  const props = async () => (await s.get('/props')).json, model = (await props()).model_alias;
  equal('the default model opens', (await s.post('/v1/models/load?wait=60', { model })).json.job?.state, 'succeeded');
  const context = (await props()).default_generation_settings.n_ctx;
  const template = readFileSync(new URL('../../models/mini-see/chat_template.jinja', import.meta.url), 'utf8');
  const told = await props(), own = model === 'mini-see';
  equal('its chat template', [told.chat_template, told.chat_template_caps.supports_tools], own ? [template, false] : ['', true]);
  check('the context of an open model', context > 0 && (await s.get('/slots')).json[0].n_ctx === context, [model, context]);
  equal('an unknown token', (await s.post('/detokenize', { tokens: [2147483647], model: 'tiny-see' })).status, 400);
  equal('no list', (await s.post('/detokenize', { tokens: 'x', model: 'tiny-see' })).status, 400);
  const names = (await s.get('/v1/models')).json.data.map((m) => m.id);
  equal('every name once', names.length, new Set(names).size);
  check('also the bundled one of the folder', names.includes('mini-see'), names);
  await s.post('/v1/models/refresh', {});
  equal('and after another look', (await s.get('/v1/models')).json.data.map((m) => m.id), names);
}

run(async () => {
  const s = await Server.start({ engine: true, args: ['--models-dir', models] });
  const first = await native(s);
  await sdapi(s, first);
  await seeing(s, first);
  await largePage(s);
  await moderation(s, first);
  await forms(s, first);
  await toolPictures(s);
  await tasks(s);
  await tokens(s);
  await lanes(s, first);
  equal('clean end', (await s.stop()).code, 0);
  s.remove();
  rmSync(models, { recursive: true });
});
