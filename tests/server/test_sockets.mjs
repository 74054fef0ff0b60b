// SPDX-License-Identifier: MIT
// WebSockets: events, commands, and frames that RFC 6455 forbids.
import { Server, check, equal, run, until, within } from './harness.mjs';
import net from 'node:net';

const fox = { prompt: 'a fox', steps: 3, width: 64, height: 64, seed: 7 };
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

class Socket {
  static async open(s, headers = '') {
    const w = new Socket();
    w.socket = net.connect(s.port, '127.0.0.1');
    w.data = Buffer.alloc(0);
    w.frames = [];
    w.closed = new Promise((r) => { w.socket.on('close', r); w.socket.on('error', r); });
    w.socket.write(`GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1:${s.port}\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n${headers}\r\n`);
    w.socket.on('data', (d) => { w.data = Buffer.concat([w.data, d]); w.parse(); });
    await until(() => w.head);
    return w;
  }

  parse() {
    if (!this.head) {
      const at = this.data.indexOf('\r\n\r\n');
      if (at < 0) return;
      this.head = this.data.subarray(0, at).toString();
      this.data = this.data.subarray(at + 4);
    }
    for (;;) {
      if (this.data.length < 2) return;
      let n = this.data[1] & 0x7f, at = 2;
      if (n === 126) { if (this.data.length < 4) return; n = this.data.readUInt16BE(2); at = 4; }
      else if (n === 127) { if (this.data.length < 10) return; n = Number(this.data.readBigUInt64BE(2)); at = 10; }
      if (this.data.length < at + n) return;
      this.frames.push({ opcode: this.data[0] & 15, fin: this.data[0] >> 7, masked: this.data[1] >> 7, body: this.data.subarray(at, at + n) });
      this.data = this.data.subarray(at + n);
    }
  }

  static frame(opcode, body, { fin = 1, rsv = 0, mask = true, length } = {}) {
    const data = Buffer.from(body);
    const n = length ?? data.length;
    const head = n < 126 ? Buffer.alloc(2) : n < 65536 ? Buffer.alloc(4) : Buffer.alloc(10);
    head[0] = fin << 7 | rsv << 4 | opcode;
    head[1] = (mask ? 0x80 : 0) | (n < 126 ? n : n < 65536 ? 126 : 127);
    if (n >= 65536) head.writeBigUInt64BE(BigInt(n), 2);
    else if (n >= 126) head.writeUInt16BE(n, 2);
    if (!mask) return Buffer.concat([head, data]);
    const key = Buffer.from([1, 2, 3, 4]);
    return Buffer.concat([head, key, data.map((b, i) => b ^ key[i & 3])]);
  }

  send(o) { this.socket.write(Socket.frame(1, typeof o === 'string' ? o : JSON.stringify(o))); }

  get messages() { return this.frames.filter((f) => f.opcode === 1).map((f) => JSON.parse(f.body)); }

  until(fn) { return until(() => this.messages.find(fn)); }

  get closeCode() { const f = this.frames.find((x) => x.opcode === 8); return f && f.body.length >= 2 ? f.body.readUInt16BE(0) : null; }

  // The server's close is answered, as RFC 6455 has it; then it ends the connection.
  async end() {
    let gone = false;
    this.closed.then(() => { gone = true; });
    await until(() => gone || this.frames.some((f) => f.opcode === 8));
    if (!gone) this.socket.write(Socket.frame(8, Buffer.from([0x03, 0xe8])));
    await within(this.closed, 'the end of a WebSocket');
    this.socket.destroy();
  }
}

async function talks(s) {
  const w = await Socket.open(s);
  check('101', w.head.startsWith('HTTP/1.1 101'), w.head);
  check('the accept key of RFC 6455', /sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=/i.test(w.head), w.head);
  w.send({ op: 'ping' });
  check('pong', await w.until((m) => m.type === 'pong'));
  w.send({ op: 'subscribe', job: '*' });
  check('subscribed', await w.until((m) => m.type === 'subscribed' && m.job === '*'));
  const job = (await s.post('/v1/draw', fox)).json.job;
  const done = await w.until((m) => m.type === 'done' && m.job === job.id);
  equal('events of all jobs', done?.state.state, 'succeeded');
  check('no frame is masked', w.frames.every((f) => !f.masked));
  w.send({ op: 'unsubscribe', job: '*' });
  check('unsubscribed', await w.until((m) => m.type === 'unsubscribed'));
  const slow = (await s.post('/v1/draw', { ...fox, prompt: 'stub:slow', steps: 1000 })).json.job;
  w.send({ op: 'subscribe', job: slow.id, previews: false });
  check('progress of one job', await w.until((m) => m.type === 'progress' && m.job === slow.id));
  w.send({ op: 'cancel', job: slow.id });
  equal('cancelled over the socket', (await w.until((m) => m.type === 'done' && m.job === slow.id))?.state.state, 'cancelled');
  check('no previews', !w.messages.some((m) => m.type === 'preview' && m.job === slow.id));
  const again = await Socket.open(s);
  again.send({ op: 'subscribe', job: job.id, after: done.id });
  check('of a job that has ended', await again.until((m) => m.type === 'subscribed'));
  for (const [name, text] of [['not JSON', '{'], ['no op', '{}'], ['unknown op', '{"op": "rm"}'], ['bad job', '{"op": "subscribe", "job": "../x"}'], ['unknown job', '{"op": "cancel", "job": "01938e7c-2f6b-7c11-b0d5-4a3f9a6e1c22"}'], ['deep', '['.repeat(1000)]]) {
    const before = w.messages.filter((m) => m.type === 'error').length;
    w.send(text);
    await until(() => w.messages.filter((m) => m.type === 'error').length > before);
    check(`${name}: an error, and on`, w.messages.filter((m) => m.type === 'error').length === before + 1);
  }
  for (let i = 0; i < 20; i++) again.send({ op: 'subscribe', job: `01938e7c-2f6b-7c11-b0d5-4a3f9a6e1c${10 + i}` });
  check('unknown jobs cannot be followed', await again.until((m) => m.type === 'error'));
  w.socket.write(Socket.frame(8, Buffer.from([0x03, 0xe8])));
  await w.end();
  equal('a close is answered', w.closeCode, 1000);
  again.socket.destroy();
}

async function forbidden(s) {
  const cases = [
    ['unmasked', Socket.frame(1, 'hi', { mask: false }), [1002]],
    ['RSV', Socket.frame(1, 'hi', { rsv: 4 }), [1002]],
    ['opcode 3', Socket.frame(3, 'hi'), [1002]],
    ['a ping of 126 bytes', Socket.frame(9, 'a'.repeat(126)), [1002]],
    ['a fragmented ping', Socket.frame(9, 'hi', { fin: 0 }), [1002]],
    ['a continuation of nothing', Socket.frame(0, 'hi'), [1002]],
    ['bad UTF-8', Socket.frame(1, Buffer.from([0xff, 0xfe])), [1007]],
    ['bad UTF-8 across fragments', Buffer.concat([Socket.frame(1, Buffer.from([0xe2, 0x82]), { fin: 0 }), Socket.frame(0, Buffer.from([0x28]))]), [1007]],
    ['close code 1005', Socket.frame(8, Buffer.from([0x03, 0xed])), [1002]],
    ['close of one byte', Socket.frame(8, Buffer.from([0x03])), [1002, null]], // closed either way
    ['2^63 bytes', Buffer.concat([Buffer.from('81ff8000000000000000', 'hex'), Buffer.from([1, 2, 3, 4])]), [1002, 1009]],
    ['128 KiB', Socket.frame(1, 'a'.repeat(131072)), [1009]],
    ['binary', Socket.frame(2, 'hi'), [1003]],
  ];
  for (const [name, bytes, codes] of cases) {
    const w = await Socket.open(s);
    w.socket.write(bytes);
    await w.end();
    check(`${name}: a close frame, and the end`, w.frames.some((f) => f.opcode === 8) && w.socket.destroyed);
    check(`${name}: closed with ${codes}`, codes.includes(w.closeCode), w.closeCode);
  }
  for (const [name, change, want] of [['version 8', (t) => t.replace('Version: 13', 'Version: 8'), 426], ['no key', (t) => t.replace(/Sec-WebSocket-Key.*\r\n/, ''), 400], ['a short key', (t) => t.replace(KEY, 'AAAA'), 400], ['no upgrade', (t) => t.replace('Upgrade: websocket\r\n', ''), 426]]) {
    const text = `GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n\r\n`;
    equal(name, Number((await s.raw(change(text))).text.slice(9, 12)), want);
  }
}

async function many(s) {
  const before = s.rss();
  const all = await Promise.all(Array.from({ length: 200 }, () => Socket.open(s)));
  equal('200 open', all.filter((w) => w.head?.startsWith('HTTP/1.1 101')).length, 200);
  for (const w of all) w.send({ op: 'subscribe', job: '*' });
  for (const w of all) await w.until((m) => m.type === 'subscribed');
  await s.post('/v1/draw?wait=20', { ...fox, seed: 4242 });
  let told = 0;
  for (const w of all) if (await w.until((m) => m.type === 'done')) told++;
  equal('all are told', told, 200);
  check('memory is bounded', s.rss() - before < 48 << 20, s.rss() - before);
  // half of them break off, the rest hear the end
  for (const w of all.slice(0, 100)) w.socket.destroy();
  check('counted', await until(async () => (await s.get('/v1/system')).json.clients.ws === 100));
  equal('clean end', (await s.stop()).code, 0);
  await within(Promise.all(all.map((w) => w.closed)), 'the end of all WebSockets');
  check('bye and 1001', all.slice(100).every((w) => w.messages.some((m) => m.type === 'bye') && w.closeCode === 1001), all.slice(100).map((w) => w.closeCode).join());
}

run(async () => {
  const s = await Server.start({ args: ['--stub-ms', '1'] });
  await talks(s);
  await forbidden(s);
  equal('alive', (await s.get('/livez')).status, 200);
  await many(s);
  s.remove();
});
