/* SPDX-License-Identifier: MIT */
/* Attention at the shapes of the models: time, GFLOP/s (of what queries see: masked keys count as
 * nothing), share of the rate of the instruction that its products live on (exp and sums come on
 * top), measured beside each shape. */
#include <stdio.h>

#include "base/mem.h"
#include "bench_util.h"

typedef struct shape {
    const char *name;
    int64_t n, len_q, len_k, heads, kv_heads, dim;
    bool causal;
    limn_dtype kv_type;
    int caches; /* how many keys and values take turns, as those of layers do */
} shape;

static const shape shapes[] = {
    {"SD 1.5 64x64 self", 1, 4096, 4096, 8, 8, 40, false, LIMN_F32, 1},
    {"SD 1.5 32x32 self", 1, 1024, 1024, 8, 8, 80, false, LIMN_F32, 1},
    {"SD 1.5 16x16 self", 1, 256, 256, 8, 8, 160, false, LIMN_F32, 1},
    {"SD 1.5 64x64 cross", 1, 4096, 77, 8, 8, 40, false, LIMN_F32, 1},
    {"SDXL 64x64 self", 1, 4096, 4096, 10, 10, 64, false, LIMN_F32, 1},
    {"VAE middle 64x64", 1, 4096, 4096, 1, 1, 512, false, LIMN_F32, 1},
    {"CLIP-L causal", 1, 77, 77, 12, 12, 64, true, LIMN_F32, 1},
    {"DiT 4096+512", 1, 4608, 4608, 4, 4, 128, false, LIMN_F32, 1},
    {"Qwen3 prefill 1024", 1, 1024, 1024, 16, 8, 128, true, LIMN_F16, 1},
    {"Qwen3 512 first", 1, 512, 512, 16, 8, 128, true, LIMN_F16, 64},
    {"Qwen3 512 to 2048", 1, 512, 2048, 16, 8, 128, true, LIMN_F16, 16},
    {"Qwen3 512 to 4096", 1, 512, 4096, 16, 8, 128, true, LIMN_F16, 8},
    {"Qwen3 q8_0 to 2048", 1, 512, 2048, 16, 8, 128, true, LIMN_Q8_0, 16},
    {"Qwen3 12 to 2048", 1, 12, 2048, 16, 8, 128, true, LIMN_F16, 16},
    {"Qwen3 decode 512", 1, 1, 512, 16, 8, 128, true, LIMN_F16, 1},
    {"Qwen3 decode 4096", 1, 1, 4096, 16, 8, 128, true, LIMN_F16, 1},
    {"Qwen3 4B decode 4096", 1, 1, 4096, 32, 8, 128, true, LIMN_F16, 1},
    {"Qwen3 decode q8_0", 1, 1, 4096, 16, 8, 128, true, LIMN_Q8_0, 1},
    {"Qwen3-VL vision", 1, 2304, 2304, 16, 16, 72, false, LIMN_F32, 1},
};

typedef struct job {
    limn_exec ex;
    limn_attention_args a;
    const char *k, *v; /* of all caches */
    size_t cache_bytes;
    int caches, turn;
} job;

static void run(void *arg) {
    job *j = arg;
    j->a.k.data = j->k + (size_t)j->turn * j->cache_bytes;
    j->a.v.data = j->v + (size_t)j->turn * j->cache_bytes;
    j->turn = (j->turn + 1) % j->caches;
    limn_attention_run(&j->ex, &j->a);
}

static void *fill(limn_dtype t, int64_t n) {
    float *x = limn_mem_aligned((size_t)n * 4);
    uint32_t s = 1;
    for (int64_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)s * 4.6566129e-10f;
    }
    if (t != LIMN_F32) limn_dtype_from_f32(x, x, t, n); /* narrower: in place, front to back */
    return x;
}

/* Pairs of a query and a key that it sees, in one head. */
static double pairs(const limn_attention_args *a) {
    double sum = 0;
    for (int64_t i = 0; i < a->len_q; i++) sum += (double)limn_attention_visible(a, i);
    return sum * (double)a->n;
}

static void measure(const shape *s, const bench_options *o, bool exact, bench_unit unit) {
    int64_t qw = s->heads * s->dim, kw = s->kv_heads * s->dim;
    const limn_dtype_info *info = limn_dtype_get(s->kv_type);
    job j = {.ex = {.k = &o->k, .pool = o->pool}, .caches = s->caches};
    float *out = limn_mem_aligned((size_t)(s->n * s->len_q * qw) * 4);
    j.cache_bytes = (size_t)(s->n * s->len_k * kw / info->block * info->bytes);
    j.k = fill(s->kv_type, s->n * s->len_k * kw * j.caches);
    j.v = fill(s->kv_type, s->n * s->len_k * kw * j.caches);
    j.a = (limn_attention_args){
        .q = {fill(LIMN_F32, s->n * s->len_q * qw), LIMN_F32, s->len_q * qw, qw, s->dim},
        .k = {NULL, s->kv_type, s->len_k * kw, kw, s->dim},
        .v = {NULL, s->kv_type, s->len_k * kw, kw, s->dim},
        .out = out,
        .out_type = LIMN_F32,
        .out_batch = s->len_q * qw,
        .out_row = qw,
        .out_head = s->dim,
        .n = s->n,
        .len_q = s->len_q,
        .len_k = s->len_k,
        .heads = s->heads,
        .kv_heads = s->kv_heads,
        .dim = s->dim,
        .causal = s->causal,
        .offset = s->len_k - s->len_q,
        .exact = exact};
    j.ex.scratch_bytes = limn_attention_scratch_bytes(&o->k, &j.a, o->threads);
    j.ex.scratch = limn_mem_aligned(j.ex.scratch_bytes);
    double peak = bench_peak(unit, o->pool, 0.05), t = bench_median(o, run, &j);
    peak = (peak + bench_peak(unit, o->pool, 0.05)) / 2;
    double rate = 4e-9 * pairs(&j.a) * (double)qw / t;
    printf("%-20s %s %10.3f ms %8.1f GFLOP/s %5.1f%% of %6.1f %7.1f GB/s of k, v; scratch %.1f "
           "MB\n",
           s->name, exact ? "f32 " : "fast", t * 1e3, rate, 100 * rate / peak, peak,
           2e-9 * (double)j.cache_bytes / t, (double)j.ex.scratch_bytes / 1e6);
    fflush(stdout);
    void *all[] = {(void *)j.a.q.data, (void *)j.k, (void *)j.v, out, j.ex.scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) limn_mem_free(all[i]);
}

int main(int argc, char **argv) {
    bench_options o = bench_parse(argc, argv);
    bench_unit f32 = o.k.cpu & LIMN_CPU_AVX512 ? BENCH_FMA_ZMM
                     : o.k.cpu & LIMN_CPU_AVX2 ? BENCH_FMA_YMM
                                               : BENCH_FMA_SSE;
    bool narrow = bench_unit_has(BENCH_BF16_ZMM, o.k.cpu);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (!bench_wanted(&o, shapes[i].name)) continue;
        if (o.compute <= LIMN_COMPUTE_EXACT) measure(&shapes[i], &o, true, f32);
        if (narrow && o.compute != LIMN_COMPUTE_EXACT)
            measure(&shapes[i], &o, false, BENCH_BF16_ZMM);
    }
    bench_close(&o);
    return 0;
}
