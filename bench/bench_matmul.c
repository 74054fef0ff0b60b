/* SPDX-License-Identifier: MIT */
/* Speed of matrix products at the shapes that image networks and language models have, as a share
 * of the machine's measured peak (or, with few rows, of its memory), beside oneDNN where found. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "bench_util.h"
#include "kernels/matmul.h"
#ifdef LIMN_HAVE_ONEDNN
#include "onednn.h"
#endif

/* m, n, k: SD 1.5 at 512 x 512, its text encoder, and one token of a language model. */
static const int shapes[][3] = {
    {4096, 320, 320},  {4096, 2560, 320}, {4096, 320, 1280},  {1024, 640, 640},  {1024, 5120, 640},
    {1024, 640, 2560}, {256, 1280, 1280}, {256, 10240, 1280}, {256, 1280, 5120}, {64, 1280, 1280},
    {77, 320, 768},    {77, 3072, 768},   {512, 6144, 2048},  {512, 2048, 6144}, {4096, 4096, 4096},
    {1, 6144, 2048},   {1, 9728, 2560},   {4, 6144, 2048},    {8, 6144, 2048},
};

typedef struct mm_run {
    limn_exec ex;
    limn_matmul_args a;
} mm_run;

static void call(void *arg) {
    mm_run *r = arg;
    limn_err err = {0};
    if (limn_matmul(&r->ex, &r->a, &err) != LIMN_OK) {
        fprintf(stderr, "bench: %s\n", err.text);
        exit(1);
    }
}

static void *room(size_t n) {
    void *p = limn_mem_aligned(n ? n : 64);
    if (!p) {
        fprintf(stderr, "bench: out of memory\n");
        exit(1);
    }
    return p;
}

#ifdef LIMN_HAVE_ONEDNN
static void compare_onednn(int m, int n, int k, limn_words words, double gop, double seconds) {
    onednn_type t = words == LIMN_WORDS_F32 || words == LIMN_WORDS_S16X2 ? ONEDNN_F32
                    : words == LIMN_WORDS_BF16X2                         ? ONEDNN_BF16
                                                                         : ONEDNN_U8S8;
    double s = onednn_matmul(m, n, k, t, seconds);
    if (s > 0) printf("  oneDNN %8.3f ms %8.1f G/s", s * 1e3, gop / s);
}
#endif

static void bench_one(const bench_options *o, const int *s, limn_dtype dtype,
                      limn_compute compute) {
    int m = s[0], n = s[1], k = s[2];
    static const char *const modes[] = {"exact", "half", "int8"};
    char text[96];
    snprintf(text, sizeof text, "%d,%d,%d %s %s", m, n, k, limn_dtype_get(dtype)->name,
             modes[compute]);
    if (!bench_wanted(o, text) || (o->compute >= 0 && o->compute != (int)compute)) return;
    size_t row_bytes, file_bytes;
    if (!limn_dtype_row_bytes(&row_bytes, dtype, k)) return;
    file_bytes = row_bytes * (size_t)n;
    float *wf = room((size_t)n * (size_t)k * 4), *x = room((size_t)m * (size_t)k * 4);
    void *w = room(file_bytes);
    bench_fill(wf, (size_t)n * (size_t)k);
    bench_fill(x, (size_t)m * (size_t)k);
    limn_packed *p = NULL;
    limn_err err = {0};
    limn_pack_args pa = {.data = w, .dtype = dtype, .n = n, .k = k, .compute = compute};
    bool filled = limn_dtype_from_f32(w, wf, dtype, (int64_t)n * k);
    /* any bytes are a block; these have scales below 2 */
    for (size_t i = 0; !filled && i < file_bytes; i++) ((uint8_t *)w)[i] = (uint8_t)(i * 7 % 64);
    if ((!filled && !limn_dtype_get(dtype)->quantised) ||
        limn_packed_new(&p, &o->k, o->pool, &pa, &err) != LIMN_OK) {
        fprintf(stderr, "bench: %s: %s\n", text, err.text);
        exit(1);
    }
    limn_mem_free(wf);
    mm_run r = {.ex = {.k = &o->k, .pool = o->pool},
                .a = {.y = room((size_t)m * (size_t)n * 4),
                      .y_dtype = LIMN_F32,
                      .y_stride = n,
                      .x = x,
                      .x_dtype = LIMN_F32,
                      .x_stride = k,
                      .m = m,
                      .w = p,
                      .epi = {.scale = 1}}};
    /* bf16 products get their rows as they do inside a network, and as oneDNN's do */
    if (limn_packed_words(p, &o->k) == LIMN_WORDS_BF16X2 && dtype == LIMN_F16) {
        limn_dtype_from_f32(x, x, LIMN_BF16, (int64_t)m * k); /* narrower: in place */
        r.a.x_dtype = LIMN_BF16;
    }
    r.ex.scratch_bytes = limn_matmul_scratch_bytes(&o->k, &r.a, o->threads);
    r.ex.scratch = room(r.ex.scratch_bytes);
    bench_unit unit = bench_unit_of(&o->k, p);
    double gop = 2e-9 * m * n * k;
    double peak = bench_peak(unit, o->pool, 0.03), t = bench_median(o, call, &r);
    double peak2 = bench_peak(unit, o->pool, 0.03);
    if (peak2 > peak) peak = peak2;
    printf("%-30s %9.3f ms %8.1f G/s %5.1f%% of %-13s", text, t * 1e3, gop / t,
           100 * gop / t / peak, bench_unit_name(unit));
    if (m <= 8) printf(" %6.1f GB/s", (double)p->panels * (double)p->panel_bytes / t * 1e-9);
#ifdef LIMN_HAVE_ONEDNN
    compare_onednn(m, n, k, limn_packed_words(p, &o->k), gop, o->seconds);
#endif
    printf("\n");
    fflush(stdout);
    limn_packed_free(&p);
    limn_mem_free(r.ex.scratch);
    limn_mem_free(r.a.y);
    limn_mem_free(x);
    limn_mem_free(w);
}

int main(int argc, char **argv) {
    bench_options o = bench_parse(argc, argv);
#ifdef LIMN_HAVE_ONEDNN
    onednn_set_threads(o.threads);
#endif
    bench_memory *memory = bench_memory_new(o.pool, (size_t)128 << 20);
    if (memory) printf("read memory %.1f GB/s\n", bench_memory_read(memory, 0.3));
    bench_memory_free(&memory);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        bench_one(&o, shapes[i], LIMN_F32, LIMN_COMPUTE_EXACT);
        bench_one(&o, shapes[i], LIMN_F16, LIMN_COMPUTE_HALF);
        bench_one(&o, shapes[i], LIMN_F16, LIMN_COMPUTE_INT8);
        if (shapes[i][0] <= 512 && shapes[i][2] % 32 == 0) {
            bench_one(&o, shapes[i], LIMN_Q8_0, LIMN_COMPUTE_HALF);
            bench_one(&o, shapes[i], LIMN_Q4_0, LIMN_COMPUTE_HALF);
        }
        if (shapes[i][0] <= 512 && shapes[i][2] % 256 == 0) {
            bench_one(&o, shapes[i], LIMN_Q4_K, LIMN_COMPUTE_HALF);
            bench_one(&o, shapes[i], LIMN_Q5_K, LIMN_COMPUTE_HALF);
            bench_one(&o, shapes[i], LIMN_Q6_K, LIMN_COMPUTE_HALF);
        }
    }
    bench_close(&o);
    return 0;
}
