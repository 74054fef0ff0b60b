// SPDX-License-Identifier: MIT
// What malformed, hostile and odd HTTP gets: raw sockets, exact status, nothing smuggled, the server
// alive and small afterwards.
import { Server, check, equal, run, sleep, within } from './harness.mjs';
import net from 'node:net';

const H = 'Host: 127.0.0.1\r\n';
// A second request behind the first that must never be answered.
const SMUGGLED = `GET /livez?smuggled HTTP/1.1\r\n${H}\r\n`;
const post = (headers, body = '') => `POST /v1/params/parse HTTP/1.1\r\n${H}Content-Type: application/json\r\n${headers}\r\n${body}`;
const get = (headers, line = 'GET /livez HTTP/1.1') => `${line}\r\n${headers}\r\n`;

// [name, bytes, allowed statuses]
const probes = [
  ['CL and TE', post('Content-Length: 5\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n' + SMUGGLED), [400]],
  ['TE and CL', post('Transfer-Encoding: chunked\r\nContent-Length: 5\r\n', '0\r\n\r\n' + SMUGGLED), [400]],
  ['two CL, different', post('Content-Length: 0\r\nContent-Length: 40\r\n', SMUGGLED), [400]],
  ['two CL, same', post('Content-Length: 2\r\nContent-Length: 2\r\n', '{}' + SMUGGLED), [400]],
  ['CL +5', post('Content-Length: +5\r\n', 'aaaaa' + SMUGGLED), [400]],
  ['CL 0x5', post('Content-Length: 0x5\r\n', 'aaaaa' + SMUGGLED), [400]],
  ['CL -1', post('Content-Length: -1\r\n', SMUGGLED), [400]],
  ['CL 2^64+5', post('Content-Length: 18446744073709551621\r\n', 'aaaaa' + SMUGGLED), [400, 413]],
  ['CL "5, 5"', post('Content-Length: 5, 5\r\n', 'aaaaa' + SMUGGLED), [400]],
  ['CL empty', post('Content-Length: \r\n', SMUGGLED), [400]],
  ['TE xchunked', post('Transfer-Encoding: xchunked\r\n', '0\r\n\r\n' + SMUGGLED), [400, 501]],
  ['TE chunked, identity', post('Transfer-Encoding: chunked, identity\r\n', '0\r\n\r\n' + SMUGGLED), [400, 501]],
  ['TE twice', post('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n' + SMUGGLED), [400, 501]],
  ['TE in HTTP/1.0', `POST /v1/params/parse HTTP/1.0\r\n${H}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`, [400, 501]],
  ['space before colon', post('Content-Length : 5\r\n', 'aaaaa' + SMUGGLED), [400]],
  ['tab before colon', post('Content-Length\t: 5\r\n', 'aaaaa' + SMUGGLED), [400]],
  ['folded header', get(`${H}X-A: b\r\n c\r\n`) + SMUGGLED, [400]],
  ['header without colon', get(`${H}Nonsense\r\n`) + SMUGGLED, [400]],
  ['empty header name', get(`${H}: x\r\n`) + SMUGGLED, [400]],
  ['no Host', get('') + SMUGGLED, [400]],
  ['two Hosts', get(`${H}Host: evil.test\r\n`) + SMUGGLED, [400]],
  ['bare LF', 'GET /livez HTTP/1.1\nHost: 127.0.0.1\n\n' + SMUGGLED, [400]],
  ['bare LF in headers', `GET /livez HTTP/1.1\r\n${H}X-A: b\nX-B: c\r\n\r\n` + SMUGGLED, [400]],
  ['bare CR', get(`${H}X-A: b\rX-B: c\r\n`) + SMUGGLED, [400]],
  ['NUL in a header', get(`${H}X-A: b\0c\r\n`) + SMUGGLED, [400]],
  ['control character in a header', get(`${H}X-A: b\x01c\r\n`) + SMUGGLED, [400]],
  ['control character in a name', get(`${H}X\x01A: b\r\n`) + SMUGGLED, [400]],
  ['leading space', ` GET /livez HTTP/1.1\r\n${H}\r\n` + SMUGGLED, [400]],
  ['two spaces', `GET  /livez HTTP/1.1\r\n${H}\r\n` + SMUGGLED, [400]],
  ['no version', `GET /livez\r\n${H}\r\n` + SMUGGLED, [400]],
  ['HTTP/1.9', get(H, 'GET /livez HTTP/1.9') + SMUGGLED, [505]],
  ['HTTP/3.0', get(H, 'GET /livez HTTP/3.0') + SMUGGLED, [505]],
  ['HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', [400, 501, 505]],
  ['TLS hello', Buffer.from('16030100a5010000a10303', 'hex').toString('latin1') + '\r\n\r\n', [400]],
  ['unknown method', get(H, 'BREW /livez HTTP/1.1') + SMUGGLED, [501]],
  ['lower-case method', get(H, 'get /livez HTTP/1.1') + SMUGGLED, [400, 501]],
  ['CONNECT', get(H, 'CONNECT example.com:443 HTTP/1.1') + SMUGGLED, [400, 501]],
  ['absolute form', get(H, 'GET http://evil.test/livez HTTP/1.1') + SMUGGLED, [400]],
  ['100 KiB header', get(`${H}X-A: ${'a'.repeat(102400)}\r\n`) + SMUGGLED, [431]],
  ['2000 headers', get(H + 'X-A: b\r\n'.repeat(2000)) + SMUGGLED, [431]],
  ['65 headers', get(H + 'X-A: b\r\n'.repeat(65)) + SMUGGLED, [431]],
  ['100 KiB target', get(H, `GET /${'a'.repeat(102400)} HTTP/1.1`) + SMUGGLED, [414]],
  ['%00 in the path', get(H, 'GET /live%00z HTTP/1.1') + SMUGGLED, [400]],
  ['broken escape', get(H, 'GET /live%zz HTTP/1.1') + SMUGGLED, [400]],
  ['8-bit target', get(H, 'GET /liv\xe9z HTTP/1.1') + SMUGGLED, [400]],
  ['unknown Expect', post('Expect: tea\r\nContent-Length: 2\r\n', '{}'), [417]],
];

const bodies = [
  ['chunk size 0x5', '0x5\r\naaaaa\r\n0\r\n\r\n'],
  ['chunk size -5', '-5\r\naaaaa\r\n0\r\n\r\n'],
  ['chunk size overflow', 'fffffffffffffffff\r\naaaaa\r\n0\r\n\r\n'],
];

const status = (text) => Number((/^HTTP\/1\.1 (\d+)/.exec(text) ?? [])[1]);

async function hostile(s) {
  for (const [name, bytes, allowed] of probes) {
    const r = await s.raw(bytes);
    check(`${name}: status`, allowed.includes(status(r.text)), r.text.slice(0, 80) || 'nothing');
    check(`${name}: one answer`, r.text.split('HTTP/1.1 ').length === 2, r.text.slice(0, 400));
    check(`${name}: closed`, !r.timeout);
  }
  for (const [name, body] of bodies) {
    const r = await s.raw(post('Transfer-Encoding: chunked\r\n', body + SMUGGLED));
    check(`${name}: refused`, [400, 413].includes(status(r.text)), r.text.slice(0, 80) || 'nothing');
    check(`${name}: one answer`, r.text.split('HTTP/1.1 ').length <= 2);
  }
  check('nothing smuggled is in the log', !s.log.some((l) => l.includes('smuggled')));
  // the same rules for a second request of a connection
  for (const [name, second] of [['CL and TE', post('Content-Length: 5\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n')],
    ['two Hosts', get(`${H}Host: evil.test\r\n`)], ['control character', get(`${H}X-A: b\x01c\r\n`)],
    ['two CL', post('Content-Length: 2\r\nContent-Length: 3\r\n', '{}')], ['TE xchunked', post('Transfer-Encoding: xchunked\r\n')],
    ['broken escape', get(H, 'GET /live%zz HTTP/1.1')]]) {
    const r = await s.raw(get(H) + second);
    const answers = r.text.split('HTTP/1.1 ').slice(1).map((t) => Number(t.slice(0, 3)));
    check(`second request, ${name}`, answers[0] === 200 && answers.length === 2 && answers[1] >= 400, answers);
  }
}

async function ordinary(s) {
  equal('GET', (await s.get('/livez')).status, 200);
  const head = await s.fetch('/livez', { method: 'HEAD' });
  check('HEAD has the length and no body', head.status === 200 && head.headers.get('content-length') === '16' || head.headers.get('content-length') === '15');
  const wrong = await s.call('DELETE', '/v1/jobs');
  equal('wrong method', [wrong.status, wrong.headers.get('allow'), wrong.json.error.code], [405, 'GET, HEAD', 'method_not_allowed']);
  const options = await s.call('OPTIONS', '/v1/jobs', undefined, { Origin: 'http://evil.test' });
  equal('OPTIONS tells no CORS', [options.status, options.headers.get('access-control-allow-origin')], [204, null]);
  equal('unknown route, native', (await s.get('/v1/nothing')).json.error.code, 'unknown_route');
  const sd = await s.get('/sdapi/v1/nothing');
  equal('unknown route, sdapi', [sd.status, typeof sd.json.detail], [404, 'string']);
  equal('unknown page', (await s.get('/nothing.js')).status, 404);
  const id = await s.get('/livez', { 'X-Request-Id': 'mine-1' });
  equal('request id comes back', id.headers.get('x-request-id'), 'mine-1');
  const bad = await s.get('/livez', { 'X-Request-Id': 'bad id' });
  check('a bad request id is replaced', /^r-[0-9a-f]{16}$/.test(bad.headers.get('x-request-id')));
  const pipelined = await s.raw(get(H).repeat(2) + get(H + 'Connection: close\r\n'));
  equal('three in a row', pipelined.text.split('HTTP/1.1 200').length, 4);
  const old = await s.raw('GET /livez HTTP/1.0\r\n\r\n');
  check('HTTP/1.0 without Host', status(old.text) === 200 && !old.timeout);
  const slow = net.connect(s.port, '127.0.0.1');
  const bytes = get(H + 'Connection: close\r\n');
  let said = '';
  slow.on('data', (d) => { said += d; });
  const gone = new Promise((r) => slow.on('close', r)); // it may close before the last sleep is over
  for (const c of bytes) { slow.write(c); await sleep(2); }
  await within(gone, 'the answer to a byte at a time');
  equal('a byte at a time', status(said), 200);
  for (const [name, value] of [['x-content-type-options', 'nosniff'], ['cache-control', 'no-store']])
    equal(`header ${name}`, (await s.get('/v1/system')).headers.get(name), value);
}

async function jsonBodies(s) {
  const to = '/v1/params/parse';
  const bad = async (name, body, want, headers) => {
    const r = await s.post(to, body, headers);
    equal(name, r.status, want);
  };
  await bad('empty body', '', 400);
  await bad('not JSON', '{', 400);
  await bad('two values', '{} {}', 400);
  await bad('a list', '[]', 400);
  await bad('NaN', '{"text": NaN}', 400);
  await bad('duplicate members', '{"text": "a", "text": "b"}', 400);
  await bad('not UTF-8', Buffer.from('7b2274657874223a22ff227d', 'hex'), 400);
  await bad('a lone surrogate', '{"text": "\\ud800"}', 400);
  await bad('a NUL', '{"text": "\\u0000"}', 400);
  await bad('depth 100,000', '['.repeat(100000), 400);
  await bad('depth 65 of objects', '{"text":'.repeat(65) + '1' + '}'.repeat(65), 400);
  await bad('too long', `{"text": "${'a'.repeat(1 << 20)}"}`, 413);
  await bad('text/plain', '{"text": "a"}', 415, { 'Content-Type': 'text/plain' });
  await bad('a form', 'text=a', 415, { 'Content-Type': 'application/x-www-form-urlencoded' });
  await bad('gzip', '{"text": "a"}', 415, { 'Content-Encoding': 'gzip' });
  const early = await s.raw(post('Content-Length: 99999999\r\n'));
  equal('declared too long: refused before the body', status(early.text), 413);
  const wait = await s.raw(post('Expect: 100-continue\r\nContent-Length: 99999999\r\n'));
  check('... and not told to go on', status(wait.text) === 413);
  const chunk = 'a'.repeat(65536);
  const long = await s.raw([post('Transfer-Encoding: chunked\r\nConnection: close\r\n'), ...Array(40).fill(`10000\r\n${chunk}\r\n`), '0\r\n\r\n']);
  check('chunked and too long', [413, NaN].includes(status(long.text)) && !long.text.includes('HTTP/1.1 200'), long.text.slice(0, 60));
  const ok = await s.raw(post('Transfer-Encoding: chunked\r\nConnection: close\r\n', '0d\r\n{"text": "a"}\r\n0\r\n\r\n'));
  equal('chunked is taken', status(ok.text), 200);
}

async function slowHeads(s) {
  const sockets = Array.from({ length: 20 }, () => net.connect(s.port, '127.0.0.1'));
  const said = sockets.map(() => '');
  const closed = sockets.map((c, i) => new Promise((r) => { c.on('data', (d) => { said[i] += d; }); c.on('close', r); c.on('error', r); }));
  for (const c of sockets) c.write('GET /livez HTTP/1.1\r\nHost: 127');
  const drip = setInterval(() => sockets.forEach((c) => c.writable && c.write('0')), 1000);
  equal('others are served meanwhile', (await s.get('/livez')).status, 200);
  // a byte each second would keep them open for ever, if bytes counted as progress
  await within(Promise.all(closed), 'the end of slow heads');
  clearInterval(drip);
  check('slow heads end with 408, or without a word', said.every((t) => t === '' || status(t) === 408) && said.some((t) => t), said.map(status));
}

run(async () => {
  const s = await Server.start();
  await ordinary(s);
  const before = s.rss();
  await hostile(s);
  await jsonBodies(s);
  await slowHeads(s);
  check('memory is bounded', s.rss() - before < 32 << 20, s.rss() - before);
  equal('alive', (await s.get('/livez')).status, 200);
  equal('clean end', (await s.stop()).code, 0);
  s.remove();
});
