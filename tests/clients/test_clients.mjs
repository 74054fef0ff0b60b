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
import { Server, check, equal, run, png } from '../server/harness.mjs';

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
  // Neither the stub nor the small bundled model can judge: the SDK must hear that, and not try again.
  const e501 = await failure(client.moderations.create({ input: 'x', model: real ? model : undefined }));
  check('no moderation, typed', e501 instanceof OpenAI.APIError && e501.status === 501 && e501.code === 'not_implemented', String(e501));
  return client;
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
  await done;
  socket.close();
  check('a WebSocket hears it', heard.includes('subscribed') && heard.includes('started'), heard);
}

await run(async () => {
  const s = await Server.start(real ? { args: ['--engine', 'engine'] } : {});
  try {
    const model = real ? (await s.get('/v1/models')).json.data.find((m) => m.kind === 'see').id : 'any';
    const client = await openai(s, model);
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
