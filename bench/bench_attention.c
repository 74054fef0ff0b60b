/* SPDX-License-Identifier: MIT */
/* Attention at the shapes of the models: time, GFLOP/s, share of the measured rate of the
 * instruction that its products live on (exp and sums come on top). */
#include "bench.h"
#include "machine.h"
#include "kernels/exec.h"

typedef struct shape {
    const char *name;
    int64_t n, len_q, len_k, heads, kv_heads, dim;
    bool causal;
    limn_dtype kv_type;
} shape;

static const shape shapes[] = {
    {"SD 1.5 64x64 self", 1, 4096, 4096, 8, 8, 40, false, LIMN_F32},
    {"SD 1.5 32x32 self", 1, 1024, 1024, 8, 8, 80, false, LIMN_F32},
    {"SD 1.5 16x16 self", 1, 256, 256, 8, 8, 160, false, LIMN_F32},
    {"SD 1.5 64x64 cross", 1, 4096, 77, 8, 8, 40, false, LIMN_F32},
    {"SDXL 64x64 self", 1, 4096, 4096, 10, 10, 64, false, LIMN_F32},
    {"VAE middle 64x64", 1, 4096, 4096, 1, 1, 512, false, LIMN_F32},
    {"CLIP-L causal", 1, 77, 77, 12, 12, 64, true, LIMN_F32},
    {"DiT 4096+512", 1, 4608, 4608, 4, 4, 128, false, LIMN_F32},
    {"Qwen3 prefill 1024", 1, 1024, 1024, 16, 8, 128, true, LIMN_F16},
    {"Qwen3 decode 512", 1, 1, 512, 16, 8, 128, true, LIMN_F16},
    {"Qwen3 decode 4096", 1, 1, 4096, 16, 8, 128, true, LIMN_F16},
    {"Qwen3 4B decode 4096", 1, 1, 4096, 32, 8, 128, true, LIMN_F16},
    {"Qwen3 decode q8_0", 1, 1, 4096, 16, 8, 128, true, LIMN_Q8_0},
    {"Qwen3-VL vision", 1, 2304, 2304, 16, 16, 72, false, LIMN_F32},
};

typedef struct job {
    limn_exec ex;
    limn_attention_args a;
} job;

static void run(void *arg) {
    const job *j = arg;
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

static void measure(const shape *s, const limn_kernels *k, limn_pool *pool, bool exact,
                    double peak) {
    int64_t qw = s->heads * s->dim, kw = s->kv_heads * s->dim;
    job j = {.ex = {.k = k, .pool = pool}};
    float *out = limn_mem_aligned((size_t)(s->n * s->len_q * qw) * 4);
    j.a = (limn_attention_args){
        .q = {fill(LIMN_F32, s->n * s->len_q * qw), LIMN_F32, s->len_q * qw, qw, s->dim},
        .k = {fill(s->kv_type, s->n * s->len_k * kw), s->kv_type, s->len_k * kw, kw, s->dim},
        .v = {fill(s->kv_type, s->n * s->len_k * kw), s->kv_type, s->len_k * kw, kw, s->dim},
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
    j.ex.scratch_bytes = limn_attention_scratch_bytes(k, &j.a, limn_pool_threads(pool));
    j.ex.scratch = limn_mem_aligned(j.ex.scratch_bytes);
    double t = bench_best(run, &j), seen = s->causal && s->len_q == s->len_k ? 0.5 : 1;
    double flop = 4.0 * (double)(s->n * s->len_q * s->len_k * qw) * seen;
    double bytes = (double)(2 * s->n * s->len_k * kw) * limn_dtype_get(s->kv_type)->bytes /
                   limn_dtype_get(s->kv_type)->block;
    printf("%-20s %s %10.3f ms %8.1f GFLOP/s %5.1f%% of peak %7.1f GB/s of k, v; scratch %.1f "
           "MB\n",
           s->name, exact ? "f32 " : "fast", t * 1e3, flop / t / 1e9, 100 * flop / t / 1e9 / peak,
           bytes / t / 1e9, (double)j.ex.scratch_bytes / 1e6);
    void *all[] = {(void *)j.a.q.data, (void *)j.a.k.data, (void *)j.a.v.data, out, j.ex.scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) limn_mem_free(all[i]);
}

int main(int argc, char **argv) {
    int threads;
    unsigned cpu;
    limn_pool *pool = NULL;
    limn_kernels k;
    char words[64];
    if (bench_options(argc, argv, &threads, &cpu) != 0) return 2;
    if (limn_pool_new(&pool, threads, NULL) != LIMN_OK) return 1;
    limn_kernels_init(&k, cpu);
    bench_limits m = bench_measure(pool, cpu, BENCH_COPY_BYTES);
    bool narrow = bench_unit_has(BENCH_BF16_ZMM, cpu);
    double fast = narrow ? bench_peak(BENCH_BF16_ZMM, pool, 0.3) : 0;
    printf("%s, %d threads: %.1f GFLOP/s f32, %.1f bf16 (0: none), %.1f GB/s copy\n",
           limn_cpu_describe(cpu, words, sizeof words), limn_pool_threads(pool), m.gflops, fast,
           m.gbytes);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int exact = 1; exact >= (narrow ? 0 : 1); exact--)
            measure(&shapes[i], &k, pool, exact, exact ? m.gflops : fast);
    limn_pool_free(&pool);
    return 0;
}
