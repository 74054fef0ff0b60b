// SPDX-License-Identifier: MIT
// URLs in requests: refused unless the settings allow them; then fetched from where they may be
// fetched from and nowhere else. A site of this test's own counts who comes.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { Server, check, equal, png, run, until, within } from './harness.mjs';

const picture = png(40, 30);
const clip = readFileSync(new URL('../../fuzz/corpus/media/a.mp4', import.meta.url));
const visits = [];

function site(answer) {
  return new Promise((resolve) => {
    const server = createServer((rq, rs) => { visits.push(rq.url); answer(rq, rs, server.address().port); });
    server.listen(0, '127.0.0.1', () => resolve(server));
  });
}

async function answers(rq, rs, port) {
  const headers = {};
  const send = (body, more = {}) => { rs.writeHead(200, { 'Content-Length': body.length, ...more }); rs.end(body); };
  if (rq.url === '/a.png') send(picture);
  else if (rq.url === '/a.mp4') send(clip);
  else if (rq.url === '/text') send(Buffer.from('hello'));
  else if (rq.url === '/gzip') send(gzipSync(Buffer.alloc(50 << 20)), { 'Content-Encoding': 'gzip' });
  else if (rq.url === '/large') send(Buffer.alloc(3 << 20));
  else if (rq.url === '/endless') { rs.writeHead(200); const t = setInterval(() => rs.write(Buffer.alloc(65536)), 1); rs.on('close', () => clearInterval(t)); rs.on('error', () => {}); }
  else if (rq.url === '/slow') { rs.writeHead(200, { 'Content-Length': 100000 }); const t = setInterval(() => rs.write('x'), 100); rs.on('close', () => clearInterval(t)); }
  else if (rq.url === '/never') { /* no answer at all */ }
  else if (rq.url === '/to-a') { rs.writeHead(302, { Location: '/a.png' }); rs.end(); }
  else if (rq.url === '/loop') { rs.writeHead(302, { Location: '/loop' }); rs.end(); }
  else if (rq.url.startsWith('/to?')) { rs.writeHead(307, { Location: decodeURIComponent(rq.url.slice(4)) }); rs.end(); }
  else { rs.writeHead(404, headers); rs.end('nothing'); }
}

async function off(s, base) {
  const before = visits.length;
  for (const [path, body] of [
    ['/v1/draw', { prompt: 'x', init_image: `${base}/a.png` }], ['/v1/see', { prompt: 'x', images: [`${base}/a.png`] }],
    ['/v1/see', { prompt: 'x', files: [`${base}/a.mp4`] }], ['/sdapi/v1/img2img', { prompt: 'x', init_images: [`${base}/a.png`] }],
    ['/v1/chat/completions', { model: 'm', messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: `${base}/a.png` } }] }] }],
    ['/v1/responses', { model: 'm', input: [{ role: 'user', content: [{ type: 'input_file', file_url: `${base}/a.pdf` }] }] }],
  ]) {
    const r = await s.post(path, body);
    check(`${path} without the setting`, [400, 422].includes(r.status) && /disabled/.test(r.text), [r.status, r.text]);
  }
  equal('nobody came', visits.length, before);
}

async function good(s, base) {
  const chat = (part) => s.post('/v1/chat/completions', { model: 'm', messages: [{ role: 'user', content: [part, { type: 'text', text: 'hello' }] }] });
  equal('a picture', (await chat({ type: 'image_url', image_url: { url: `${base}/a.png` } })).status, 200);
  equal('a clip', (await chat({ type: 'video_url', video_url: { url: `${base}/a.mp4` } })).status, 200);
  equal('a redirect', (await chat({ type: 'image_url', image_url: { url: `${base}/to-a` } })).status, 200);
  equal('responses', (await s.post('/v1/responses', { model: 'm', input: [{ role: 'user', content: [{ type: 'input_image', image_url: `${base}/a.png` }, { type: 'input_file', file_url: `${base}/a.mp4` }] }] })).status, 200);
  equal('native', (await s.post('/v1/see?wait=20', { prompt: 'x', images: [`${base}/a.png`], files: [`${base}/a.mp4`] })).status, 200);
  const drawn = await s.post('/v1/edit?wait=20', { prompt: 'x', width: 64, height: 64, steps: 1, init_image: `${base}/a.png` });
  equal('edit', [drawn.status, drawn.json.job?.params.init_image.slice(0, 9)], [200, 'artifact:']);
  equal('sdapi', (await s.post('/sdapi/v1/img2img', { prompt: 'x', width: 64, height: 64, steps: 1, init_images: [`${base}/a.png`] })).status, 200);
  const before = visits.length;
  equal('words are not fetched', (await s.post('/v1/draw?wait=20', { prompt: `${base}/a.png`, steps: 1, width: 64, height: 64 })).status, 200);
  equal('nor are those of a chat', (await s.post('/v1/chat/completions', { model: 'm', messages: [{ role: 'user', content: `${base}/a.png` }], metadata: { url: `${base}/a.png` }, user: `${base}/a.png` })).status, 200);
  equal('nobody came', visits.length, before);
}

async function bad(s, base, port, other) {
  const see = (url) => s.post('/v1/see', { prompt: 'x', images: [url] });
  for (const path of ['/text', '/gzip', '/large', '/endless', '/slow', '/never', '/loop', '/gone']) {
    const r = await see(base + path); // some never end by themselves: an answer is in time
    equal(path, [r.status, r.json?.error?.param], [400, 'images']);
  }
  const before = visits.length;
  const o = other.address().port;
  const inside = [`http://127.0.0.1:${o}/a.png`, `http://127.1:${o}/a.png`, `http://0x7f000001:${o}/a.png`, `http://2130706433:${o}/a.png`,
    `http://[::1]:${o}/a.png`, `http://[::ffff:127.0.0.1]:${o}/a.png`, `http://localhost.:${o}/a.png`, `http://user@127.0.0.1:${o}/a.png`,
    `http://1.1.1.1\\@127.0.0.1:${o}/a.png`, 'http://169.254.169.254/latest/meta-data/', 'http://10.0.0.1/a.png', 'https://192.168.0.1/',
    'file:///etc/passwd', `gopher://127.0.0.1:${o}/_x`, `ftp://127.0.0.1:${o}/x`, 'http://', 'https://:443/', 'http://%00/'];
  for (const url of inside) {
    const r = await see(url);
    check(`refused: ${url}`, r.status === 400 && !/127\.0|Connection|refused/i.test(r.json.error.message), [r.status, r.text]);
  }
  for (const url of inside) {
    const r = await see(`${base}/to?${encodeURIComponent(url)}`);
    equal(`a redirect to ${url}`, r.status, 400);
  }
  equal('nobody came in from behind', visits.slice(before).filter((v) => !v.startsWith('/to?')), []);
  const many = await s.post('/v1/see', { prompt: 'x', images: Array(16).fill(`${base}/a.png`), files: Array(16).fill(`${base}/a.png`) });
  equal('too many', many.status, 400);
  equal('far too many', (await s.post('/v1/see', { prompt: 'x', images: Array(1000).fill(`${base}/a.png`) })).status, 400);
}

run(async () => {
  const mine = await site(answers), other = await site((rq, rs) => { visits.push(`OTHER ${rq.url}`); rs.end(picture); });
  const port = mine.address().port, base = `http://127.0.0.1:${port}`;
  const shut = await Server.start();
  await off(shut, base);
  await shut.stop();
  shut.remove();

  const s = await Server.start({ args: ['--remote-media', '--remote-http', '--remote-private', `127.0.0.1:${port}`, '--remote-seconds', '3', '--remote-size', '2'] });
  await good(s, base);
  await bad(s, base, port, other);
  equal('clean end', (await s.stop()).code, 0);
  s.remove();

  // A server that would wait much longer than its end may take: it answers others while somebody's file
  // is slow, and ends without waiting for it.
  const patient = await Server.start({ args: ['--remote-media', '--remote-http', '--remote-private', `127.0.0.1:${port}`, '--remote-seconds', '300'] });
  const before = visits.length;
  const slow = patient.post('/v1/see', { prompt: 'x', images: [`${base}/never`] }).catch(() => ({ status: 0 }));
  check('it is being fetched', await until(() => visits.length > before));
  equal('alive', (await patient.get('/livez')).status, 200);
  equal('ends', (await patient.stop()).code, 0);
  const left = await within(slow, 'the slow one');
  check('the slow one is let go', [0, 400, 503].includes(left.status), left.status);
  patient.remove();
  mine.closeAllConnections(); mine.close(); other.close();
});
