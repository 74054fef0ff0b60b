/* SPDX-License-Identifier: MIT */
/*
 * Times one network of a checkpoint in its real shape, with a profile per op class: time, rates,
 * and the share of the class's own limit, which is what this machine reaches in the same run: for
 * each op its multiplications at the peak rate or its bytes at the speed of a copy, whichever takes
 * longer. With --against its outputs are also compared with those of another precision.
 *
 * vision is the tower of a Qwen3-VL file (mmproj) and a square picture of --px a side.
 *
 *     bench_network FILE [--part unet|vae-decode|vae-encode|taesd-decode|vision] [--px 512]
 *                        [--runs 3] [--batch 1]
 *                        [--threads 0] [--cpu-mask native] [--precision fast|exact|int8]
 *                        [--against exact] [--each OP]
 *
 * --each group_norm prints a line for every op of that class.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "bench.h"
#include "formats/canon.h"
#include "graph/op_table.h"
#include "kernels/cpu_features.h"
#include "machine.h"
#include "models/autoencoder.h"
#include "models/model_weights.h"
#include "models/qwen3vl_vision.h"
#include "models/unet.h"

typedef struct options {
    const char *file, *part, *mask, *precision, *against, *each;
    int px, runs, batch, threads;
} options;

static int die(const limn_err *err) {
    fprintf(stderr, "bench_network: %s\n", err->text);
    return limn_status_exit(err->status);
}

static bool parse(options *o, int argc, char **argv) {
    *o = (options){
        .part = "unet", .mask = "native", .precision = "fast", .px = 512, .runs = 3, .batch = 1};
    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";
        if (strncmp(argv[i], "--", 2) != 0)
            o->file = argv[i];
        else if (strcmp(argv[i], "--part") == 0)
            o->part = v, i++;
        else if (strcmp(argv[i], "--px") == 0)
            o->px = atoi(v), i++;
        else if (strcmp(argv[i], "--runs") == 0)
            o->runs = atoi(v), i++;
        else if (strcmp(argv[i], "--batch") == 0)
            o->batch = atoi(v), i++;
        else if (strcmp(argv[i], "--threads") == 0)
            o->threads = atoi(v), i++;
        else if (strcmp(argv[i], "--cpu-mask") == 0)
            o->mask = v, i++;
        else if (strcmp(argv[i], "--precision") == 0)
            o->precision = v, i++;
        else if (strcmp(argv[i], "--against") == 0)
            o->against = v, i++;
        else if (strcmp(argv[i], "--each") == 0)
            o->each = v, i++;
        else
            return false;
    }
    return o->file && o->px >= 8 && o->runs > 0 && o->batch > 0;
}

/* The tower over a square picture: px / 16 patches a side, whole 2 x 2 groups of them. */
static limn_status build_vision(limn_graph *g, limn_model_weights **mw, const options *o,
                                const limn_weights *w, limn_err *err) {
    limn_weights *set = NULL;
    limn_vl_config *cfg = calloc(1, sizeof *cfg);
    if (!cfg) return limn_fail(err, LIMN_E_NOMEM, "no memory for a configuration");
    /* of a language model that would fit */
    cfg->text.layers = LIMN_DEEPSTACK_MAX;
    cfg->text.width = (int)limn_weights_meta_int(w, "clip.vision.projection_dim", 0);
    limn_status st = limn_vl_config_read_mmproj(cfg, w, err);
    if (st == LIMN_OK) st = limn_canon_vision(&set, w, err);
    if (st == LIMN_OK) st = limn_model_weights_new(mw, set, err);
    limn_weights_unref(&set);
    int64_t unit = cfg->vision.merge, side = o->px / cfg->vision.patch / unit * unit;
    limn_nn nn = {g, limn_model_weights_find, *mw};
    limn_vision_request r = {.slices = o->batch, .rows = side, .cols = side};
    if (st == LIMN_OK) limn_vision_build(&nn, &cfg->vision, &r);
    free(cfg);
    return st;
}

static limn_status build(limn_graph *g, limn_model_weights **mw, const options *o,
                         const limn_weights *w, limn_err *err) {
    limn_weights *set = NULL;
    if (strcmp(o->part, "vision") == 0) return build_vision(g, mw, o, w, err);
    bool unet = strcmp(o->part, "unet") == 0, tiny = strcmp(o->part, "taesd-decode") == 0;
    limn_taesd_config tc;
    limn_unet_config uc;
    limn_vae_config vc;
    const char *prefix = unet ? "model.diffusion_model." : "first_stage_model.";
    if (limn_weights_has_prefix(w, "unet.")) prefix = unet ? "unet." : "vae.";
    limn_status st = tiny   ? limn_canon_taesd(&set, &tc, w, "", NULL, err)
                     : unet ? limn_canon_unet(&set, &uc, w, prefix, NULL, err)
                            : limn_canon_vae(&set, &vc, w, prefix, NULL, err);
    if (st == LIMN_OK) st = limn_model_weights_new(mw, set, err);
    limn_weights_unref(&set);
    if (st != LIMN_OK) return st;
    limn_nn nn = {g, limn_model_weights_find, *mw};
    limn_vae_request vr = {o->batch, o->px, o->px};
    if (unet) {
        limn_unet_request r = {o->batch, o->px / 8, o->px / 8, 77, 1280};
        limn_unet_build(&nn, &uc, &r);
    } else if (tiny) {
        vr.height = vr.width = o->px / 8;
        limn_taesd_build_decoder(&nn, &tc, &vr);
    } else if (strcmp(o->part, "vae-decode") == 0) {
        vr.height = vr.width = o->px / 8;
        limn_vae_build_decoder(&nn, &vc, &vr);
    } else {
        limn_vae_build_encoder(&nn, &vc, &vr);
    }
    return LIMN_OK;
}

static void fill_inputs(limn_program *p) {
    static const char *const names[] = {"sample", "context",     "timestep", "latent",
                                        "image",  "text_embeds", "time_ids", "patches",
                                        "pos",    "cos",         "sin"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        limn_shape s;
        if (!limn_plan_find_input(p->plan, names[i])) continue;
        float *x = limn_program_input(p, names[i], &s);
        for (int64_t k = 0; k < limn_shape_count(&s); k++) x[k] = (float)((k * 37) % 101) / 50 - 1;
    }
}

static limn_precision precision_of(const char *name) {
    return strcmp(name, "exact") == 0  ? LIMN_PRECISION_EXACT
           : strcmp(name, "int8") == 0 ? LIMN_PRECISION_INT8
                                       : LIMN_PRECISION_FAST;
}

/* The network's program on a backend of its own; both live as long as the process. */
static limn_status open_program(limn_program **p, limn_backend **b, const options *o,
                                const limn_weights *w, const limn_cpu_options *co, limn_err *err) {
    limn_graph *g;
    limn_model_weights *mw = NULL;
    limn_status st = limn_backend_new_cpu(b, co, err);
    if (st == LIMN_OK) st = limn_graph_new(&g, err);
    if (st == LIMN_OK) st = build(g, &mw, o, w, err);
    if (st == LIMN_OK) st = limn_program_new(p, *b, &g, err);
    if (st == LIMN_OK) fill_inputs(*p);
    return st;
}

/* Prints how far the outputs of p, which has run, are from those of the other precision. */
static limn_status compare(limn_program *p, const options *o, const limn_weights *w,
                           limn_cpu_options co, limn_err *err) {
    limn_program *q;
    limn_backend *b;
    limn_shape s;
    co.precision = precision_of(o->against);
    limn_status st = open_program(&q, &b, o, w, &co, err);
    if (st == LIMN_OK) st = limn_program_run(q, NULL, err);
    if (st != LIMN_OK) return st;
    static const char *const names[] = {"out", "image", "moments", "merged"};
    const float *x = NULL, *y = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !x; i++) {
        if (!limn_plan_find_output(p->plan, names[i])) continue;
        x = limn_program_output(p, names[i], &s);
        y = limn_program_output(q, names[i], &s);
    }
    double most = 0, worst = 0, sum = 0, sum_y = 0;
    int64_t n = x && y ? limn_shape_count(&s) : 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)x[i] - y[i];
        most = fabs(y[i]) > most ? fabs(y[i]) : most;
        worst = fabs(d) > worst ? fabs(d) : worst;
        sum += d * d;
        sum_y += (double)y[i] * y[i];
    }
    if (n == 0) return limn_fail(err, LIMN_E_MISSING, "nothing to compare");
    printf("against %s: largest difference %.2g of the largest value %.3g; rms %.2g of rms\n",
           o->against, worst / most, most, sqrt(sum / sum_y));
    return LIMN_OK;
}

/* ---- op classes ---- */
static double tensor_bytes(const limn_tensor *t) {
    size_t bytes;
    return limn_tensor_bytes(&bytes, t->dtype, &t->shape) ? (double)bytes : 0;
}

static double node_bytes(const limn_node *nd) {
    return tensor_bytes(&(limn_tensor){.dtype = nd->dtype, .shape = nd->shape});
}

/* What must be read and written: group norms read twice, their statistics come first. */
static double step_bytes(const limn_node *nd) {
    double bytes = node_bytes(nd);
    for (int s = 0; s < nd->n_src; s++) bytes += node_bytes(nd->src[s]);
    if (nd->op == LIMN_OP_GROUP_NORM) bytes += node_bytes(nd->src[0]);
    if (nd->w) bytes += tensor_bytes(&nd->w->t);
    return bytes;
}

static bool multiplies(limn_op op) {
    return op == LIMN_OP_LINEAR || op == LIMN_OP_CONV2D || op == LIMN_OP_ATTENTION;
}

static void print_each(const limn_program *p, const char *op) {
    for (int k = 0; k < p->plan->n_steps; k++) {
        const limn_node *nd = p->plan->steps[k];
        if (strcmp(limn_op_get(nd->op)->name, op) != 0) continue;
        char shape[64];
        double t = p->seconds[k] / p->runs;
        printf("%-28s %-20s %8.3f ms %8.1f GFLOP/s %7.1f GB/s\n", nd->name,
               limn_shape_format(&nd->shape, shape, sizeof shape), t * 1e3,
               (multiplies(nd->op) ? limn_op_get(nd->op)->flops(nd) : 0) / t / 1e9,
               step_bytes(nd) / t / 1e9);
    }
}

/* peak: G/s of the instruction that products live on, attention: of what attention does; gbytes:
 * GB/s of a copy. */
static void print_classes(const limn_program *p, double peak, double attention, double gbytes) {
    struct {
        double time, work, bytes, limit;
        int count;
    } c[LIMN_OP_COUNT] = {0};
    double total = 0;
    for (int k = 0; k < p->plan->n_steps; k++) {
        const limn_node *nd = p->plan->steps[k];
        double work = multiplies(nd->op) ? limn_op_get(nd->op)->flops(nd) : 0;
        double bytes = step_bytes(nd), t = p->seconds[k] / p->runs;
        c[nd->op].time += t, total += t;
        c[nd->op].work += work;
        c[nd->op].bytes += bytes;
        c[nd->op].limit +=
            fmax(work / (nd->op == LIMN_OP_ATTENTION ? attention : peak), bytes / gbytes) / 1e9;
        c[nd->op].count++;
    }
    printf("%-12s %6s %10s %6s %10s %8s %9s\n", "op", "count", "ms", "share", "GFLOP/s", "GB/s",
           "of limit");
    for (int i = 0; i < LIMN_OP_COUNT; i++)
        if (c[i].count)
            printf("%-12s %6d %10.2f %5.1f%% %10.1f %8.1f %8.0f%%\n", limn_op_get((limn_op)i)->name,
                   c[i].count, c[i].time * 1e3, 100 * c[i].time / total,
                   c[i].work / c[i].time / 1e9, c[i].bytes / c[i].time / 1e9,
                   100 * c[i].limit / c[i].time);
}

/* The unit that products live on at this precision. */
static bench_unit unit_of(const limn_cpu_options *co) {
    bench_unit unit = BENCH_FMA_SSE;
    for (int u = BENCH_FMA_SSE; u <= BENCH_FMA_ZMM; u++)
        if (bench_unit_has((bench_unit)u, co->cpu_flags)) unit = (bench_unit)u;
    if (co->precision == LIMN_PRECISION_FAST && bench_unit_has(BENCH_BF16_ZMM, co->cpu_flags))
        return BENCH_BF16_ZMM;
    if (co->precision == LIMN_PRECISION_INT8 && bench_unit_has(BENCH_VNNI_ZMM, co->cpu_flags))
        return BENCH_VNNI_ZMM;
    return unit;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    options o;
    limn_err err = {0};
    if (!parse(&o, argc, argv)) {
        fprintf(stderr, "usage: bench_network FILE [--part unet|vae-decode|vae-encode|taesd-decode|"
                        "vision] [--px N] [--runs N] [--batch N] [--threads N] [--cpu-mask M] "
                        "[--precision P] [--against P] [--each OP]\n");
        return 2;
    }
    unsigned mask;
    limn_weights *w;
    limn_backend *b;
    limn_program *p;
    if (limn_cpu_mask_parse(&mask, o.mask, &err) != LIMN_OK) return die(&err);
    limn_cpu_options co = {.threads = o.threads,
                           .cpu_flags = limn_cpu_detect() & mask,
                           .precision = precision_of(o.precision)};
    int threads = o.threads > 0 ? o.threads : limn_cpu_count();
    double begin = bench_clock(threads);
    if (limn_weights_open(&w, o.file, &err) != LIMN_OK) return die(&err);
    if (open_program(&p, &b, &o, w, &co, &err) != LIMN_OK) return die(&err);
    char cpu[64];
    printf("%s, %s, %d px, batch %d, %s, %s; ready in %.2f s\n", o.file, o.part, o.px, o.batch,
           limn_cpu_describe(co.cpu_flags, cpu, sizeof cpu), o.precision,
           bench_clock(threads) - begin);
    double warm = bench_clock(threads);
    if (limn_program_run(p, NULL, &err) != LIMN_OK) return die(&err);
    printf("first run, with fresh memory: %.3f s\n", bench_clock(threads) - warm);
    if (limn_program_profile(p, &err) != LIMN_OK) return die(&err);
    p->runs = 0;
    double *t = calloc((size_t)o.runs, sizeof *t);
    for (int i = 0; i < o.runs; i++) {
        double t0 = bench_clock(threads);
        if (limn_program_run(p, NULL, &err) != LIMN_OK) return die(&err);
        t[i] = bench_clock(threads) - t0;
    }
    qsort(t, (size_t)o.runs, sizeof *t, by_value);
    limn_pool *pool = NULL;
    if (limn_pool_new(&pool, threads, &err) != LIMN_OK) return die(&err);
    double memory = (double)limn_mem_peak_rss(); /* before the limits take theirs */
    bench_unit unit = unit_of(&co);
    limn_cpu_options floats = co; /* attention has no integers */
    if (co.precision == LIMN_PRECISION_INT8) floats.precision = LIMN_PRECISION_FAST;
    /* from one half of as much memory as the results live in to the other: the same caches help */
    size_t copy =
        p->plan->arena_bytes / 2 < BENCH_COPY_BYTES ? p->plan->arena_bytes / 2 : BENCH_COPY_BYTES;
    double attention = bench_peak(unit_of(&floats), pool, 0.5);
    double peak = bench_peak(unit, pool, 0.5),
           gbytes = bench_measure(pool, co.cpu_flags, copy).gbytes;
    limn_pool_free(&pool);
    printf("limits: %.0f G/s (%s), %.1f GB/s read and written by a copy of %.0f MB\n", peak,
           bench_unit_name(unit), gbytes, (double)copy / 1e6);
    if (o.each) print_each(p, o.each);
    print_classes(p, peak, attention, gbytes);
    printf("median %.3f s (least %.3f, most %.3f of %d): %.1f GFLOP/s, %.0f%% of %.0f (%s); arena "
           "%.0f MB, packed weights "
           "%.0f MB, peak memory %.0f MB\n",
           t[o.runs / 2], t[0], t[o.runs - 1], o.runs, p->plan->flops / t[o.runs / 2] / 1e9,
           100 * p->plan->flops / t[o.runs / 2] / 1e9 / peak, peak, bench_unit_name(unit),
           (double)p->plan->arena_bytes / 1e6, (double)limn_backend_packed_bytes(b) / 1e6,
           memory / 1e6);
    if (o.against && compare(p, &o, w, co, &err) != LIMN_OK) return die(&err);
    return 0;
}
