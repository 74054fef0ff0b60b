/* SPDX-License-Identifier: MIT */
/*
 * Times a language model as it is used: reading a prompt and writing tokens, beside what the memory
 * and the multipliers of this machine give in the same run, and beside llama.cpp's llama-bench when
 * a path to it is given. Weights may be random: the time does not depend on them.
 *
 *     bench_decoder FILE [--prompt 512] [--write 32] [--chunk 512] [--runs 3] [--threads 0]
 *                        [--cpu-mask native] [--precision fast|exact] [--cache f16]
 *                        [--llama-bench PATH]
 *
 * LIMN_BENCH_CPU_TIME=1 with --threads 1 counts processor time, for machines that are not quiet.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/backend.h"
#include "formats/canon.h"
#include "kernels/cpu_features.h"
#include "machine.h"
#include "models/model_weights.h"
#include "pipeline/reader.h"

typedef struct options {
    const char *file, *mask, *precision, *cache, *peer;
    int prompt, write, chunk, runs, threads;
} options;

static int die(const limn_err *err) {
    fprintf(stderr, "bench_decoder: %s\n", err->text);
    return limn_status_exit(err->status);
}

static bool parse(options *o, int argc, char **argv) {
    *o = (options){NULL, "native", "fast", "f16", NULL, 512, 32, 512, 3, 0};
    const struct {
        const char *name;
        const char **text;
        int *number;
    } rows[] = {
        {"--cpu-mask", &o->mask, NULL},   {"--precision", &o->precision, NULL},
        {"--cache", &o->cache, NULL},     {"--llama-bench", &o->peer, NULL},
        {"--prompt", NULL, &o->prompt},   {"--write", NULL, &o->write},
        {"--chunk", NULL, &o->chunk},     {"--runs", NULL, &o->runs},
        {"--threads", NULL, &o->threads},
    };
    for (int i = 1; i < argc; i++) {
        bool known = false;
        for (size_t k = 0; k < sizeof rows / sizeof rows[0] && i + 1 < argc; k++) {
            if (strcmp(argv[i], rows[k].name) != 0) continue;
            if (rows[k].text) *rows[k].text = argv[i + 1];
            if (rows[k].number) *rows[k].number = atoi(argv[i + 1]);
            known = true;
        }
        if (known)
            i++;
        else if (strncmp(argv[i], "--", 2) == 0)
            return false;
        else
            o->file = argv[i];
    }
    return o->file && o->prompt > 0 && o->write > 0 && o->chunk > 0 && o->runs > 0;
}

/* Bytes that one token reads: every matrix, of the embedding one row unless it is the output. */
static double token_bytes(const limn_weights *set, const limn_decoder_config *cfg) {
    double sum = 0;
    for (size_t i = 0; i < limn_weights_count(set); i++) {
        const limn_tensor *t = limn_weights_at(set, i);
        size_t bytes = 0;
        bool embed = strcmp(limn_weights_name(set, i), "embed_tokens.weight") == 0;
        if (embed && !cfg->tied) continue;
        if (limn_tensor_bytes(&bytes, t->dtype, &t->shape)) sum += (double)bytes;
    }
    return sum;
}

/* Multiply-adds of one token outside attention and the output layer, times two. */
static double token_flops(const limn_weights *set) {
    double sum = 0;
    for (size_t i = 0; i < limn_weights_count(set); i++) {
        const limn_tensor *t = limn_weights_at(set, i);
        if (t->shape.ndim == 2 && strncmp(limn_weights_name(set, i), "layers.", 7) == 0)
            sum += 2.0 * (double)limn_shape_count(&t->shape);
    }
    return sum;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

typedef struct times {
    double *read, *write; /* [runs] seconds */
} times;

static limn_status measure(times *t, limn_reader *r, const options *o, int threads, limn_err *err) {
    int32_t *ids = calloc((size_t)o->prompt, sizeof *ids);
    const float *logits;
    int vocab = limn_reader_config(r)->vocab;
    for (int i = 0; i < o->prompt; i++) ids[i] = (int32_t)((i * 7919LL + 13) % vocab);
    limn_status st = LIMN_OK;
    for (int run = -1; run < o->runs && st == LIMN_OK; run++) { /* -1: to warm up */
        limn_reader_set_mark(r, 0, (limn_reader_mark){0, 0});
        limn_reader_text text = {.ids = ids, .n = o->prompt};
        double t0 = bench_clock(threads);
        st = limn_reader_read(r, 0, &text, &logits, NULL, err);
        double t1 = bench_clock(threads);
        for (int i = 0; i < o->write && st == LIMN_OK; i++) {
            limn_reader_text one = {.ids = ids + i % o->prompt, .n = 1};
            st = limn_reader_read(r, 0, &one, &logits, NULL, err);
        }
        if (run < 0) continue;
        t->read[run] = t1 - t0;
        t->write[run] = bench_clock(threads) - t1;
    }
    free(ids);
    qsort(t->read, (size_t)o->runs, sizeof *t->read, by_value);
    qsort(t->write, (size_t)o->runs, sizeof *t->write, by_value);
    return st;
}

/* Shares of what the multipliers give that a product may live on: integers for quantised files,
 * bf16 pairs for f16 and bf16 files, f32. */
static void print_peaks(double done, limn_pool *pool, unsigned cpu) {
    static const struct {
        bench_unit unit, better; /* not printed where there is a better one */
        const char *what;
    } rows[] = {
        {BENCH_FMA_SSE, BENCH_FMA_YMM, "f32"},
        {BENCH_FMA_YMM, BENCH_FMA_ZMM, "f32"},
        {BENCH_FMA_ZMM, BENCH_FMA_ZMM, "f32"},
        {BENCH_BF16_ZMM, BENCH_BF16_ZMM, "bf16"},
        {BENCH_MADD_YMM, BENCH_VNNI_ZMM, "int16 products"},
        {BENCH_VNNI_ZMM, BENCH_VNNI_ZMM, "int8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bench_unit u = rows[i].unit, better = rows[i].better;
        if (!bench_unit_has(u, cpu) || (better != u && bench_unit_has(better, cpu))) continue;
        double peak = bench_peak(u, pool, 0.3);
        printf(", %.0f%% of %.0f (%s, %s)", 100 * done / peak, peak, rows[i].what,
               bench_unit_name(u));
    }
}

static void print_limits(const options *o, const times *t, double bytes, double flops, int threads,
                         unsigned cpu) {
    limn_pool *pool = NULL;
    if (limn_pool_new(&pool, threads, NULL) != LIMN_OK) return;
    double read = t->read[o->runs / 2], write = t->write[o->runs / 2] / o->write;
    double memory = bench_read_speed(pool, (size_t)128 << 20, 0.5);
    double done = flops * o->prompt / read / 1e9;
    printf("reading %d tokens: %.1f tokens/s (%.3f s, least %.3f): %.1f GFLOP/s", o->prompt,
           o->prompt / read, read, t->read[0], done);
    print_peaks(done, pool, cpu);
    limn_pool_free(&pool);
    printf("\nwriting %d tokens: %.2f tokens/s (%.1f ms each, least %.1f): %.2f GB/s of weights, "
           "%.0f%% of %.2f (reading memory)\n",
           o->write, 1 / write, write * 1e3, t->write[0] / o->write * 1e3, bytes / write / 1e9,
           100 * bytes / write / 1e9 / memory, memory);
}

static void run_peer(const options *o, int threads) {
    char p[16], n[16], t[16];
    snprintf(p, sizeof p, "%d", o->prompt);
    snprintf(n, sizeof n, "%d", o->write);
    snprintf(t, sizeof t, "%d", threads);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        execl(o->peer, o->peer, "-m", o->file, "-p", p, "-n", n, "-t", t, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
        fprintf(stderr, "bench_decoder: %s could not be run\n", o->peer);
}

int main(int argc, char **argv) {
    options o;
    limn_err err = {0};
    unsigned mask;
    limn_weights *file, *set;
    limn_model_weights *mw;
    limn_backend *b;
    limn_reader *r;
    limn_vl_config *cfg = calloc(1, sizeof *cfg);
    limn_reader_options ro = {.sequences = 1};
    if (!cfg || !parse(&o, argc, argv) || !limn_dtype_find(&ro.cache, o.cache)) {
        fprintf(stderr, "usage: bench_decoder FILE [--prompt N] [--write N] [--chunk N] [--runs N] "
                        "[--threads N] [--cpu-mask M] [--precision fast|exact] [--cache TYPE] "
                        "[--llama-bench PATH]\n");
        return 2;
    }
    if (limn_cpu_mask_parse(&mask, o.mask, &err) != LIMN_OK) return die(&err);
    limn_cpu_options co = {.threads = o.threads, .cpu_flags = limn_cpu_detect() & mask};
    co.precision = strcmp(o.precision, "exact") == 0 ? LIMN_PRECISION_EXACT : LIMN_PRECISION_FAST;
    int threads = o.threads > 0 ? o.threads : limn_cpu_count();
    double begin = bench_clock(threads);
    if (limn_weights_open(&file, o.file, &err) != LIMN_OK) return die(&err);
    if (limn_vl_config_read(cfg, file, &err) != LIMN_OK) return die(&err);
    if (limn_canon_llm(&set, file, &err) != LIMN_OK) return die(&err);
    if (limn_model_weights_new(&mw, set, &err) != LIMN_OK) return die(&err);
    if (limn_backend_new_cpu(&b, &co, &err) != LIMN_OK) return die(&err);
    ro.context = o.prompt + o.write;
    ro.chunk = o.chunk;
    if (limn_reader_new(&r, b, mw, &cfg->text, &ro, &err) != LIMN_OK) return die(&err);
    char cpu[64];
    printf("%s, %s, %s, %d threads, cache %s; ready in %.2f s\n", o.file,
           limn_cpu_describe(co.cpu_flags, cpu, sizeof cpu), o.precision, threads, o.cache,
           bench_clock(threads) - begin);
    times t = {calloc((size_t)o.runs, sizeof(double)), calloc((size_t)o.runs, sizeof(double))};
    if (!t.read || !t.write || measure(&t, r, &o, threads, &err) != LIMN_OK) return die(&err);
    print_limits(&o, &t, token_bytes(set, &cfg->text), token_flops(set), threads, co.cpu_flags);
    printf("peak memory %.0f MB, packed weights %.0f MB\n", (double)limn_mem_peak_rss() / 1e6,
           (double)limn_backend_packed_bytes(b) / 1e6);
    limn_reader_free(&r);
    limn_backend_free(&b);
    limn_model_weights_free(&mw);
    limn_weights_unref(&set);
    limn_weights_unref(&file);
    if (o.peer) run_peer(&o, threads);
    return 0;
}
