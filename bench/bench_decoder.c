/* SPDX-License-Identifier: MIT */
/*
 * Times a language model as it is used: reading a prompt and writing tokens, beside what the memory
 * and the multipliers of this machine give in the same run, and beside llama.cpp's llama-bench when
 * a path to it is given. Weights may be random: the time does not depend on them.
 *
 *     bench_decoder FILE [--prompt 512] [--write 32] [--chunk 512] [--runs 3] [--threads 0]
 *                        [--cpu-mask native] [--precision fast|exact] [--cache f16]
 *                        [--llama-bench PATH [--llama-flags "-fa 1 -rtr 1"]]
 *
 * What memory and multipliers give changes from minute to minute on a shared host, so it is
 * measured before and after every prompt and what is written after it, and shares are medians of
 * each run's own. A token reads all matrices and, of the cache, the rows before it.
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

enum { MOST_RUNS = 64, MEMORY = 256 << 20 /* bytes that each thread reads, to compare */ };

typedef struct options {
    const char *file, *mask, *precision, *cache, *peer, *peer_flags;
    int prompt, write, chunk, runs, threads;
} options;

static int die(const limn_err *err) {
    fprintf(stderr, "bench_decoder: %s\n", err->text);
    return limn_status_exit(err->status);
}

static bool parse(options *o, int argc, char **argv) {
    *o = (options){NULL, "native", "fast", "f16", NULL, "", 512, 32, 512, 3, 0};
    const struct {
        const char *name;
        const char **text;
        int *number;
    } rows[] = {
        {"--cpu-mask", &o->mask, NULL},   {"--precision", &o->precision, NULL},
        {"--cache", &o->cache, NULL},     {"--llama-bench", &o->peer, NULL},
        {"--prompt", NULL, &o->prompt},   {"--write", NULL, &o->write},
        {"--chunk", NULL, &o->chunk},     {"--runs", NULL, &o->runs},
        {"--threads", NULL, &o->threads}, {"--llama-flags", &o->peer_flags, NULL},
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
    return o->file && o->prompt > 0 && o->write > 0 && o->chunk > 0 && o->runs > 0 &&
           o->runs <= MOST_RUNS;
}

/* The part of a tensor that one token needs: of experts those that it chose. */
static double part_of(const limn_tensor *t, const limn_decoder_config *cfg) {
    return t->shape.ndim == 3 ? (double)cfg->experts_used / (double)t->shape.dim[0] : 1;
}

/* Bytes that one token reads: every matrix, of the embedding one row unless it is the output. */
static double token_bytes(const limn_weights *set, const limn_decoder_config *cfg) {
    double sum = 0;
    for (size_t i = 0; i < limn_weights_count(set); i++) {
        const limn_tensor *t = limn_weights_at(set, i);
        size_t bytes = 0;
        bool embed = strcmp(limn_weights_name(set, i), "embed_tokens.weight") == 0;
        if (embed && !cfg->tied) continue;
        if (limn_tensor_bytes(&bytes, t->dtype, &t->shape)) sum += (double)bytes * part_of(t, cfg);
    }
    return sum;
}

/* Multiply-adds of one token outside attention and the output layer, times two. */
static double token_flops(const limn_weights *set, const limn_decoder_config *cfg) {
    double sum = 0;
    for (size_t i = 0; i < limn_weights_count(set); i++) {
        const limn_tensor *t = limn_weights_at(set, i);
        if (t->shape.ndim >= 2 && strncmp(limn_weights_name(set, i), "layers.", 7) == 0)
            sum += 2.0 * (double)limn_shape_count(&t->shape) * part_of(t, cfg);
    }
    return sum;
}

/* The same of attention over a text of n tokens: each sees itself and those before it. */
static double attention_flops(const limn_decoder_config *cfg, int n) {
    return 4.0 * cfg->layers * (double)cfg->heads * cfg->head_dim * n * (n + 1.0) / 2;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Bytes of the cache that tokens number `from` to `from + n - 1` read, on average. */
static double cache_bytes(const limn_decoder_config *cfg, limn_dtype type, int from, int n) {
    size_t row = 0;
    if (!limn_dtype_row_bytes(&row, type, (int64_t)cfg->kv_heads * cfg->head_dim)) return 0;
    return 2.0 * cfg->layers * (double)row * (from + (n + 1) / 2.0);
}

/* Shares of what the multipliers give that a product may live on: integers for quantised files,
 * bf16 pairs for f16 and bf16 files, f32. */
static const struct {
    bench_unit unit, better; /* not printed where there is a better one */
    const char *what;
} peaks[] = {
    {BENCH_FMA_SSE, BENCH_FMA_YMM, "f32"},
    {BENCH_FMA_YMM, BENCH_FMA_ZMM, "f32"},
    {BENCH_FMA_ZMM, BENCH_FMA_ZMM, "f32"},
    {BENCH_BF16_ZMM, BENCH_BF16_ZMM, "bf16"},
    {BENCH_MADD_YMM, BENCH_VNNI_ZMM, "int16 products"},
    {BENCH_VNNI_ZMM, BENCH_VNNI_ZMM, "int8"},
};
enum { PEAKS = sizeof peaks / sizeof *peaks };

static bool peak_counts(size_t i, unsigned cpu) {
    bench_unit u = peaks[i].unit, better = peaks[i].better;
    return bench_unit_has(u, cpu) && (better == u || !bench_unit_has(better, cpu));
}

/* What the machine gives at a time: GB/s, 1e9 operations per second. */
typedef struct limits {
    double memory, peak[PEAKS];
} limits;

typedef struct meter {
    limn_pool *pool;
    bench_memory *memory;
    unsigned cpu;
    int threads;
} meter;

static limits limits_now(const meter *m) {
    limits l = {.memory = bench_memory_read(m->memory, 0.15)};
    for (size_t i = 0; i < PEAKS; i++)
        if (peak_counts(i, m->cpu)) l.peak[i] = bench_peak(peaks[i].unit, m->pool, 0.05);
    return l;
}

typedef struct run_times {
    double read, write;      /* seconds */
    limits reading, writing; /* means of before and after each */
} run_times;

static limits mean_of(const limits *a, const limits *b) {
    limits l = {.memory = (a->memory + b->memory) / 2};
    for (size_t i = 0; i < PEAKS; i++) l.peak[i] = (a->peak[i] + b->peak[i]) / 2;
    return l;
}

/* A prompt and tokens after it, from an empty text. */
static limn_status run_once(run_times *t, limn_reader *r, const options *o, const int32_t *ids,
                            int prompt, const meter *m, limn_err *err) {
    const float *logits;
    int threads = m->threads;
    limits before = limits_now(m);
    limn_reader_set_mark(r, 0, (limn_reader_mark){0, 0});
    limn_reader_text text = {.ids = ids, .n = prompt};
    double t0 = bench_clock(threads);
    limn_status st = limn_reader_read(r, 0, &text, &logits, NULL, err);
    double t1 = bench_clock(threads);
    limits between = limits_now(m);
    double t2 = bench_clock(threads);
    for (int i = 0; i < o->write && st == LIMN_OK; i++) {
        limn_reader_text one = {.ids = ids + i % o->prompt, .n = 1};
        st = limn_reader_read(r, 0, &one, &logits, NULL, err);
    }
    t->read = t1 - t0;
    t->write = bench_clock(threads) - t2;
    limits after = limits_now(m);
    t->reading = mean_of(&before, &between);
    t->writing = mean_of(&between, &after);
    return st;
}

static limn_status measure(run_times *t, limn_reader *r, const options *o, const meter *m,
                           limn_err *err) {
    int32_t *ids = calloc((size_t)o->prompt, sizeof *ids);
    int vocab = limn_reader_config(r)->vocab;
    for (int i = 0; i < o->prompt; i++) ids[i] = (int32_t)((i * 7919LL + 13) % vocab);
    run_times warm; /* one chunk warms up as well as a long prompt */
    int some = o->prompt < o->chunk ? o->prompt : o->chunk;
    limn_status st = run_once(&warm, r, o, ids, some, m, err);
    for (int run = 0; run < o->runs && st == LIMN_OK; run++)
        st = run_once(&t[run], r, o, ids, o->prompt, m, err);
    free(ids);
    return st;
}

/* Sorts. */
static double median(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

/* What the weights' multiplications would take of the time at this peak, and all of them, with
 * attention's at the peak for floats. */
static void print_share(const run_times *t, int runs, const double work[2], size_t peak,
                        size_t floats) {
    double share[MOST_RUNS], all[MOST_RUNS], limit[MOST_RUNS];
    for (int i = 0; i < runs; i++) {
        limit[i] = t[i].reading.peak[peak];
        share[i] = 100 * work[0] / t[i].read / limit[i];
        all[i] = share[i] + 100 * work[1] / t[i].read / t[i].reading.peak[floats];
    }
    double part = median(share, runs);
    printf(", %.0f%% of %.0f (%s, %s; %.0f%% with attention)", part, median(limit, runs),
           peaks[peak].what, bench_unit_name(peaks[peak].unit), median(all, runs));
}

/* bytes: of a token's matrices and of the cache; flops: of a token of the prompt, and of all in
 * attention. */
static void print_result(const options *o, const run_times *t, const double bytes[2],
                         const double flops[2], unsigned cpu) {
    double read[MOST_RUNS], write[MOST_RUNS], share[MOST_RUNS], memory[MOST_RUNS],
        gb = (bytes[0] + bytes[1]) / 1e9;
    for (int i = 0; i < o->runs; i++) {
        read[i] = t[i].read;
        write[i] = t[i].write / o->write;
        memory[i] = t[i].writing.memory;
        share[i] = 100 * gb / write[i] / memory[i];
    }
    double middle = median(read, o->runs);
    const double work[2] = {flops[0] * o->prompt / 1e9, flops[1] / 1e9};
    size_t floats = 0;
    for (size_t i = 0; i < PEAKS; i++)
        if (peak_counts(i, cpu) && peaks[i].unit <= BENCH_BF16_ZMM) floats = i;
    printf("reading %d tokens: %.1f tokens/s (%.3f s, least %.3f): %.1f GFLOP/s", o->prompt,
           o->prompt / middle, middle, read[0], work[0] / middle);
    for (size_t i = 0; i < PEAKS; i++)
        if (peak_counts(i, cpu)) print_share(t, o->runs, work, i, floats);
    middle = median(write, o->runs);
    printf(
        "\nwriting %d tokens: %.2f tokens/s (%.1f ms each, least %.1f): %.2f GB/s of weights and "
        "%.2f of cache, ",
        o->write, 1 / middle, middle * 1e3, write[0] * 1e3, bytes[0] / middle / 1e9,
        bytes[1] / middle / 1e9);
    double part = median(share, o->runs), least = share[0], most = share[o->runs - 1];
    printf("%.0f%% of %.2f (reading memory; %.0f to %.0f%%)\n", part, median(memory, o->runs),
           least, most);
}

static void run_peer(const options *o, int threads) {
    enum { FIXED = 9, MOST = 32 };
    char p[16], n[16], t[16], flags[256];
    const char *args[FIXED + MOST + 1] = {o->peer, "-m", o->file, "-p", p, "-n", n, "-t", t};
    snprintf(p, sizeof p, "%d", o->prompt);
    snprintf(n, sizeof n, "%d", o->write);
    snprintf(t, sizeof t, "%d", threads);
    snprintf(flags, sizeof flags, "%s", o->peer_flags);
    char *next = strtok(flags, " ");
    for (int i = FIXED; next && i < FIXED + MOST; next = strtok(NULL, " ")) args[i++] = next;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        execv(o->peer, (char **)(uintptr_t)args);
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
                        "[--llama-bench PATH [--llama-flags FLAGS]]\n");
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
    char cpu[MOST_RUNS];
    printf("%s, %s, %s, %d threads, cache %s; ready in %.2f s\n", o.file,
           limn_cpu_describe(co.cpu_flags, cpu, sizeof cpu), o.precision, threads, o.cache,
           bench_clock(threads) - begin);
    run_times t[MOST_RUNS];
    meter m = {.cpu = co.cpu_flags, .threads = threads};
    if (limn_pool_new(&m.pool, threads, &err) != LIMN_OK) return die(&err);
    m.memory = bench_memory_new(m.pool, MEMORY);
    if (!m.memory || measure(t, r, &o, &m, &err) != LIMN_OK) return die(&err);
    const double bytes[2] = {token_bytes(set, &cfg->text),
                             cache_bytes(&cfg->text, ro.cache, o.prompt, o.write)};
    const double flops[2] = {token_flops(set, &cfg->text), attention_flops(&cfg->text, o.prompt)};
    print_result(&o, t, bytes, flops, co.cpu_flags);
    printf("peak memory %.0f MB, packed weights %.0f MB\n",
           ((double)limn_mem_peak_rss() - (double)MEMORY * threads) / 1e6,
           (double)limn_backend_packed_bytes(b) / 1e6);
    bench_memory_free(&m.memory);
    limn_pool_free(&m.pool);
    limn_reader_free(&r);
    limn_backend_free(&b);
    limn_model_weights_free(&mw);
    limn_weights_unref(&set);
    limn_weights_unref(&file);
    if (o.peer) run_peer(&o, threads);
    return 0;
}
