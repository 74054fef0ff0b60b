// SPDX-License-Identifier: MIT
// Clips and documents over the native interface: uploads, what is found inside, questions about
// them, conversations that go on.
import { readFileSync } from 'node:fs';
import { Server, check, equal, png, run } from './harness.mjs';

const corpus = (name) => name === 'plain.png' ? png(32, 24) : readFileSync(new URL(`../../fuzz/corpus/media/${name}`, import.meta.url));
const upload = (s, data, type = 'application/octet-stream') => s.call('POST', '/v1/uploads', data, { 'Content-Type': type });

async function uploads(s) {
  const ids = {};
  for (const [name, type, kind, mime] of [
    ['a.mp4', 'video/mp4', 'clip', 'video/mp4'], ['a.webm', 'video/webm', 'clip', 'video/webm'],
    ['a.mkv', 'video/x-matroska', 'clip', 'video/x-matroska'], ['s.gif', 'image/gif', 'clip', 'image/gif'],
    ['s.webp', 'image/webp', 'clip', 'image/webp'], ['s.pdf', 'application/pdf', 'document', 'application/pdf'],
    ['s.tif', 'image/tiff', 'document', 'image/tiff'], ['plain.png', 'image/png', 'picture', 'image/png'],
  ]) {
    const r = await upload(s, corpus(name), type);
    equal(`${name} comes in`, [r.status, r.json?.media?.kind, r.json?.artifact?.mime], [201, kind, mime]);
    if (r.status !== 201) { console.log(r.text); continue; }
    const m = r.json.media;
    check(`${name}: facts`, m.total >= 1 && m.width > 0 && m.height > 0 && m.format.length > 1, m);
    equal(`${name}: times of clips only`, [m.fps !== null, m.seconds !== null], [kind === 'clip', kind === 'clip']);
    equal(`${name}: the artifact's size`, [r.json.artifact.width, r.json.artifact.height], [m.width, m.height]);
    const thumb = await s.fetch(r.json.artifact.thumbnail);
    equal(`${name}: a thumbnail`, [thumb.status, thumb.headers.get('content-type')], [200, 'image/webp']);
    const again = await s.fetch(r.json.artifact.url);
    equal(`${name}: the same bytes`, Buffer.compare(Buffer.from(await again.arrayBuffer()), corpus(name)), 0);
    if (kind !== 'picture') check(`${name}: only to be saved`, mime === 'image/webp' || again.headers.get('content-disposition')?.startsWith('attachment'));
    ids[name] = `artifact:${r.json.artifact.id}`;
  }
  return ids;
}

async function refusals(s) {
  const refused = async (name, data, type, status, code) => {
    const r = await upload(s, data, type);
    equal(name, [r.status, r.json?.error?.code], [status, code]);
  };
  await refused('half a clip', corpus('a.mp4').subarray(0, 300), 'video/mp4', 400, 'bad_image');
  await refused('half a document', Buffer.from('%PDF-1.7\n1 0 obj\n'), 'application/pdf', 400, 'bad_image');
  await refused('an SVG', corpus('a.svg'), 'image/svg+xml', 400, 'bad_image');
  await refused('a playlist', Buffer.from('#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n'), 'video/mp4', 400, 'bad_image');
  await refused('HTML', Buffer.from('<html><script>alert(1)</script>'), 'application/octet-stream', 400, 'bad_image');
  await refused('nothing', Buffer.alloc(0), 'video/mp4', 400, 'bad_image');
  await refused('as text', corpus('a.mp4'), 'text/plain', 415, 'unsupported_media_type');
  await refused('too large a side', png(20000, 4, { rows: 1 }), 'image/png', 400, 'bad_image');
  equal('a recipe is read from pictures only', (await s.call('POST', '/v1/recipe', corpus('a.mp4'), { 'Content-Type': 'video/mp4' })).status, 415);
}

async function questions(s, ids) {
  const see = async (body) => s.post('/v1/see?wait=30', { max_tokens: 8, seed: 1, ...body });
  const all = await see({ prompt: 'What happens?', files: [ids['a.mp4'], ids['s.pdf']], images: [ids['plain.png']], fps: 1, pages: '1' });
  equal('a clip, a document and a picture', [all.status, all.json.job?.state], [200, 'succeeded']);
  equal('kept with the job', all.json.job.artifacts.filter((a) => a.role === 'input').map((a) => `artifact:${a.id}`).sort(),
    [ids['a.mp4'], ids['s.pdf'], ids['plain.png']].sort());
  equal('in order', all.json.job.params.messages[0].content.map((p) => p.type), ['image', 'video', 'document', 'text']);
  equal('frames and pages', [all.json.job.params.params.fps, all.json.job.params.params.pages], [1, '1']);
  const inline = await see({ prompt: 'And this?', files: [`data:application/pdf;base64,${corpus('s.pdf').toString('base64')}`] });
  equal('as data', inline.json.job?.artifacts.map((a) => `artifact:${a.id}`), [ids['s.pdf']]);
  const next = await see({
    prompt: 'And the colour?', messages: [
      { role: 'user', content: [{ type: 'file', file: ids['a.mp4'] }, { type: 'text', text: 'Who is it?' }] },
      { role: 'assistant', content: 'A fox.' }],
  });
  equal('the next turn', [next.json.job?.state, next.json.job?.title], ['succeeded', 'And the colour?']);
  equal('its roles', next.json.job.params.messages.map((m) => m.role), ['user', 'assistant', 'user']);
  // What a job was asked can be asked again as it stands.
  const again = await see({ messages: next.json.job.params.messages });
  equal('the last message is answered', [again.status, again.json.job?.title], [200, 'And the colour?']);
  const refused = async (name, body, param) => {
    const r = await see(body);
    equal(name, [r.status, r.json?.error?.code, r.json?.error?.param], [400, 'value_out_of_range', param]);
  };
  await refused('no question', { files: [ids['a.mp4']] }, 'prompt');
  await refused('an answer is no question', { messages: [{ role: 'assistant', content: 'A fox.' }] }, 'prompt');
  await refused('a clip is no picture', { prompt: 'x', images: [`data:video/mp4;base64,${corpus('a.mp4').toString('base64')}`] }, 'images');
  await refused('too many', { prompt: 'x', files: Array(17).fill(ids['a.mp4']) }, 'files');
  await refused('too many together', { prompt: 'x', files: Array(9).fill(ids['a.mp4']), images: Array(8).fill(ids['plain.png']) }, 'files');
  await refused('a stranger', { prompt: 'x', files: [`artifact:${'0'.repeat(64)}`] }, 'files');
  await refused('a path', { prompt: 'x', files: ['/etc/passwd'] }, 'files');
  await refused('a URL', { prompt: 'x', files: ['http://169.254.169.254/a.mp4'] }, 'files');
  await refused('a role', { prompt: 'x', messages: [{ role: 'tool', content: 'y' }] }, 'messages');
  await refused('a part', { prompt: 'x', messages: [{ role: 'user', content: [{ type: 'audio', audio: 'y' }] }] }, 'messages');
  await refused('a member of a turn', { prompt: 'x', messages: [{ role: 'user', content: 'y', name: 'z' }] }, 'messages');
  await refused('turns of a task', { task: 'caption', images: [ids['plain.png']], messages: [{ role: 'user', content: 'y' }] }, 'messages');
  await refused('pages', { prompt: 'x', files: [ids['s.pdf']], pages: 5 }, 'pages');
  equal('a thousand turns', (await see({ prompt: 'x', messages: Array(1000).fill({ role: 'user', content: 'y' }) })).status, 400);
}

run(async () => {
  const s = await Server.start();
  const ids = await uploads(s);
  await refusals(s);
  await questions(s, ids);
  equal('nothing crashed', (await s.get('/v1/system')).json.decoding.crashed, 0);
  await s.stop();
  s.remove();
});
