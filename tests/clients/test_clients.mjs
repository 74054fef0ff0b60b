// SPDX-License-Identifier: MIT
// Clients that people use, unchanged, against a limn of this test's own: the OpenAI SDK, the AI SDK's
// compatible provider, a client of AUTOMATIC1111, plain SSE and WebSocket packages.
//     node test_clients.mjs            the stub engine: every shape, in seconds
//     node test_clients.mjs engine     the bundled models: real pictures, real answers
import OpenAI, { toFile } from 'openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, streamText } from 'ai';
import { createParser } from 'eventsource-parser';
import WebSocket from 'ws';
import { createConfig, lintFromString } from '@redocly/openapi-core';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { Server, check, equal, run, png, within } from '../server/harness.mjs';

const real = process.argv[2] === 'engine';
const sd = createRequire(import.meta.url)('stable-diffusion-api').default;
const sdwebui = createRequire(import.meta.url)('node-sd-webui').default;
const size = real ? '128x128' : '64x64';
const isPng = (b64) => Buffer.from(b64, 'base64').subarray(1, 4).toString() === 'PNG';

async function failure(promise) {
  try { await promise; } catch (e) { return e; }
  return null;
}

async function openai(s, model) {
  const client = new OpenAI({ baseURL: `${s.base}/v1`, apiKey: 'none' });
  const models = [];
  for await (const m of client.models.list()) models.push(m.id);
  check('models', Array.isArray(models));
  const question = { model, messages: [{ role: 'user', content: 'hello there' }], max_tokens: 16, temperature: 0 };
  const answer = await client.chat.completions.create(question);
  check('chat', typeof answer.choices[0].message.content === 'string' && answer.usage.completion_tokens > 0, answer);
  const pieces = [];
  const live = client.chat.completions.stream({ ...question, stream_options: { include_usage: true } });
  live.on('content', (piece) => pieces.push(piece));
  const whole = await live.finalChatCompletion();
  equal('streamed text', pieces.join(''), whole.choices[0].message.content);
  equal('streamed text is the same answer', whole.choices[0].message.content, answer.choices[0].message.content);
  check('streamed usage', whole.usage.total_tokens > 0, whole.usage);
  const seen = await client.chat.completions.create({
    model, max_tokens: 24, messages: [{ role: 'user', content: [
      { type: 'text', text: 'What is this?' },
      { type: 'image_url', image_url: { url: `data:image/png;base64,${png(128, 128).toString('base64')}` } }] }] });
  check('a picture', typeof seen.choices[0].message.content === 'string', seen);
  const response = await client.responses.create({ model, input: 'hello', max_output_tokens: 16 });
  check('responses', typeof response.output_text === 'string', response);
  const heard = [];
  const told = client.responses.stream({ model, input: 'hello', max_output_tokens: 16 });
  told.on('response.output_text.delta', (e) => heard.push(e.delta));
  const final = await told.finalResponse();
  equal('responses in pieces', heard.join(''), final.output_text);
  const e404 = await failure(client.images.generate({ prompt: 'x', model: real ? 'no-such-model' : '/no/path', size }));
  check('a typed error', real ? e404 instanceof OpenAI.NotFoundError : e404 instanceof OpenAI.BadRequestError, e404?.constructor?.name);
  const e400 = await failure(client.chat.completions.create({ model, messages: [] }));
  check('a typed error of a wrong value', e400 instanceof OpenAI.BadRequestError && e400.param === 'messages', String(e400));
  // Neither the stub nor the small bundled model can judge a text: the SDK must hear that, and not try again.
  const e501 = await failure(client.moderations.create({ input: 'x', model: real ? model : undefined }));
  if (real) {
    // A picture of a die by the bundled model, judged by the other one: gambling, and nothing about what it was not taught.
    const die = (await client.images.generate({ prompt: 'a die', size, seed: 3 })).data[0].b64_json;
    const judged = (await client.moderations.create({ model, input: [{ type: 'image_url', image_url: { url: `data:image/png;base64,${die}` } }] })).results[0];
    check('a picture is judged', judged.flagged && judged.categories.gambling && judged.category_scores.gambling > 0.5 && judged.categories.medical === false, judged);
    check('... and what was not', !('violence' in judged.categories) && judged.not_judged.includes('violence'), judged);
  }
  check('no moderation, typed', e501 instanceof OpenAI.APIError && e501.status === 501 && e501.code === 'not_implemented', String(e501));
  return client;
}

const media = (name, mime) => `data:${mime};base64,${readFileSync(new URL(`../../fuzz/corpus/media/${name}`, import.meta.url)).toString('base64')}`;

// What issue and reference list of chat: several answers, stops, probabilities, tools, forms, clips, documents.
async function chatFeatures(client, model) {
  const base = { model, messages: [{ role: 'user', content: 'hello there' }], max_tokens: 16, temperature: 0, seed: 3 };
  const chat = (more) => client.chat.completions.create({ ...base, ...more });
  equal('n', (await chat({ n: 2, temperature: 1 })).choices.map((c) => [c.index, c.message.role]), [[0, 'assistant'], [1, 'assistant']]);
  const whole = (await chat({})).choices[0].message.content;
  const stopped = await chat({ stop: [whole.trim().split(' ').at(-1)] });
  check('stop', stopped.choices[0].finish_reason === 'stop' && (!real || !stopped.choices[0].message.content.endsWith(whole.trim().split(' ').at(-1))), stopped.choices[0]);
  const odds = (await chat({ logprobs: true, top_logprobs: 3 })).choices[0].logprobs;
  check('logprobs', odds.refusal === null && Array.isArray(odds.content) && (!real || (odds.content.length > 0 && odds.content.every((t) => t.logprob <= 0 && t.top_logprobs.length === 3 && t.bytes.length > 0))), odds);
  // the same in pieces, and of several choices at once
  const livePieces = client.chat.completions.stream({ ...base, n: 2, logprobs: true, top_logprobs: 3, stream_options: { include_usage: true } });
  const both = await livePieces.finalChatCompletion(), alike = (list) => list.map((t) => [t.token, t.bytes]);
  equal('n in a stream', both.choices.map((c) => [c.index, c.message.role, typeof c.message.content, typeof c.finish_reason]), [[0, 'assistant', 'string', 'string'], [1, 'assistant', 'string', 'string']]);
  equal('... text as in a whole answer', both.choices.map((c) => c.message.content), [whole, whole]);
  check('... usage of all', both.usage.completion_tokens > 0 && both.usage.completion_tokens_details.reasoning_tokens >= 0, both.usage);
  equal('logprobs in a stream', both.choices.map((c) => alike(c.logprobs?.content ?? [])), [alike(odds.content), alike(odds.content)]);
  const form = { type: 'object', properties: { colour: { type: 'string', enum: ['red', 'green'] }, count: { type: 'integer', minimum: 1, maximum: 9 } }, required: ['colour', 'count'], additionalProperties: false };
  const tools = [{ type: 'function', function: { name: 'paint', description: 'paints it', parameters: form } }];
  for (const tool_choice of ['required', { type: 'function', function: { name: 'paint' } }]) {
    const called = (await chat({ tools, tool_choice, max_tokens: 64 })).choices[0];
    const call = called.message.tool_calls[0];
    check('tools', called.finish_reason === 'tool_calls' && call.id && call.type === 'function' && call.function.name === 'paint' && (!real || form.properties.colour.enum.includes(JSON.parse(call.function.arguments).colour)), called);
  }
  const live = client.chat.completions.stream({ ...base, tools, tool_choice: 'required', max_tokens: 64 });
  const made = (await live.finalChatCompletion()).choices[0].message.tool_calls;
  equal('tools in a stream', made.map((c) => c.function.name), ['paint']);
  const goOn = { tools, messages: [...base.messages, { role: 'assistant', content: null, tool_calls: made.map(({ id, type, function: f }) => ({ id, type, function: { name: f.name, arguments: f.arguments } })) },
    { role: 'tool', tool_call_id: made[0].id, content: 'done' }] };
  // the bundled model was not taught tools: it is forced to a call, or says that it cannot
  const after = await chat(real ? { ...goOn, tool_choice: 'none' } : goOn);
  check('... and their answers', after.choices[0].message.role === 'assistant');
  const untaught = real && await chat(goOn).catch((e) => e);
  check('a model without tools, typed', !real || (untaught instanceof OpenAI.APIError && untaught.status === 501 && untaught.code === 'not_implemented' && untaught.param === 'tools'), String(untaught));
  const json = (await chat({ response_format: { type: 'json_object' }, max_tokens: 200 })).choices[0];
  check('json_object', !real || json.finish_reason === 'length' || typeof JSON.parse(json.message.content) === 'object', json);
  const shaped = await chat({ response_format: { type: 'json_schema', json_schema: { name: 'paint', strict: true, schema: form } }, max_tokens: 64 });
  check('json_schema', !real || form.properties.colour.enum.includes(JSON.parse(shaped.choices[0].message.content).colour), shaped.choices[0]);
  const see = async (name, part) => {
    const r = await chat({ max_tokens: 4, messages: [{ role: 'user', content: [{ type: 'text', text: 'What is it?' }, part] }] });
    check(name, typeof r.choices[0].message.content === 'string' && (!real || r.usage.prompt_tokens_details.image_tokens > 0) && 'cached_tokens' in r.usage.prompt_tokens_details, r);
  };
  await see('video_url', { type: 'video_url', video_url: { url: media('a.mp4', 'video/mp4') } });
  await see('input_video', { type: 'input_video', input_video: { data: media('a.mp4', 'video/mp4') } });
  await see('a PDF file', { type: 'file', file: { filename: 's.pdf', file_data: media('s.pdf', 'application/pdf') } });
}

// The events of a streamed response in OpenAI's order, and its pieces.
async function responseEvents(client, model) {
  const kinds = [];
  for await (const e of await client.responses.create({ model, input: [{ role: 'user', content: [{ type: 'input_text', text: 'hello' },
    { type: 'input_image', image_url: `data:image/png;base64,${png(32, 32).toString('base64')}`, detail: 'low' }] }], max_output_tokens: 8, stream: true })) {
    equal('numbers of events', e.sequence_number, kinds.length);
    kinds.push(e.type);
  }
  const middle = kinds.filter((k) => k !== 'response.output_text.delta');
  equal('events of a response', [middle.slice(0, 4), middle.slice(-4)], [['response.created', 'response.in_progress', 'response.output_item.added', 'response.content_part.added'],
    ['response.output_text.done', 'response.content_part.done', 'response.output_item.done', middle.at(-1)]]);
  if (real) {
    const ask = { model, input: 'hello', max_output_tokens: 8, temperature: 0, include: ['message.output_text.logprobs'], top_logprobs: 2 };
    const whole = (await client.responses.create(ask)).output[0].content[0].logprobs, pieces = [];
    for await (const e of await client.responses.create({ ...ask, stream: true })) if (e.type === 'response.output_text.delta') pieces.push(...e.logprobs);
    check('probabilities of a response', whole.length > 0 && whole.every((t) => t.logprob <= 0 && t.top_logprobs.length === 2), whole);
    equal('... in pieces', pieces.map((t) => t.token), whole.map((t) => t.token));
  }
  check('its end', ['response.completed', 'response.incomplete'].includes(middle.at(-1)), middle);
  const called = await client.responses.create({ model, input: 'x', max_output_tokens: 64, tool_choice: 'required', tools: [{ type: 'function', name: 'go', strict: true, parameters: { type: 'object', properties: {}, required: [], additionalProperties: false } }] });
  equal('tools of a response', [called.output[0].type, called.output[0].name], ['function_call', 'go']);
}

// Errors as the SDK types them, and what it reads from headers.
async function failures(s, client, model) {
  const types = [
    ['a wrong value', () => client.chat.completions.create({ model, messages: [{ role: 'user', content: 'x' }], temperature: 3 }), OpenAI.BadRequestError, 400],
    ['no such response', () => client.responses.retrieve('resp_none'), OpenAI.NotFoundError, 404],
    ['no such model', () => client.models.retrieve('nobody'), OpenAI.NotFoundError, 404],
  ];
  for (const [name, ask, type, status] of types) {
    const e = await failure(ask());
    check(`error: ${name}`, e instanceof type && e.status === status && typeof e.code === 'string' && typeof e.type === 'string' && e.requestID, String(e));
  }
  const again = { headers: { 'Idempotency-Key': 'clients-1' } };
  await client.chat.completions.create({ model, messages: [{ role: 'user', content: 'a' }], max_tokens: 2 }, again);
  const other = await failure(client.chat.completions.create({ model, messages: [{ role: 'user', content: 'b' }], max_tokens: 2 }, again));
  check('error: another body of one key', other instanceof OpenAI.UnprocessableEntityError && other.code === 'idempotency_mismatch', String(other));
  const few = await Server.start({ args: ['--rate-limit', '5'] });
  const limited = new OpenAI({ baseURL: `${few.base}/v1`, apiKey: 'none', maxRetries: 0 });
  const question = { model: 'any', messages: [{ role: 'user', content: 'x' }] };
  const { response } = await limited.chat.completions.create(question).withResponse();
  equal('rate headers', ['limit', 'remaining', 'reset'].map((n) => response.headers.get(`x-ratelimit-${n}-requests`) !== null), [true, true, true]);
  const refused = await failure(Promise.all([1, 2, 3].map(() => limited.chat.completions.create(question))));
  check('error: too often', refused instanceof OpenAI.RateLimitError && Number(refused.headers.get('retry-after')) > 0, String(refused));
  await few.stop();
  few.remove();
}

async function pictures(client) {
  const made = await client.images.generate({ prompt: 'a red apple', size, n: 2 });
  equal('pictures', made.data.map((d) => isPng(d.b64_json)), [true, true]);
  const stream = await client.images.generate({ prompt: 'a red apple', size, stream: true, partial_images: 2 });
  const kinds = [];
  for await (const event of stream) kinds.push(event.type);
  equal('the last event is the picture', kinds.at(-1), 'image_generation.completed');
  check('partial pictures come before', kinds.length > 1, kinds);
  const edited = await client.images.edit({
    image: await toFile(png(128, 128), 'a.png', { type: 'image/png' }), prompt: 'a red apple', size });
  check('an edited picture', isPng(edited.data[0].b64_json));
  const masked = await client.images.edit({ image: await toFile(png(128, 128), 'a.png', { type: 'image/png' }), mask: await toFile(png(128, 128, { colour: 6 }), 'm.png', { type: 'image/png' }),
    prompt: 'a red apple', size, stream: true, partial_images: 1 });
  const edits = [];
  for await (const event of masked) edits.push(event.type);
  check('an edit in a stream', edits.at(-1) === 'image_edit.completed' && edits.slice(0, -1).every((k) => k === 'image_edit.partial_image'), edits);
  const varied = await client.images.createVariation({ image: await toFile(png(128, 128), 'a.png', { type: 'image/png' }), n: 1, size });
  check('a variation', isPng(varied.data[0].b64_json));
  const wrong = await failure(client.images.edit({ image: await toFile(Buffer.from('hello'), 'a.png', { type: 'image/png' }), prompt: 'x' }));
  const pair = await Promise.all(['a.png', 'b.png'].map((name) => toFile(png(64, 64), name, { type: 'image/png' })));
  const two = await failure(client.images.edit({ image: pair, prompt: 'x' }));
  check('error: two pictures', two instanceof OpenAI.BadRequestError && two.param === 'image', String(two));
  check('error: no picture', wrong instanceof OpenAI.BadRequestError && wrong.param === 'image', String(wrong));
}

async function aiSdk(s, model) {
  const provider = createOpenAICompatible({ name: 'limn', baseURL: `${s.base}/v1`, includeUsage: true });
  const { text, usage } = await generateText({ model: provider(model), prompt: 'hello there', maxOutputTokens: 16 });
  check('AI SDK text', text.length > 0 && usage.totalTokens > 0, { text, usage });
  const live = streamText({ model: provider(model), prompt: 'hello there', maxOutputTokens: 16 });
  let said = '';
  for await (const piece of live.textStream) said += piece;
  check('AI SDK stream', said.length > 0, said);
  const drawn = await provider.imageModel('').doGenerate({ prompt: 'a fox', n: 1, size, providerOptions: {} });
  check('AI SDK picture', isPng(drawn.images[0]));
}

async function a1111(s) {
  const client = new sd({ host: '127.0.0.1', port: s.port, protocol: 'http' });
  const made = await client.txt2img({ prompt: 'a fox', width: 64, height: 64, steps: 2, seed: 7 });
  check('A1111 txt2img', made.images.length === 1 && JSON.parse(made.info).seed === 7, made.info);
  check('A1111 lists', (await client.getSamplers()).length > 10 && Array.isArray(await client.getSdModels()));
  check('A1111 options', typeof (await client.getOptions()) === 'object');
  check('A1111 progress', typeof (await client.getProgress()).progress === 'number');
}

async function sdWebui(s) {
  const client = sdwebui({ apiUrl: s.base });
  const made = await client.txt2img({ prompt: 'a fox', width: 64, height: 64, steps: 2, seed: 7, batchSize: 2 });
  check('node-sd-webui txt2img', made.images.length === 2 && isPng(made.images[0]), made.info);
  const again = await client.img2img({ imageData: [made.images[0]], prompt: 'a fox at night', width: 64, height: 64, steps: 2, denoisingStrength: 0.5 });
  check('node-sd-webui img2img', again.images.length === 1 && isPng(again.images[0]));
  const facts = await client.pngInfo({ imageData: made.images[0] });
  check('node-sd-webui pngInfo', facts.prompt === 'a fox' && facts.steps === 2, facts);
}

// The document as others read it: no error and no warning of the recommended rules (but one: errors are
// described once, as "default").
async function lint(s) {
  const config = await createConfig({ extends: ['recommended'], rules: { 'operation-4xx-response': 'off' } });
  const source = (await s.get('/v1/openapi.json')).text;
  const found = await lintFromString({ source, absoluteRef: 'openapi.json', config });
  equal('the OpenAPI document is clean', found.map((p) => `${p.ruleId}: ${p.message} ${p.location[0]?.pointer}`), []);
}

async function events(s) {
  const types = [];
  const made = await s.post('/v1/draw', { prompt: 'a fox', width: 64, height: 64, steps: 3, seed: 7 });
  const parser = createParser({ onEvent: (e) => types.push([e.event, JSON.parse(e.data).type]) });
  const r = await s.fetch(`/v1/jobs/${made.json.job.id}/events`);
  const decoder = new TextDecoder();
  for await (const part of r.body) parser.feed(decoder.decode(part, { stream: true }));
  check('events by a parser of others', types.length > 0 && types.every(([a, b]) => a === b) && types.at(-1)[0] === 'done', types);
  const socket = new WebSocket(`ws://127.0.0.1:${s.port}/v1/ws`);
  await new Promise((resolve, reject) => { socket.on('open', resolve); socket.on('error', reject); });
  const heard = [];
  const done = new Promise((resolve) => socket.on('message', (m) => { const e = JSON.parse(m); heard.push(e.type); if (e.type === 'done') resolve(); }));
  socket.send(JSON.stringify({ op: 'subscribe', job: '*', after: null, previews: false }));
  await s.post('/v1/draw', { prompt: 'an owl', width: 64, height: 64, steps: 3, seed: 8 });
  await within(done, 'the end of a job over a WebSocket');
  socket.close();
  check('a WebSocket hears it', heard.includes('subscribed') && heard.includes('started'), heard);
}

await run(async () => {
  const s = await Server.start(real ? { args: ['--engine', 'engine'] } : {});
  try {
    const model = real ? (await s.get('/v1/models')).json.data.find((m) => m.kind === 'see').id : 'any';
    const client = await openai(s, model);
    await chatFeatures(client, model);
    await responseEvents(client, model);
    await failures(s, client, model);
    await pictures(client);
    await aiSdk(s, model);
    await a1111(s);
    await sdWebui(s);
    await lint(s);
    await events(s);
  } finally {
    await s.stop();
    s.remove();
  }
});
