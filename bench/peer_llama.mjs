/* SPDX-License-Identifier: MIT
 *
 * limn beside llama.cpp: the same file, prompt length, tokens and threads, in turn, in one run.
 *
 *   node bench/peer_llama.mjs BENCH_DECODER DIR FILE.gguf [ROUNDS] [PROMPT] [WRITE] [THREADS]
 *
 * BENCH_DECODER is limn's bench/bench_decoder; DIR holds node_modules/node-llama-cpp, which brings
 * llama.cpp built for every instruction set and picks the processor's. Prints medians of tokens per
 * second and limn's over the peer's. Weights may be random: only time is looked at. The machine
 * must be quiet. Where llama-bench is at hand, `bench_decoder --llama-bench PATH` does the same.
 */
import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [decoder, dir, file, ...numbers] = process.argv.slice(2);
if (!file) {
    console.error("usage: peer_llama.mjs BENCH_DECODER DIR FILE.gguf [ROUNDS] [PROMPT] [WRITE] [THREADS]");
    process.exit(2);
}
const [rounds = 3, prompt = 512, write = 32, threads = 2] = numbers.map(Number);
const entry = resolve(dir, "node_modules/node-llama-cpp/dist/index.js");
const { getLlama } = await import(pathToFileURL(entry));
const seconds = () => Number(process.hrtime.bigint()) * 1e-9;

const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const model = await llama.loadModel({ modelPath: resolve(file) });
const context = await model.createContext({
    contextSize: prompt + write + 8, batchSize: Math.min(prompt, 512), threads,
});
const sequence = context.getSequence();
const ids = Array.from({ length: prompt }, (_, i) => (i * 7919 + 13) % 500);

async function runPeer() {
    await sequence.clearHistory();
    const begin = seconds();
    let first = 0, count = 0;
    for await (const token of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
        if (count++ === 0) first = seconds();
        if (token === undefined || count > write) break;
    }
    return { read: prompt / (first - begin), write: (count - 1) / (seconds() - first) };
}

function runLimn() {
    const args = [file, "--prompt", prompt, "--write", write, "--runs", 1, "--threads", threads];
    const r = spawnSync(decoder, args.map(String), { encoding: "utf8" });
    const read = /^reading .*?: ([\d.]+) tokens/m.exec(r.stdout ?? "");
    const wrote = /^writing .*?: ([\d.]+) tokens/m.exec(r.stdout ?? "");
    if (r.status !== 0 || !read || !wrote) throw new Error(`${decoder}: ${r.stderr || r.error}`);
    const limits = [...r.stdout.matchAll(/\d+% of [\d.]+ \([^)]*\)/g)].map((m) => m[0]);
    return { read: Number(read[1]), write: Number(wrote[1]), limits: limits.join(", ") };
}

const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];
const all = { limn: [], peer: [] };
await runPeer(); /* to warm up */
for (let i = 0; i < rounds; i++) {
    all.limn.push(runLimn());
    all.peer.push(await runPeer());
    console.log(`round ${i + 1}: limn ${all.limn[i].limits}`);
}
for (const what of ["read", "write"]) {
    const limn = median(all.limn.map((r) => r[what])), peer = median(all.peer.map((r) => r[what]));
    const name = what === "read" ? `reading ${prompt}` : `writing ${write}`;
    console.log(`${name} tokens, per second: limn ${limn.toFixed(1)}, llama.cpp ` +
        `${peer.toFixed(1)}, limn / llama.cpp ${(limn / peer).toFixed(2)}`);
}
process.exit(0);
