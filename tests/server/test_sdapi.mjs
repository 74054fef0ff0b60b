// SPDX-License-Identifier: MIT
// /sdapi/v1 with both profiles: what clients of A1111 and SD.Next send and read, and what they must
// not be able to do.
import { Server, check, equal, png, run, until } from './harness.mjs';
import zlib from 'node:zlib';
import { readFileSync } from 'node:fs';

const V = '/sdapi/v1';
const fox = { prompt: 'a fox', negative_prompt: 'blue', steps: 2, width: 64, height: 64, seed: 7 };
const picture = png(16, 16).toString('base64');

async function txt2img(s) {
  const r = await s.post(`${V}/txt2img`, { ...fox, n_iter: 2, sampler_name: 'DPM++ 2M Karras', something_new: 5, restore_faces: false });
  equal('200', r.status, 200);
  equal('keys', Object.keys(r.json), ['images', 'parameters', 'info']);
  equal('two pictures, no prefix', r.json.images.map((i) => i.slice(0, 8)), ['iVBORw0K', 'iVBORw0K']);
  const info = JSON.parse(r.json.info);
  equal('seeds', [info.seed, info.all_seeds], [7, [7, 8]]);
  equal('prompts', [info.prompt, info.all_prompts.length, info.negative_prompt], ['a fox', 2, 'blue']);
  check('infotexts', info.infotexts.length === 2 && info.infotexts[0].includes('Steps: 2') && info.infotexts[0].includes('Seed: 7'));
  const tiled = await s.post(`${V}/txt2img`, { ...fox, tiling: true });
  check('tiling', tiled.status === 200 && JSON.parse(tiled.json.info).infotexts[0].includes('Tiling: '), tiled.text.slice(-300));
  equal('no number for it', (await s.post(`${V}/txt2img`, { ...fox, tiling: 'yes' })).status, 422);
  equal('index_of_first_image', info.index_of_first_image, 0);
  equal('parameters echo', [r.json.parameters.steps, r.json.parameters.cfg_scale, r.json.parameters.prompt], [2, 7, 'a fox']);
  check('X-Process-Time', r.headers.get('x-process-time') !== null);
  const none = await s.post(`${V}/txt2img`, { ...fox, send_images: false });
  equal('send_images false', none.json.images, []);
  const hires = await s.post(`${V}/txt2img`, { ...fox, enable_hr: true, hr_scale: 2, hr_upscaler: 'Latent', denoising_strength: 0.5, hr_sampler_name: 'Use same sampler' });
  equal('hires', hires.status, 200);
  // every member that clients read, each of its type, with what it stands for
  const two = JSON.parse((await s.post(`${V}/txt2img`, { ...fox, batch_size: 2, enable_hr: true, denoising_strength: 0.25, sampler_name: 'Euler', scheduler: 'Karras', hr_scheduler: 'exponential' })).json.info);
  equal('info: numbers', [two.batch_size, two.subseed, two.all_subseeds, two.clip_skip, two.subseed_strength, two.denoising_strength, two.seed_resize_from_w, two.index_of_first_image],
    [2, -1, [-1, -1], 1, 0, 0.25, -1, 0]);
  equal('info: texts', [two.sampler_name, /^\d{14}$/.test(two.job_timestamp), two.version, two.styles, two.is_using_inpainting_conditioning, two.restore_faces], ['Euler Karras', true, two.version, [], false, false]);
  equal('info: what the second pass did', [two.extra_generation_params['Hires upscale'], two.extra_generation_params['Hires sampler']], ['2', 'Euler exponential']);
  const with2 = JSON.parse((await s.post(`${V}/txt2img`, { ...fox, subseed: 9, subseed_strength: 0.5 })).json.info);
  equal('info: a variation', [with2.subseed, with2.all_subseeds, with2.subseed_strength], [9, [9], 0.5]);
  // infotext: over the defaults, under what the client says; its files are nobody's
  const old = 'a hat\nNegative prompt: red\nSteps: 3, Sampler: Euler a, Schedule type: Karras, CFG scale: 4, Seed: 77, Size: 72x80, Model: elsewhere, Init image: /etc/passwd';
  const said = await s.post(`${V}/txt2img`, { infotext: old, steps: 2 });
  equal('infotext', [said.status, ...['prompt', 'negative_prompt', 'steps', 'cfg_scale', 'seed', 'width', 'height', 'sampler_name', 'scheduler'].map((n) => said.json.parameters?.[n])],
    [200, 'a hat', 'red', 2, 4, 77, 72, 80, 'Euler a', 'Karras']);
  equal('... without its files', ['model', 'init_image'].map((n) => n in said.json.parameters), [false, false]);
  const odd = await s.post(`${V}/txt2img`, { ...fox, width: 70, seed: null, sampler_index: 'Euler', scheduler: 'Automatic', subseed: -1, styles: [], s_tmax: 0 });
  equal('odd but fine', odd.status, 200);
  equal('an empty Authorization is ignored', (await s.post(`${V}/txt2img`, fox, { Authorization: 'Basic ' })).status, 200);
}

async function refusals(s) {
  const code = async (name, body, want, text) => {
    const r = await s.post(`${V}/txt2img`, body);
    check(name, r.status === want && (!text || r.text.includes(text)), [r.status, r.text]);
    if (r.status === 422) check(`${name}: shape`, Array.isArray(r.json.detail) && r.json.detail[0].loc[0] === 'body', r.text);
  };
  for (const width of [0, -8, 7, 2 ** 31, '512', [64], 64.5]) await code(`width ${JSON.stringify(width)}`, { ...fox, width }, 422);
  await code('1e309', '{"prompt": "a", "width": 1e309}', 422);
  await code('NaN', '{"prompt": "a", "width": NaN}', 422);
  await code('steps 10^9', { ...fox, steps: 1e9 }, 422);
  await code('n_iter x batch', { ...fox, n_iter: 33, batch_size: 2 }, 422, 'n_iter');
  await code('seed 2^64', '{"prompt": "a", "seed": 18446744073709551616}', 422);
  await code('prompt a number', { ...fox, prompt: 5 }, 422);
  await code('unknown sampler', { ...fox, sampler_name: 'Nope' }, 404, 'Sampler not found');
  await code('unknown script', { ...fox, script_name: 'x' }, 422, "Script 'x' not found");
  await code('unknown always-on script', { ...fox, alwayson_scripts: { ControlNet: { args: [{ enabled: true }] } } }, 422, 'ControlNet');
  await code('... that asks for nothing', { ...fox, alwayson_scripts: { ControlNet: { args: [] } } }, 200);
  await code('restore_faces', { ...fox, restore_faces: true }, 501, 'restore_faces');
  for (const [name, on, off] of [['seed_resize_from_w', 512, -1], ['grading_gamma', 1.5, 1], ['hdr_brightness', 0.5, 0], ['guidance_name', 'PAG', 'Default'], ['ip_adapter', [{}], []],
    ['disable_extra_networks', true, false], ['latent_mask', picture, ''], ['extra', { a: 1 }, {}], ['hr_checkpoint_name', 'x', 'Use same checkpoint'], ['initial_noise_multiplier', 1.2, 1]]) {
    await code(`${name} on`, { ...fox, [name]: on }, 501, name);
    await code(`${name} off`, { ...fox, [name]: off }, 200);
  }
  await code('an unknown hires scheduler', { ...fox, enable_hr: true, sampler_name: 'Euler', hr_scheduler: 'Nope' }, 404, 'Scheduler not found');
  await code('an infotext that is none', { ...fox, infotext: 5 }, 422, 'infotext');
  await code('an unknown override is ignored', { ...fox, override_settings: { nope: 1 } }, 200);
  await code('a path in a refiner', { ...fox, refiner_checkpoint: '/etc/passwd' }, 422, 'path');
  await code('a path in a hires upscaler', { ...fox, enable_hr: true, hr_upscaler: '../x.pth' }, 422, 'path');
  equal('absent route', [(await s.post(`${V}/control`, {})).status, (await s.post(`${V}/control`, {})).json.detail.includes('/control')], [501, true]);
  for (const [method, name] of [['GET', 'torch'], ['GET', 'checkpoint'], ['POST', 'checkpoint'], ['PUT', 'upload'], ['GET', 'vqa/models'], ['POST', 'nudenet'], ['GET', 'controlnets'],
    ['POST', 'create/embedding'], ['GET', 'browser/files'], ['GET', 'options-info']]) {
    const r = await s.call(method, `${V}/${name}`, method === 'GET' ? undefined : {});
    check(`${method} ${name} is known and named`, r.status === 501 && r.json.detail.includes(`/${name}`) && r.headers.get('x-should-retry') === 'false', [r.status, r.text]);
  }
  // Everything that answers 501 has its line in the documentation.
  const from = (file) => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
  const section = from('docs/API.md').split('## 10. What is not there')[1];
  const all = [...from('src/server/api/sdapi_table.c').matchAll(/ABSENT\("\w+", "([^"]+)"\)/g), ...from('src/server/api/openai_table.c').matchAll(/path = "([^"]+)", INFER, ABSENT/g),
    ...from('src/server/api/sdapi_draw.c').split('} absent[] = {')[1].split('};')[0].matchAll(/\{"(\w+)",/g)].map((m) => m[1]);
  equal('absent, and in the documentation', [all.length > 80, all.filter((name) => !section.includes(`\`${name}\``))], [true, []]);
  for (const name of ['server-kill', 'server-restart', 'shutdown', 'restart', 'delete-file', 'file', 'lock-checkpoint'])
    equal(`${name} is not`, (await s.post(`${V}/${name}`, {})).status, 404);
  equal('shutdown is no route', (await s.post('/sdapi/v1/server-stop', {})).status, 404);
  equal('file is no route', (await s.get('/sdapi/v1/file?file=/etc/passwd')).status, 404);
  equal('a form', (await s.post(`${V}/txt2img`, 'prompt=a', { 'Content-Type': 'application/x-www-form-urlencoded' })).status, 415);
}

async function img2img(s) {
  const base = { ...fox, denoising_strength: 0.5 };
  const good = await s.post(`${V}/img2img`, { ...base, init_images: [picture], mask: png(8, 8).toString('base64'), mask_blur: 2, inpainting_fill: 2, inpaint_full_res: true });
  equal('img2img', [good.status, good.json.images?.length, good.json.parameters?.init_images, good.json.parameters?.mask], [200, 1, null, null]);
  for (const [mode, word] of ['stretch', 'crop', 'pad', 'latent'].entries()) {
    await s.post(`${V}/img2img`, { ...base, init_images: [png(24, 16).toString('base64')], resize_mode: mode });
    const { id } = (await s.get('/v1/jobs?kind=draw&limit=1')).json.data[0];
    equal(`resize_mode ${mode}`, (await s.get(`/v1/jobs/${id}`)).json.job.params.fit ?? 'stretch', word);
  }
  equal('resize_mode 4', (await s.post(`${V}/img2img`, { ...base, init_images: [picture], resize_mode: 4 })).status, 422);
  const several = await s.post(`${V}/img2img`, { ...base, seed: 5, n_iter: 2, init_images: [picture, png(8, 8).toString('base64'), picture] });
  const told = JSON.parse(several.json.info ?? '{}');
  equal('a picture for each init image and round', [several.status, several.json.images?.length, told.all_seeds, told.infotexts?.length, told.batch_size],
    [200, 6, [5, 6, 7, 8, 9, 10], 6, 3]);
  const alone = await s.post(`${V}/img2img`, { ...base, seed: 6, init_images: [png(8, 8).toString('base64')] });
  equal('each as it is alone', several.json.images?.[1], alone.json.images?.[0]);
  equal('one of them is none', (await s.post(`${V}/img2img`, { ...base, init_images: [picture, 'x'] })).status, 422);
  equal('too many', (await s.post(`${V}/img2img`, { ...base, init_images: Array(17).fill(picture) })).status, 422);
  equal('too many rounds', (await s.post(`${V}/img2img`, { ...base, n_iter: 33, init_images: [picture, picture] })).status, 422);
  equal('data URI', (await s.post(`${V}/img2img`, { ...base, init_images: [`data:image/png;base64,${picture}`], include_init_images: true })).json.parameters.init_images.length, 1);
  const none = await s.post(`${V}/img2img`, base);
  equal('no picture', [none.status, none.json.detail], [404, 'Init image not found']);
  const bomb = Buffer.concat([png(30000, 30000, { rows: 1 }), zlib.deflateSync(Buffer.alloc(1 << 20))]);
  const before = s.rss();
  for (const [name, image] of [['nothing', ''], ['not base64', '@@@@'], ['text', Buffer.from('hello').toString('base64')],
    ['65535 x 65535', png(65535, 65535, { rows: 1 }).toString('base64')], ['a bomb', bomb.toString('base64')],
    ['SVG', Buffer.from('<svg/>').toString('base64')], ['a polyglot', Buffer.concat([Buffer.from('<script>'), png(8, 8)]).toString('base64')],
    ['cut off', png(64, 64).subarray(0, 40).toString('base64')], ['a truncated JPEG', Buffer.from('ffd8ffe000104a464946', 'hex').toString('base64')],
    ['APNG', png(8, 8, { extra: [['acTL', Buffer.alloc(8)]] }).toString('base64')],
    ['a URL', 'http://169.254.169.254/latest/meta-data'], ['a path', 'file:///etc/passwd'], ['an object', {}]]) {
    const r = await s.post(`${V}/img2img`, { ...base, init_images: [image] });
    check(`init image: ${name}`, r.status >= 400 && r.status < 500, [r.status, r.text]);
    check(`init image: ${name}: says nothing of libraries`, !/vips|libpng|png_|0x[0-9a-f]{4}/i.test(r.text), r.text);
  }
  check('remote images are refused by name', (await s.post(`${V}/img2img`, { ...base, init_images: ['http://169.254.169.254/'] })).text.includes('remote images'));
  check('memory is bounded', s.rss() - before < 64 << 20, s.rss() - before);
  for (const [name, image] of [['1 x 1', png(1, 1)], ['16 bits', png(8, 8, { depth: 16 })], ['grey', png(8, 8, { colour: 0 })], ['alpha', png(8, 8, { colour: 6 })]])
    equal(`init image: ${name}`, (await s.post(`${V}/img2img`, { ...base, init_images: [image.toString('base64')] })).status, 200);
}

async function extras(s) {
  const one = await s.post(`${V}/extra-single-image`, { image: picture, upscaler_1: 'Lanczos', upscaling_resize: 2 });
  equal('single', [one.status, Object.keys(one.json), one.json.image?.slice(0, 8)], [200, ['html_info', 'image'], 'iVBORw0K']);
  const sized = await s.post(`${V}/extra-single-image`, { image: picture, upscaler_1: 'Lanczos', resize_mode: 1, upscaling_resize_w: 40, upscaling_resize_h: 24 });
  const bytes = Buffer.from(sized.json.image ?? '', 'base64');
  equal('to a size', [sized.status, bytes.readUInt32BE(16), bytes.readUInt32BE(20)], [200, 40, 24]);
  equal('None changes nothing', (await s.post(`${V}/extra-single-image`, { image: picture })).json.image, picture);
  const batch = await s.post(`${V}/extra-batch-images`, { imageList: [{ data: picture, name: 'a' }, { data: picture, name: 'b' }], upscaler_1: 'Lanczos' });
  equal('batch', [batch.status, batch.json.images?.length], [200, 2]);
  equal('factor 9', (await s.post(`${V}/extra-single-image`, { image: picture, upscaler_1: 'Lanczos', upscaling_resize: 9 })).status, 422);
  equal('faces', (await s.post(`${V}/extra-single-image`, { image: picture, codeformer_visibility: 1 })).status, 501);
  equal('no image', (await s.post(`${V}/extra-single-image`, {})).status, 422);
  const info = await s.post(`${V}/png-info`, { image: png(8, 8, { text: 'a fox\nNegative prompt: blue\nSteps: 5, Sampler: Euler a, CFG scale: 7, Seed: 9, Size: 64x48, Note: "a, b"' }).toString('base64') });
  equal('png-info', [info.status, info.json.parameters.Steps, info.json.parameters['Size-1'], info.json.parameters['Negative prompt'], info.json.parameters.Note, info.json.items.parameters === info.json.info], [200, '5', 64, 'blue', '"a, b"', true]);
  equal('png-info of nothing', (await s.post(`${V}/png-info`, { image: picture })).json, { info: '', items: {}, parameters: {} });
  equal('png-info of rubbish', (await s.post(`${V}/png-info`, { image: 'AAAA' })).status, 400);
  const words = await s.post(`${V}/interrogate`, { image: picture, model: 'clip' });
  equal('interrogate', [words.status, typeof words.json.caption], [200, 'string']);
  equal('unknown interrogator', (await s.post(`${V}/interrogate`, { image: picture, model: 'nope' })).status, 404);
  equal('vqa', typeof (await s.post(`${V}/vqa`, { image: picture, question: 'what?' })).json.answer, 'string');
}

async function progress(s) {
  const idle = (await s.get(`${V}/progress?skip_current_image=true`)).json;
  equal('idle is exactly nothing', [idle.progress, idle.eta_relative, idle.state.job_count, idle.current_image], [0, 0, 0, null]);
  const going = s.post(`${V}/txt2img`, { ...fox, prompt: 'stub:slow', steps: 1000 });
  const now = await until(async () => { const p = (await s.get(`${V}/progress`)).json; return p.progress > 0 && p; });
  check('progress', now.progress > 0 && now.progress < 1 && now.state.sampling_steps === 1000 && now.state.job_count === 1, now);
  check('status', (await s.get(`${V}/status`)).json.status === 'running');
  check('internal progress', (await s.post('/internal/progress', { id_task: 'x' })).json.active === true);
  const stop = await s.post(`${V}/interrupt`);
  equal('interrupt', [stop.status, stop.json], [200, {}]);
  const ended = await going;
  check('the interrupted request is answered', ended.status === 200 || ended.status === 409, ended.status);
  equal('idle again', (await s.get(`${V}/progress`)).json.progress, 0);
  const stopped = new AbortController();
  const left = fetch(`${s.base}${V}/txt2img`, { method: 'POST', signal: stopped.signal, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ ...fox, prompt: 'stub:slow', steps: 1000 }) }).catch(() => null);
  await until(async () => (await s.get(`${V}/status`)).json.status === 'running');
  stopped.abort();
  await left;
  check('a client that leaves frees the queue', await until(async () => (await s.get(`${V}/status`)).json.status === 'idle'));
}

async function lists(s, sdnext) {
  const options = (await s.get(`${V}/options`)).json;
  check('options', 'sd_model_checkpoint' in options && options.samples_format === (sdnext ? 'jpg' : 'png'), options);
  const set = await s.post(`${V}/options`, { ...options, unknown_thing: { deep: [1] }, CLIP_stop_at_last_layers: 2, my_flag: true });
  equal('the whole object back', [set.status, sdnext ? Array.isArray(set.json.updated) : set.json], [200, sdnext ? true : null]);
  equal('kept', [(await s.get(`${V}/options`)).json.CLIP_stop_at_last_layers, (await s.get(`${V}/options`)).json.my_flag], [2, true]);
  equal('a bad format', (await s.post(`${V}/options`, { samples_format: 'exe' })).status, 422);
  await s.post(`${V}/options`, { CLIP_stop_at_last_layers: 1 });
  const samplers = (await s.get(`${V}/samplers`)).json;
  check('samplers', samplers.some((x) => x.name === 'Euler a') && samplers.every((x) => Array.isArray(x.aliases) && x.options));
  const schedulers = (await s.get(`${V}/schedulers`)).json;
  check('schedulers', sdnext ? schedulers.every((x) => x.cls) : schedulers.some((x) => x.name === 'karras' && x.label === 'Karras' && x.default_rho === 7), schedulers);
  check('upscalers', (await s.get(`${V}/upscalers`)).json[0].name === 'None');
  for (const name of ['sd-models', 'sd-vae', 'loras', 'prompt-styles', 'script-info', 'hypernetworks', 'face-restorers', 'realesrgan-models', 'extensions', 'latent-upscale-modes', 'history'])
    check(name, Array.isArray((await s.get(`${V}/${name}`)).json), name);
  equal('scripts', (await s.get(`${V}/scripts`)).json, { txt2img: [], img2img: [] });
  check('embeddings', Array.isArray((await s.get(`${V}/embeddings`)).json.loaded) === sdnext);
  check('memory', (await s.get(`${V}/memory`)).json.ram.total > 0);
  equal('cmd-flags tell nothing', (await s.get(`${V}/cmd-flags`)).json, {});
  equal('refresh', (await s.post(`${V}/refresh-checkpoints`)).status, 200);
  equal('ping', (await s.get('/internal/ping')).status, 200);
  equal('queue', Object.keys((await s.get(`${V}/queue`)).json), ['queued', 'running']);
  check('version', (await s.get(`${V}/version`)).json.app === 'limn');
  const paths = JSON.stringify(await Promise.all(['options', 'sd-models', 'loras', 'memory', 'status'].map((n) => s.get(`${V}/${n}`).then((r) => r.text))));
  check('no path of the server anywhere', !paths.includes(s.dir) && !paths.includes('/home'));
}

async function sdnext() {
  const s = await Server.start({ args: ['--compat', 'sdnext', '--stub-ms', '1'] });
  const r = await s.post(`${V}/txt2img`, { prompt: 'a fox', seed: 1 });
  equal('defaults', [r.json.parameters?.width, r.json.parameters?.steps, r.json.parameters?.cfg_scale], [1024, 20, 6]);
  equal('JPEG', r.json.images?.[0].slice(0, 4), '/9j/');
  const none = await s.post(`${V}/img2img`, { prompt: 'a' });
  equal('no picture', [none.status, none.json.detail, none.json.code], [400, 'Init image not found', 400]);
  const info = JSON.parse(r.json.info);
  equal('info', [info.cfg_end, info.detailer, info.batch_size, info.clip_skip], [1, false, 1, 1]);
  for (const [mode, word] of ['stretch', 'stretch', 'crop', 'pad'].entries()) { // None, Fixed, Crop, Fill
    await s.post(`${V}/img2img`, { ...fox, init_images: [png(24, 16).toString('base64')], resize_mode: mode });
    const { id } = (await s.get('/v1/jobs?kind=draw&limit=1')).json.data[0];
    equal(`resize_mode ${mode}`, (await s.get(`/v1/jobs/${id}`)).json.job.params.fit ?? 'stretch', word);
  }
  equal('outpainting', (await s.post(`${V}/img2img`, { ...fox, init_images: [picture], resize_mode: 4 })).status, 501);
  const karras = await s.post(`${V}/txt2img`, { ...fox, sampler_name: 'Euler', schedulers_sigma: 'karras', hr_denoising_strength: 0, schedulers_beta_schedule: 'default' });
  check('schedulers_sigma', JSON.parse(karras.json.info).infotexts[0].includes('Schedule type: karras'), karras.json.info);
  equal('schedulers_sigma that is none', (await s.post(`${V}/txt2img`, { ...fox, schedulers_sigma: 'nope' })).status, 404);
  await lists(s, true);
  equal('clean end', (await s.stop()).code, 0);
  s.remove();
}

run(async () => {
  const s = await Server.start({ args: ['--stub-ms', '1'] });
  await txt2img(s);
  await refusals(s);
  await img2img(s);
  await extras(s);
  await progress(s);
  await lists(s, false);
  equal('alive', (await s.get('/livez')).status, 200);
  equal('clean end', (await s.stop()).code, 0);
  s.remove();
  await sdnext();
});
