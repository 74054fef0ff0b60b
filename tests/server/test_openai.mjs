// SPDX-License-Identifier: MIT
// The OpenAI routes against the stub engine: shapes, streams, limits, errors. What the SDKs make of
// them is tests/clients.
import { Server, check, equal, run, until, png } from './harness.mjs';

const uri = (bytes, mime = 'image/png') => `data:${mime};base64,${Buffer.from(bytes).toString('base64')}`;
const ask = (text, more = {}) => ({ model: 'any', messages: [{ role: 'user', content: text }], ...more });

// The data of an event stream, in order; the last of a chat is "[DONE]".
async function stream(server, path, body) {
  const r = await server.fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
  check(`${path} streams`, r.headers.get('content-type')?.startsWith('text/event-stream'), r.headers.get('content-type'));
  const text = await r.text();
  return text.split('\n\n').filter((e) => e.includes('data: ')).map((e) => {
    const lines = Object.fromEntries(e.split('\n').filter((l) => !l.startsWith(':')).map((l) => [l.slice(0, l.indexOf(': ')), l.slice(l.indexOf(': ') + 2)]));
    return { event: lines.event, data: lines.data === '[DONE]' ? '[DONE]' : JSON.parse(lines.data) };
  });
}

async function chat(s) {
  const r = await s.post('/v1/chat/completions', ask('hello there'));
  equal('chat', r.status, 200);
  equal('chat text', r.json.choices[0].message, { role: 'assistant', content: 'You said: hello there', refusal: null });
  equal('chat object', [r.json.object, r.json.model, r.json.choices[0].finish_reason, r.json.choices[0].logprobs], ['chat.completion', 'any', 'stop', null]);
  check('chat id', /^chatcmpl-[0-9a-f-]{36}$/.test(r.json.id), r.json.id);
  equal('chat usage adds up', r.json.usage.total_tokens, r.json.usage.prompt_tokens + r.json.usage.completion_tokens);
  const three = await s.post('/v1/chat/completions', ask('a', { n: 3, seed: 4 }));
  equal('three choices', three.json.choices.map((c) => c.index), [0, 1, 2]);
  const parts = await s.post('/v1/chat/completions', ask([{ type: 'text', text: 'what is this' }, { type: 'image_url', image_url: { url: uri(png(8, 8)), detail: 'low' } }]));
  equal('a picture', [parts.status, parts.json.choices?.[0].message.content], [200, 'You said: what is this']);
  const jobs = await s.get('/v1/jobs?kind=see&limit=1');
  equal('it is a job', [jobs.json.data[0].source, jobs.json.data[0].artifacts.length], ['openai', 1]);
  const turns = await s.post('/v1/chat/completions', {
    model: 'any', tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'object' } } }], messages: [
      { role: 'developer', content: 'be brief' }, { role: 'user', content: 'call' },
      { role: 'assistant', content: null, tool_calls: [{ id: 'c1', type: 'function', function: { name: 'f', arguments: '{}' } }] },
      { role: 'tool', tool_call_id: 'c1', content: '7' }] });
  equal('tools', turns.status, 200, turns.text);
}

// Tools that must be called are, in the form that they ask for; what nobody could keep to is refused.
async function forms(s) {
  const tool = (name, parameters) => ({ type: 'function', function: { name, parameters } });
  const tools = [tool('look', { type: 'object', properties: { where: { type: 'string' } }, required: ['where'] }), tool('go')];
  const called = async (name, tool_choice, want) => {
    const r = await s.post('/v1/chat/completions', ask('x', { tools, tool_choice }));
    const c = r.json.choices?.[0];
    equal(name, [r.status, c?.finish_reason, c?.message.content, c?.message.tool_calls?.[0].function.name], [200, 'tool_calls', null, want]);
  };
  await called('any tool', 'required', 'look');
  await called('that tool', { type: 'function', function: { name: 'go' } }, 'go');
  const flat = [{ type: 'function', name: 'go', parameters: { type: 'object', properties: {} } }];
  const response = await s.post('/v1/responses', { model: 'any', input: 'x', tools: flat, tool_choice: { type: 'function', name: 'go' } });
  equal('in responses', [response.status, response.json.output?.[0].type, response.json.output?.[0].name], [200, 'function_call', 'go']);
  const events = await stream(s, '/v1/chat/completions', ask('x', { tools, tool_choice: 'required', stream: true }));
  const call = events.map((e) => e.data.choices?.[0]?.delta.tool_calls?.[0]).find(Boolean);
  equal('in a stream', [call?.index, call?.function.name, call?.function.arguments, events.at(-2).data.choices[0].finish_reason], [0, 'look', '{}', 'tool_calls']);
  equal('none', (await s.post('/v1/chat/completions', ask('x', { tools, tool_choice: 'none' }))).json.choices[0].finish_reason, 'stop');
  const schema = (schema) => ({ response_format: { type: 'json_schema', json_schema: { name: 'a', schema, strict: true } } });
  const refused = async (name, more, param) => {
    const r = await s.post('/v1/chat/completions', ask('x', more));
    equal(`refused: ${name}`, [r.status, r.json.error?.param], [400, param]);
  };
  await refused('required without tools', { tool_choice: 'required' }, 'tool_choice');
  await refused('a tool that is not there', { tools, tool_choice: { type: 'function', function: { name: 'fly' } } }, 'tool_choice');
  await refused('another choice', { tools, tool_choice: 'maybe' }, 'tool_choice');
  await refused('a tool with a broken pattern', { tools: [tool('f', { type: 'object', properties: { a: { type: 'string', pattern: '(((' } } })] }, 'tools');
  await refused('a tool whose parameters are none', { tools: [tool('f', 5)] }, 'tools');
  await refused('a broken pattern', schema({ type: 'string', pattern: '(a' }), 'response_format');
  await refused('an unknown keyword', schema({ type: 'object', patternProperties: {} }), 'response_format');
  await refused('a reference to nothing', schema({ $ref: '#/$defs/x' }), 'response_format');
  await refused('a form that nothing has', schema({ type: 'integer', minimum: 5, maximum: 4 }), 'response_format');
  await refused('1 MB of schema', schema({ type: 'string', enum: Array.from({ length: 60000 }, (_, i) => `value number ${i}`) }), 'response_format');
  await refused('a broken grammar', { grammar: 'root ::= (' }, 'grammar');
  await refused('a template', { chat_template: '{{ messages }}' }, 'chat_template');
  await refused('10,000 pictures', { messages: [{ role: 'user', content: Array(10000).fill({ type: 'image_url', image_url: { url: uri(png(2, 2)) } }) }] }, 'messages');
  await refused('1,000 frames with commas', { messages: [{ role: 'user', content: [{ type: 'video_url', video_url: { url: `data:video/jpeg;base64,${Array(1000).fill('/9j/4AAQ').join(',')}` } }] }] }, 'messages');
  // neither goes back over what it has read: (a+)+$ costs what its length costs
  equal('patterns and recursion are no trap', [(await s.post('/v1/chat/completions', ask('x', schema({ type: 'string', pattern: '^(a+)+$' })))).status,
    (await s.post('/v1/chat/completions', ask('x', schema({ $ref: '#/$defs/n', $defs: { n: { type: 'object', properties: { next: { anyOf: [{ $ref: '#/$defs/n' }, { type: 'null' }] } }, required: ['next'], additionalProperties: false } } })))).status], [200, 200]);
}

async function rates() {
  const s = await Server.start({ args: ['--rate-limit', '600'] });
  const r = await s.post('/v1/chat/completions', ask('x'));
  const h = (name) => r.headers.get(`x-ratelimit-${name}-requests`);
  check('rate headers', h('limit') === '120' && Number(h('remaining')) <= 119 && Number(h('remaining')) > 100 && /^\d+s$/.test(h('reset')), [h('limit'), h('remaining'), h('reset')]);
  let last = r;
  for (let i = 0; i < 400 && last.status !== 429; i++) last = (await Promise.all(Array.from({ length: 20 }, () => s.post('/v1/chat/completions', ask('x'))))).at(-1);
  equal('used up', [last.status, last.json?.error.type, last.headers.get('x-ratelimit-remaining-requests'), Number(last.headers.get('retry-after')) > 0], [429, 'rate_limit_error', '0', true]);
  await s.stop();
  s.remove();
}

async function chatStream(s) {
  const events = await stream(s, '/v1/chat/completions', ask('one two three', { stream: true, stream_options: { include_usage: true } }));
  const chunks = events.slice(0, -1).map((e) => e.data);
  equal('ends with [DONE]', events.at(-1).data, '[DONE]');
  equal('role comes first', chunks[0].choices[0].delta.role, 'assistant');
  equal('text in pieces', chunks.map((c) => c.choices[0]?.delta.content ?? '').join(''), 'You said: one two three');
  check('in several pieces', chunks.filter((c) => c.choices[0]?.delta.content).length > 2);
  equal('finish comes last', chunks.filter((c) => c.choices[0]?.finish_reason).map((c) => c.choices[0].finish_reason), ['stop']);
  equal('usage in its own chunk', [chunks.at(-1).choices, chunks.at(-1).usage.total_tokens > 0, chunks[0].usage], [[], true, null]);
  equal('one id', new Set(chunks.map((c) => c.id)).size, 1);
  const plain = await stream(s, '/v1/chat/completions', ask('x', { stream: true }));
  check('no usage unless asked', plain.slice(0, -1).every((e) => !('usage' in e.data)));
  const broken = await stream(s, '/v1/chat/completions', ask('stub:fail', { stream: true }));
  check('an error inside a stream', broken.at(-1).data.error?.message, broken);
}

// Several choices in one stream: each whole by itself, in one id, with one usage for all.
async function choices(s) {
  const body = ask('one two three', { n: 3, seed: 5, stream: true, stream_options: { include_usage: true } });
  const events = await stream(s, '/v1/chat/completions', body);
  const chunks = events.slice(0, -1).map((e) => e.data);
  const of = (i) => chunks.map((c) => c.choices[0]).filter((c) => c?.index === i);
  for (const i of [0, 1, 2]) {
    equal(`choice ${i}: role first`, of(i)[0]?.delta.role, 'assistant');
    equal(`choice ${i}: its text`, of(i).map((c) => c.delta.content ?? '').join(''), 'You said: one two three');
    equal(`choice ${i}: one end, the last`, of(i).map((c) => c.finish_reason).filter(Boolean).concat(of(i).at(-1)?.finish_reason), ['stop', 'stop']);
  }
  equal('one [DONE], the last', events.map((e) => e.data === '[DONE]').lastIndexOf(true), events.findIndex((e) => e.data === '[DONE]'));
  equal('one id', new Set(chunks.map((c) => c.id)).size, 1);
  const whole = (await s.post('/v1/chat/completions', { ...body, stream: false, stream_options: undefined })).json;
  equal('usage once, as of a whole answer', chunks.filter((c) => c.usage).map((c) => [c.choices, c.usage.prompt_tokens, c.usage.completion_tokens, c.usage.total_tokens]),
    [[[], whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens]]);
  const one = (await s.post('/v1/chat/completions', ask('one two three'))).json.usage;
  equal('the prompt counts once, the answers each', [whole.usage.prompt_tokens, whole.usage.completion_tokens], [one.prompt_tokens, 3 * one.completion_tokens]);
  const tools = [{ type: 'function', function: { name: 'go' } }];
  const called = (await stream(s, '/v1/chat/completions', ask('x', { n: 2, stream: true, tools, tool_choice: 'required' }))).flatMap((e) => e.data.choices ?? []).filter((c) => c.delta.tool_calls);
  equal('each calls', [called.map((c) => c.index).sort(), new Set(called.map((c) => c.delta.tool_calls[0].id)).size], [[0, 1], 2]);
  const failed = await stream(s, '/v1/chat/completions', ask('stub:fail', { n: 2, stream: true }));
  equal('a failure ends it', [failed.filter((e) => e.data.error).length, Boolean(failed.at(-1).data.error)], [1, true]);
  const states = async (text) => (await s.get(`/v1/jobs?kind=see&q=${text}`)).json.data.map((j) => j.state);
  const leave = async (name, text, more) => {
    const gone = new AbortController();
    const r = s.fetch('/v1/chat/completions', { method: 'POST', headers: { 'Content-Type': 'application/json' }, signal: gone.signal, body: JSON.stringify(ask(`${text}`, { n: 3, ...more })) });
    r.catch(() => {});
    check(`${name}: all are jobs`, await until(async () => (await states(text)).length === 3));
    gone.abort();
    check(`${name}: a client that leaves ends all of them`, await until(async () => (await states(text)).every((v) => v === 'cancelled')), await states(text));
  };
  await s.call('PATCH', '/v1/settings', { paused: true });
  await leave('a stream', 'aardvark', { stream: true });
  await leave('a whole answer', 'buffalo', {});
  await s.call('PATCH', '/v1/settings', { paused: false });
}

async function responses(s) {
  const r = await s.post('/v1/responses', { model: 'any', input: 'hello', instructions: 'be kind' });
  equal('response', [r.status, r.json.object, r.json.status, r.json.output[0].content[0].text], [200, 'response', 'completed', 'You said: hello']);
  const again = await s.get(`/v1/responses/${r.json.id}`);
  equal('again', again.json.output, r.json.output);
  const next = await s.post('/v1/responses', { model: 'any', input: [{ role: 'user', content: [{ type: 'input_text', text: 'and now' }, { type: 'input_image', image_url: uri(png(8, 8)) }] }], previous_response_id: r.json.id });
  equal('goes on', [next.status, next.json.output[0].content[0].text], [200, 'You said: and now']);
  const job = await s.get(`/v1/jobs/${next.json.id.slice(5)}`);
  equal('with what was said before, without its instructions', job.json.job.params.messages.map((m) => m.role), ['user', 'assistant', 'user']);
  const events = await stream(s, '/v1/responses', { model: 'any', input: 'one two', stream: true });
  equal('order', [...new Set(events.map((e) => e.event))], ['response.created', 'response.in_progress', 'response.output_item.added', 'response.content_part.added',
    'response.output_text.delta', 'response.output_text.done', 'response.content_part.done', 'response.output_item.done', 'response.completed']);
  equal('numbered', events.map((e) => e.data.sequence_number), events.map((_, i) => i));
  equal('event is type', events.every((e) => e.event === e.data.type), true);
  equal('deltas', events.filter((e) => e.data.delta).map((e) => e.data.delta).join(''), 'You said: one two');
  const tools = [{ type: 'function', name: 'look', parameters: { type: 'object', properties: {} } }];
  const told = await s.post('/v1/responses', { model: 'any', input: 'x', tools, metadata: { a: 'b' }, temperature: 0.5, previous_response_id: r.json.id });
  equal('what was asked is told', [told.json.tools, told.json.metadata, told.json.temperature, told.json.previous_response_id, told.json.instructions],
    [tools, { a: 'b' }, 0.5, r.json.id, null]);
  const kept = (await s.get(`/v1/responses/${told.json.id}`)).json;
  equal('also later', [kept.tools, kept.previous_response_id], [tools, r.json.id]);
  equal('what was not asked', [r.json.tools, r.json.previous_response_id, r.json.instructions], [[], null, 'be kind']);
  equal('an unknown response', (await s.post('/v1/responses', { model: 'any', input: 'x', previous_response_id: 'resp_none' })).json.error.param, 'previous_response_id');
  equal('a response that is a number', (await s.post('/v1/responses', { model: 'any', input: 'x', previous_response_id: 5 })).status, 400);
  const later = await s.post('/v1/responses', { model: 'any', input: 'x', background: true });
  check('background', ['queued', 'in_progress', 'completed'].includes(later.json.status), later.text);
  const items = async (query = '') => (await s.get(`/v1/responses/${next.json.id}/input_items${query}`)).json;
  const all = await items();
  equal('what was asked, newest first', [all.object, all.data.map((i) => [i.type, i.role, i.content.map((c) => c.type)]), all.has_more], ['list',
    [['message', 'user', ['input_text', 'input_image']], ['message', 'assistant', ['output_text']], ['message', 'user', ['input_text']]], false]);
  const first = await items('?order=asc&limit=1'), second = await items(`?order=asc&limit=1&after=${first.last_id}`);
  equal('page by page', [first.data[0].content[0].text, first.has_more, second.data[0].content[0].text], ['hello', true, 'You said: hello']);
  equal('its picture', (await fetch(all.data[0].content[1].image_url)).headers.get('content-type'), 'image/png');
  equal('an item of another one', (await s.get(`/v1/responses/${next.json.id}/input_items?after=msg_x`)).status, 400);
  await s.call('PATCH', '/v1/settings', { paused: true });
  const waits = await s.post('/v1/responses', { model: 'any', input: 'x', background: true });
  const stopped = await s.post(`/v1/responses/${waits.json.id}/cancel`, {});
  equal('cancelled', [stopped.status, stopped.json.status, (await s.post(`/v1/responses/${waits.json.id}/cancel`, {})).json.status], [200, 'cancelled', 'cancelled']);
  await s.call('PATCH', '/v1/settings', { paused: false });
  equal('only those of the background', (await s.post(`/v1/responses/${next.json.id}/cancel`, {})).status, 400);
  equal('no such response', (await s.post('/v1/responses/resp_none/cancel', {})).status, 404);
  const removed = (await s.call('DELETE', `/v1/responses/${r.json.id}`)).json;
  equal('delete', [removed.object, removed.deleted], ['response', true]);
  equal('gone', (await s.get(`/v1/responses/${r.json.id}`)).status, 404);
}

async function images(s) {
  const r = await s.post('/v1/images/generations', { prompt: 'a fox', n: 2, size: '64x64', seed: 7, steps: 2 });
  equal('two pictures', [r.status, r.json.data?.length, r.json.size, r.json.output_format], [200, 2, '64x64', 'png']);
  equal('PNG', Buffer.from(r.json.data[0].b64_json, 'base64').subarray(1, 4).toString(), 'PNG');
  const url = await s.post('/v1/images/generations', { prompt: 'a fox', size: '64x64', response_format: 'url', output_format: 'webp' });
  const file = await fetch(url.json.data[0].url);
  equal('by address', [file.status, file.headers.get('content-type')], [200, 'image/webp']);
  const events = await stream(s, '/v1/images/generations', { prompt: 'a fox', size: '64x64', steps: 8, stream: true, partial_images: 2 });
  equal('partial pictures, then the whole', events.map((e) => e.event), ['image_generation.partial_image', 'image_generation.partial_image', 'image_generation.completed']);
  equal('numbered', events.slice(0, 2).map((e) => e.data.partial_image_index), [0, 1]);
  const form = new FormData();
  form.append('image[]', new Blob([png(64, 64)], { type: 'image/png' }), 'a.png');
  form.append('mask', new Blob([png(64, 64, { colour: 6 })], { type: 'image/png' }), 'm.png');
  form.append('prompt', 'a hat');
  form.append('n', '1');
  const edit = await s.fetch('/v1/images/edits', { method: 'POST', body: form });
  const edited = await edit.json();
  equal('edit', [edit.status, edited.data?.length], [200, 1]);
  const job = await s.get('/v1/jobs?kind=draw&limit=1');
  const params = (await s.get(`/v1/jobs/${job.json.data[0].id}`)).json.job.params;
  check('with picture and mask', params.init_image?.startsWith('artifact:') && params.mask?.startsWith('artifact:'), params);
  const vary = new FormData();
  vary.append('image', new Blob([png(64, 64)], { type: 'image/png' }), 'a.png');
  equal('variation', (await s.fetch('/v1/images/variations', { method: 'POST', body: vary })).status, 200);
}

async function refusals(s) {
  const bad = [
    ['messages missing', { model: 'any' }, 400, 'messages'], ['model missing', { messages: [{ role: 'user', content: 'x' }] }, 400, 'model'],
    ['empty messages', { model: 'any', messages: [] }, 400, 'messages'], ['unknown role', ask('x', { messages: [{ role: 'king', content: 'x' }] }), 400, 'messages'],
    ['n 0', ask('x', { n: 0 }), 400, 'n'], ['n 129', ask('x', { n: 129 }), 400, 'n'], ['n text', ask('x', { n: '1' }), 400, 'n'],
    ['temperature 3', ask('x', { temperature: 3 }), 400, 'temperature'], ['temperature text', ask('x', { temperature: 'hot' }), 400, 'temperature'],
    ['top_p 1.1', ask('x', { top_p: 1.1 }), 400, 'top_p'], ['five stops', ask('x', { stop: ['a', 'b', 'c', 'd', 'e'] }), 400, 'stop'], ['empty stop', ask('x', { stop: [''] }), 400, 'stop'],
    ['max_tokens 0', ask('x', { max_tokens: 0 }), 400, 'max_tokens'], ['max_tokens -1', ask('x', { max_tokens: -1 }), 400, 'max_tokens'], ['max_tokens 2^31', ask('x', { max_tokens: 2 ** 31 }), 400, 'max_tokens'],
    ['top_logprobs 21', ask('x', { logprobs: true, top_logprobs: 21 }), 400, 'top_logprobs'], ['top_logprobs alone', ask('x', { top_logprobs: 2 }), 400, 'top_logprobs'],
    ['logit_bias', ask('x', { logit_bias: { a: 1 } }), 400, 'logit_bias'], ['format', ask('x', { response_format: { type: 'xml' } }), 400, 'response_format'], ['schema missing', ask('x', { response_format: { type: 'json_schema' } }), 400, 'response_format'],
    ['remote picture', ask([{ type: 'image_url', image_url: { url: 'http://127.0.0.1/x.png' } }]), 400, 'messages'], ['file address', ask([{ type: 'image_url', image_url: { url: 'file:///etc/passwd' } }]), 400, 'messages'],
    ['broken picture', ask([{ type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }]), 400, 'messages'], ['unknown part', ask([{ type: 'smell', smell: 1 }]), 400, 'messages'],
    ['audio', ask([{ type: 'input_audio', input_audio: { data: '', format: 'wav' } }]), 400, 'messages'], ['17 pictures', ask(Array(17).fill({ type: 'image_url', image_url: { url: uri(png(2, 2)) } })), 400, 'messages'],
    ['model a path', ask('x', { model: '/etc/passwd' }), 400, 'model'], ['tools no list', ask('x', { tools: {} }), 400, 'tools'],
    ['a tool without name', ask('x', { tools: [{ type: 'function', function: {} }] }), 400, 'tools'],
  ];
  for (const [name, body, status, param] of bad) {
    const r = await s.post('/v1/chat/completions', body);
    equal(name, [r.status, r.json?.error?.type, r.json?.error?.param], [status, 'invalid_request_error', param]);
  }
  equal('unknown members are ignored', (await s.post('/v1/chat/completions', ask('x', { store: true, metadata: { a: 'b' }, user: 'me' }))).status, 200);
  for (const [name, body, param] of [['no prompt', {}, 'prompt'], ['n 11', { prompt: 'a', n: 11 }, 'n'], ['size', { prompt: 'a', size: '64' }, 'size'], ['size of one pixel', { prompt: 'a', size: '64x1' }, 'size'], ['size 0', { prompt: 'a', size: '0x64' }, 'size'],
    ['format', { prompt: 'a', output_format: 'gif' }, 'output_format'], ['partial', { prompt: 'a', partial_images: 4 }, 'partial_images']]) {
    const r = await s.post('/v1/images/generations', body);
    equal(`images: ${name}`, [r.status, r.json?.error?.param], [400, param]);
  }
  const pair = new FormData();
  for (const name of ['a.png', 'b.png']) pair.append('image[]', new Blob([png(8, 8)], { type: 'image/png' }), name);
  pair.append('prompt', 'both');
  const together = await (await s.fetch('/v1/images/edits', { method: 'POST', body: pair })).json();
  equal('several pictures in an edit', [together.error?.type, together.error?.param, /2 pictures/.test(together.error?.message)], ['invalid_request_error', 'image', true]);
  equal('edit without a form', (await s.post('/v1/images/edits', { prompt: 'x' })).status, 400);
  const cut = await s.fetch('/v1/images/edits', { method: 'POST', headers: { 'Content-Type': 'multipart/form-data; boundary=b' }, body: '--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc' });
  equal('a form that is cut off', cut.status, 400);
  const part = (headers, body = 'x') => `--b\r\n${headers}\r\n\r\n${body}\r\n`;
  const prompt = part('Content-Disposition: form-data; name="prompt"');
  const named = (more) => part(`Content-Disposition: form-data; name="image"; ${more}`);
  for (const [name, body, type] of [['without a boundary', `${prompt}--b--\r\n`, 'multipart/form-data'], ['with a boundary of 71', `--${'b'.repeat(71)}--\r\n`, `multipart/form-data; boundary=${'b'.repeat(71)}`],
    ['without an end', prompt], ['in a form', part('Content-Disposition: form-data; name="a"\r\nContent-Type: multipart/mixed; boundary=c', '--c--') + '--b--\r\n'],
    ['of 10,000 parts', prompt.repeat(10000) + '--b--\r\n'], ['with headers of 1 MB', part(`Content-Disposition: form-data; name="a"\r\nX-A: ${'a'.repeat(1 << 20)}`) + '--b--\r\n'],
    ['with a path as a file name', named('filename="../x"') + '--b--\r\n'], ['with a NUL in a file name', named('filename="a\0b"') + '--b--\r\n'], ['with a line break in a file name', named('filename="a\r\nX-B: c"') + '--b--\r\n'],
    ['encoded in base64', part('Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64') + '--b--\r\n'], ['with words before it', `hello\r\n${prompt}--b--\r\n`],
    ['without names', part('Content-Disposition: form-data') + '--b--\r\n'], ['with a NUL in a text', part('Content-Disposition: form-data; name="prompt"', 'a\0b') + '--b--\r\n'], ['of nothing', '']]) {
    const r = await s.call('POST', '/v1/images/edits', body, { 'Content-Type': type ?? 'multipart/form-data; boundary=b' });
    equal(`a form ${name}`, [r.status, r.json?.error?.type], [400, 'invalid_request_error']);
  }
  equal('the stub judges nothing', (await s.post('/v1/moderations', { input: 'x' })).status, 501);
  const key = await s.post('/v1/chat/completions', ask('same'), { 'Idempotency-Key': 'k1' });
  const same = await s.post('/v1/chat/completions', ask('same'), { 'Idempotency-Key': 'k1' });
  equal('the same key is the same job', same.json.id, key.json.id);
  equal('another body is refused', (await s.post('/v1/chat/completions', ask('other'), { 'Idempotency-Key': 'k1' })).status, 422);
}

async function probes(s) {
  equal('health', (await s.get('/health')).json, { status: 'ok' });
  equal('slots', (await s.get('/slots')).json, [{ id: 0, n_ctx: null, is_processing: false }]);
  equal('props', (await s.get('/props')).json.total_slots, 1);
}

await run(async () => {
  const s = await Server.start();
  try {
    await chat(s);
    await forms(s);
    await chatStream(s);
    await choices(s);
    await responses(s);
    await images(s);
    await refusals(s);
    await probes(s);
  } finally {
    await s.stop();
    s.remove();
  }
  await rates();
});
