/* SPDX-License-Identifier: MIT */
/* Speed of convolutions at the shapes of the SD 1.5 UNet and autoencoder, as a share of the
 * machine's measured peak, beside oneDNN where found. Rates count the multiplications of the direct
 * form, so that Winograd's may exceed the peak; "f16 exact" is the direct form of "f16 half". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "bench_util.h"
#include "kernels/conv.h"
#include "kernels/winograd.h"
#ifdef LIMN_HAVE_ONEDNN
#include "onednn.h"
#endif

/* ic, oc, side, kernel */
static const int shapes[][4] = {
    {320, 320, 64, 3},  {640, 320, 64, 3},  {960, 320, 64, 3},   {640, 640, 32, 3},
    {1280, 640, 32, 3}, {1920, 640, 32, 3}, {1280, 1280, 16, 3}, {2560, 1280, 16, 3},
    {1280, 1280, 8, 3}, {512, 512, 64, 3},  {512, 512, 128, 3},  {512, 256, 256, 3},
    {256, 256, 256, 3}, {128, 128, 512, 3}, {640, 320, 64, 1},   {4, 320, 64, 3},
    {320, 4, 64, 3},    {128, 3, 512, 3},   {64, 64, 512, 3},
};

typedef struct cv_run {
    limn_exec ex;
    limn_conv_args a;
} cv_run;

static void call(void *arg) {
    cv_run *r = arg;
    limn_err err = {0};
    if (limn_conv(&r->ex, &r->a, &err) != LIMN_OK) {
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
static void compare_onednn(const int *s, limn_words words, double gop, double seconds) {
    onednn_type t = words == LIMN_WORDS_F32      ? ONEDNN_F32
                    : words == LIMN_WORDS_BF16X2 ? ONEDNN_BF16
                                                 : ONEDNN_U8S8;
    double d = onednn_conv(s[0], s[1], s[2], s[3], t, 0, seconds);
    if (d > 0) printf("  oneDNN %8.3f ms %8.1f G/s", d * 1e3, gop / d);
    if (t != ONEDNN_F32 || s[3] != 3) return;
    d = onednn_conv(s[0], s[1], s[2], s[3], t, 1, seconds);
    if (d > 0) printf(" (Winograd %8.1f)", gop / d);
}
#endif

static void bench_one(const bench_options *o, const int *s, limn_dtype dtype,
                      limn_compute compute) {
    static const char *const modes[] = {"exact", "half", "int8"};
    int64_t ic = s[0], oc = s[1], side = s[2], kernel = s[3], area = side * side;
    char text[96];
    snprintf(text, sizeof text, "%d->%d @%d %dx%d %s %s", s[0], s[1], s[2], s[3], s[3],
             limn_dtype_get(dtype)->name, modes[compute]);
    if (!bench_wanted(o, text) || (o->compute >= 0 && o->compute != (int)compute)) return;
    size_t nw = (size_t)(ic * oc * kernel * kernel);
    float *wf = room(nw * 4), *x = room((size_t)(area * ic) * 4);
    void *w = room(nw * 4);
    bench_fill(wf, nw);
    bench_fill(x, (size_t)(area * ic));
    limn_packed *p = NULL;
    limn_err err = {0};
    limn_pack_args pa = {.data = w,
                         .dtype = dtype,
                         .n = oc,
                         .k = ic * kernel * kernel,
                         .kh = s[3],
                         .kw = s[3],
                         .compute = compute};
    if (!limn_dtype_from_f32(w, wf, dtype, (int64_t)nw) ||
        limn_packed_new(&p, &o->k, o->pool, &pa, &err) != LIMN_OK) {
        fprintf(stderr, "bench: %s: %s\n", text, err.text);
        exit(1);
    }
    limn_mem_free(wf);
    limn_mem_free(w);
    int pad = s[3] / 2;
    cv_run r = {.ex = {.k = &o->k, .pool = o->pool},
                .a = {.shape = {.n = 1,
                                .h = side,
                                .w = side,
                                .ic = ic,
                                .oc = oc,
                                .kh = s[3],
                                .kw = s[3],
                                .stride = 1,
                                .dilation = 1,
                                .pad_l = pad,
                                .pad_r = pad,
                                .pad_t = pad,
                                .pad_b = pad,
                                .groups = 1},
                      .y = room((size_t)(area * oc) * 4),
                      .y_dtype = LIMN_F32,
                      .y_stride = oc,
                      .x = x,
                      .x_dtype = LIMN_F32,
                      .x_stride = ic,
                      .w = p,
                      .epi = {.scale = 1}}};
    /* bf16 weights get pixels as they do inside a network, and as oneDNN's do */
    if (limn_packed_words(p, &o->k) == LIMN_WORDS_BF16X2) {
        limn_dtype_from_f32(x, x, LIMN_BF16, area * ic); /* narrower: in place */
        r.a.x_dtype = r.a.y_dtype = LIMN_BF16;
    }
    r.ex.scratch_bytes = limn_conv_scratch_bytes(&o->k, &r.a, o->threads);
    r.ex.scratch = room(r.ex.scratch_bytes);
    bench_unit unit = bench_unit_of(&o->k, p);
    double gop = 2e-9 * (double)area * (double)nw;
    if (limn_winograd_takes(&o->k, &r.a))
        strncat(text, " Winograd", sizeof text - strlen(text) - 1);
    double peak = bench_peak(unit, o->pool, 0.03), t = bench_median(o, call, &r);
    double peak2 = bench_peak(unit, o->pool, 0.03);
    if (peak2 > peak) peak = peak2;
    printf("%-38s %9.3f ms %8.1f G/s %5.1f%% of %-13s", text, t * 1e3, gop / t,
           100 * gop / t / peak, bench_unit_name(unit));
#ifdef LIMN_HAVE_ONEDNN
    compare_onednn(s, limn_packed_words(p, &o->k), gop, o->seconds);
#endif
    printf("\n");
    fflush(stdout);
    limn_packed_free(&p);
    limn_mem_free(r.ex.scratch);
    limn_mem_free(r.a.y);
    limn_mem_free(x);
}

int main(int argc, char **argv) {
    bench_options o = bench_parse(argc, argv);
#ifdef LIMN_HAVE_ONEDNN
    onednn_set_threads(o.threads);
#endif
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        bench_one(&o, shapes[i], LIMN_F32, LIMN_COMPUTE_EXACT);
        if (shapes[i][3] == 3) bench_one(&o, shapes[i], LIMN_F16, LIMN_COMPUTE_EXACT);
        bench_one(&o, shapes[i], LIMN_F16, LIMN_COMPUTE_HALF);
        bench_one(&o, shapes[i], LIMN_F16, LIMN_COMPUTE_INT8);
    }
    bench_close(&o);
    return 0;
}
