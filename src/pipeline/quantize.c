/* SPDX-License-Identifier: MIT */
/*
 * limn_quantize: a model in, a GGUF file of another type out, piece by piece, with the loss
 * measured on the way. At most a few megabytes of weights are held at a time: a piece is read as
 * f32, rounded by all threads, read back for the error, and written.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/pool.h"
#include "formats/detect.h"
#include "formats/gguf.h"
#include "formats/gguf_export.h"
#include "limn.h"
#include "pipeline/quantize_mix.h"
#include "tensor/quantise.h"

enum { PIECE = 1 << 16 };   /* numbers that one task takes */
enum { AT_ONCE = 1 << 22 }; /* numbers in memory at once */

/* What became of the tensors of one type. */
typedef struct tally {
    int64_t tensors, numbers;
    uint64_t bytes;
    double loss, power; /* sums of squares: of the difference, of the weights */
} tally;

typedef struct job {
    const limn_quantize_options *o;
    const limn_watch *watch;
    const limn_mix *mix;
    limn_pool *pool;
    float *values, *back;
    uint8_t *packed;
    int64_t room; /* numbers that the buffers hold */
    tally by_type[LIMN_DTYPE_COUNT], all;
    int64_t done, total; /* numbers */
    double begun;
} job;

/* ---- one group of rows, by all threads ---- */

typedef struct batch {
    job *j;
    const limn_export_part *part;
    limn_dtype type;
    int64_t first, rows, rows_each;
    size_t row_bytes;
    double *loss, *power; /* [tasks] */
    bool *bad;            /* [tasks] */
} batch;

static bool rounds(const limn_export_part *p, limn_dtype t) {
    return p->from.dtype != t || p->order != LIMN_EXPORT_AS_IS;
}

static void round_rows(void *arg, size_t task, int worker) {
    batch *b = arg;
    int64_t from = (int64_t)task * b->rows_each, n = b->rows - from;
    if (n > b->rows_each) n = b->rows_each;
    float *x = b->j->values + from * b->part->cols, *y = b->j->back + from * b->part->cols;
    uint8_t *q = b->j->packed + (size_t)from * b->row_bytes;
    int64_t count = n * b->part->cols;
    double loss = 0, power = 0;
    limn_export_rows(x, b->part, b->first + from, n);
    for (int64_t i = 0; i < count; i++) power += (double)x[i] * (double)x[i];
    b->bad[task] = !isfinite(power);
    if (b->bad[task]) return;
    for (int64_t r = 0; r < n; r++)
        limn_quantise_row(q + (size_t)r * b->row_bytes, x + r * b->part->cols, b->type,
                          b->part->cols, NULL);
    limn_dtype_to_f32(y, q, b->type, count);
    for (int64_t i = 0; i < count; i++) {
        double d = (double)y[i] - (double)x[i];
        loss += d * d;
    }
    b->loss[task] = loss;
    b->power[task] = power;
}

enum { TASKS_MAX = AT_ONCE / PIECE + 2 };

static limn_status batch_run(job *j, const limn_export_part *p, limn_dtype t, int64_t first,
                             int64_t rows, size_t row_bytes, tally *sum, limn_err *err) {
    double loss[TASKS_MAX] = {0}, power[TASKS_MAX] = {0};
    bool bad[TASKS_MAX] = {0};
    int64_t each = PIECE / p->cols;
    if (each < 1) each = 1;
    while ((rows + each - 1) / each > TASKS_MAX) each *= 2;
    size_t tasks = (size_t)((rows + each - 1) / each);
    batch b = {.j = j,
               .part = p,
               .type = t,
               .first = first,
               .rows = rows,
               .rows_each = each,
               .row_bytes = row_bytes,
               .loss = loss,
               .power = power,
               .bad = bad};
    limn_pool_run(j->pool, round_rows, &b, tasks);
    for (size_t i = 0; i < tasks; i++) {
        if (bad[i])
            return limn_fail(err, LIMN_E_NUMERIC, "the tensor '%s' holds NaN or infinity", p->name);
        sum->loss += loss[i];
        sum->power += power[i];
    }
    return LIMN_OK;
}

/* ---- tensors ---- */

static void report(job *j, limn_export *x, size_t i) {
    if (!j->watch || !j->watch->event) return;
    double took = limn_clock_now() - j->begun;
    double rate = took > 0 ? (double)j->done / took / 1e6 : 0;
    limn_event e = {.stage = "quantize",
                    .images = 1,
                    .step = (int)i,
                    .steps = (int)x->n_parts,
                    .left_seconds = j->done > 0 && took > 0
                                        ? took * (double)(j->total - j->done) / (double)j->done
                                        : -1,
                    .rate = rate,
                    .unit = rate > 0 ? "million weights" : NULL};
    j->watch->event(j->watch->user, &e);
}

static bool cancelled(const job *j) {
    const atomic_bool *flag = limn_cancel_flag(j->watch ? j->watch->cancel : NULL);
    return flag && atomic_load(flag);
}

static limn_status tensor_write(job *j, limn_gguf_writer *w, const limn_export_part *p,
                                limn_dtype t, tally *sum, limn_err *err) {
    size_t row_bytes = 0, from_bytes = 0;
    limn_dtype_row_bytes(&row_bytes, t, p->cols);
    limn_status st = LIMN_OK;
    int64_t step = j->room / p->cols;
    for (int64_t row = 0; row < p->rows && st == LIMN_OK; row += step) {
        int64_t n = p->rows - row < step ? p->rows - row : step;
        if (cancelled(j)) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
        if (!rounds(p, t)) { /* the bytes as they are */
            limn_dtype_row_bytes(&from_bytes, p->from.dtype, p->cols);
            st = limn_gguf_writer_add(w, (const char *)p->from.data + (size_t)row * from_bytes,
                                      (size_t)n * from_bytes, err);
        } else {
            st = batch_run(j, p, t, row, n, row_bytes, sum, err);
            if (st == LIMN_OK) st = limn_gguf_writer_add(w, j->packed, (size_t)n * row_bytes, err);
        }
    }
    j->done += p->rows * p->cols;
    return st;
}

static void count_tensor(job *j, const limn_export_part *p, limn_dtype t, size_t bytes,
                         const tally *sum) {
    tally *to[2] = {&j->by_type[t], &j->all};
    for (int i = 0; i < 2; i++) {
        to[i]->tensors++;
        to[i]->numbers += p->rows * p->cols;
        to[i]->bytes += bytes;
        to[i]->loss += sum->loss;
        to[i]->power += sum->power;
    }
}

/* ---- one file ---- */

static limn_status list_make(limn_named_tensor **out, job *j, const limn_export *x, limn_err *err) {
    limn_named_tensor *list = limn_mem_calloc(x->n_parts ? x->n_parts : 1, sizeof *list);
    *out = list;
    if (!list) return limn_fail(err, LIMN_E_NOMEM, "no memory for %zu tensors", x->n_parts);
    int64_t widest = 1;
    j->total = j->done = 0;
    j->begun = limn_clock_now();
    for (size_t i = 0; i < x->n_parts; i++) {
        const limn_export_part *p = &x->parts[i];
        list[i].name = p->name;
        list[i].tensor.dtype = limn_mix_type(j->mix, x, p);
        list[i].tensor.shape = p->shape;
        j->total += p->rows * p->cols;
        if (p->cols > widest) widest = p->cols;
    }
    j->room = widest > AT_ONCE ? widest : AT_ONCE;
    return LIMN_OK;
}

static limn_status buffers_make(job *j, limn_err *err) {
    size_t bytes = (size_t)j->room * sizeof(float);
    j->values = limn_mem_aligned(bytes);
    j->back = limn_mem_aligned(bytes);
    j->packed = limn_mem_aligned(bytes);
    return j->values && j->back && j->packed
               ? LIMN_OK
               : limn_fail(err, LIMN_E_NOMEM, "no memory for %zu bytes of weights", 3 * bytes);
}

static void buffers_drop(job *j) {
    limn_mem_free(j->values);
    limn_mem_free(j->back);
    limn_mem_free(j->packed);
    j->values = j->back = NULL;
    j->packed = NULL;
}

static limn_status file_write(job *j, limn_export *x, const char *path, limn_err *err) {
    limn_named_tensor *list = NULL;
    limn_gguf_writer *w = NULL;
    limn_status st;
    LIMN_TRY(limn_export_add_u32(x, "general.file_type", j->mix->file_type, err));
    if (limn_dtype_get(j->mix->base)->quantised)
        LIMN_TRY(limn_export_add_u32(x, "general.quantization_version", 2, err));
    LIMN_TRY(list_make(&list, j, x, err));
    if (!j->o->dry_run) {
        LIMN_TRY(buffers_make(j, err));
        LIMN_TRY(limn_gguf_writer_new(&w, path, list, x->n_parts, x->meta, x->n_meta, err));
    }
    for (size_t i = 0; i < x->n_parts; i++) {
        const limn_export_part *p = &x->parts[i];
        tally sum = {0};
        size_t bytes = 0;
        LIMN_CHECK(err, limn_tensor_bytes(&bytes, list[i].tensor.dtype, &p->shape), LIMN_E_SHAPE,
                   "the tensor '%s' cannot be cut into blocks", p->name);
        if (!j->o->dry_run) {
            report(j, x, i);
            LIMN_TRY(tensor_write(j, w, p, list[i].tensor.dtype, &sum, err));
            limn_weights_drop(x->keep, &p->from);
        }
        count_tensor(j, p, list[i].tensor.dtype, bytes, &sum);
    }
    if (w) {
        report(j, x, x->n_parts);
        LIMN_TRY(limn_gguf_writer_finish(w, err));
    }
out:
    limn_gguf_writer_free(&w);
    limn_mem_free(list);
    buffers_drop(j);
    return st;
}

/* ---- what it came to ---- */

static void tally_text(limn_buf *b, const char *name, const tally *t) {
    double bits = t->numbers > 0 ? 8 * (double)t->bytes / (double)t->numbers : 0;
    limn_buf_addf(b, "  %-7s %5lld tensors %9.2f million weights %9.1f MB %6.2f bits each", name,
                  (long long)t->tensors, (double)t->numbers / 1e6, (double)t->bytes / 1e6, bits);
    if (t->power > 0) limn_buf_addf(b, "  error %.5f", sqrt(t->loss / t->power));
    limn_buf_addc(b, '\n');
}

static void tally_json(limn_buf *b, const char *name, const tally *t) {
    limn_buf_addf(b, "{\"type\": \"%s\", \"tensors\": %lld, \"weights\": %lld, \"bytes\": %llu",
                  name, (long long)t->tensors, (long long)t->numbers, (unsigned long long)t->bytes);
    if (t->power > 0) limn_buf_addf(b, ", \"error\": %.6g", sqrt(t->loss / t->power));
    limn_buf_addc(b, '}');
}

static void describe(limn_buf *b, const job *j, const char *path, const char *kind, bool more) {
    bool first = true;
    if (j->o->json) {
        limn_buf_addf(b, "%s{\"kind\": \"%s\", \"types\": [", more ? ", " : "", kind);
        for (int t = 0; t < LIMN_DTYPE_COUNT; t++) {
            if (j->by_type[t].tensors == 0) continue;
            if (!first) limn_buf_adds(b, ", ");
            first = false;
            tally_json(b, limn_dtype_get((limn_dtype)t)->name, &j->by_type[t]);
        }
        limn_buf_adds(b, "], \"total\": ");
        tally_json(b, j->mix->name, &j->all);
        limn_buf_addc(b, '}');
        return;
    }
    limn_buf_addf(b, "%s: %s as %s%s\n", path, kind, j->mix->name,
                  j->o->dry_run ? " (nothing written)" : "");
    for (int t = 0; t < LIMN_DTYPE_COUNT; t++)
        if (j->by_type[t].tensors > 0)
            tally_text(b, limn_dtype_get((limn_dtype)t)->name, &j->by_type[t]);
    tally_text(b, "all", &j->all);
}

/* ---- which files ---- */

/* "dir/mmproj-name.gguf" beside "dir/name.gguf" */
static void mmproj_path(limn_buf *b, const char *out) {
    const char *slash = strrchr(out, '/'), *name = slash ? slash + 1 : out;
    limn_buf_addf(b, "%.*smmproj-%s", (int)(name - out), out, name);
}

static limn_status check_out(const char *in, const char *out, const limn_quantize_options *o,
                             limn_err *err) {
    struct stat a, b;
    if (o->dry_run || stat(out, &b) != 0) return LIMN_OK;
    if (stat(in, &a) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return limn_fail(err, LIMN_E_VALUE, "%s: is the file that is read", out);
    if (!S_ISREG(b.st_mode)) return limn_fail(err, LIMN_E_VALUE, "%s: is no file", out);
    return o->overwrite ? LIMN_OK
                        : limn_fail(err, LIMN_E_VALUE, "%s: exists; --overwrite replaces it", out);
}

/* What loaders of diffusion models look for in a file without a language model. */
static limn_status name_architecture(limn_export *x, limn_err *err) {
    for (size_t i = 0; i < x->n_meta; i++)
        if (strcmp(x->meta[i].key, "general.architecture") == 0) return LIMN_OK;
    limn_model_info info;
    limn_status st = limn_detect(&info, x->keep, err);
    if (st == LIMN_OK && info.n_parts > 0 && info.family)
        st = limn_export_add_text(x, "general.architecture", info.family, err);
    return st;
}

static limn_status one_file(limn_buf *text, const limn_quantize_options *o, const limn_watch *watch,
                            limn_pool *pool, limn_weights *w, limn_export_kind kind,
                            const char *path, bool more, limn_err *err) {
    limn_export x;
    job *j = limn_mem_calloc(1, sizeof *j);
    if (!j) return limn_fail(err, LIMN_E_NOMEM, "no memory to quantise");
    j->o = o;
    j->watch = watch;
    j->mix = limn_mix_find(o->type);
    j->pool = pool;
    limn_status st = limn_export_init(&x, w, kind, err);
    if (st == LIMN_OK) {
        if (x.kind == LIMN_EXPORT_OTHER) st = name_architecture(&x, err);
        if (st == LIMN_OK) st = file_write(j, &x, path, err);
        if (st == LIMN_OK) {
            const char *words[] = {"language model", "vision tower", "model"};
            describe(text, j, path, words[x.kind], more);
        }
        limn_export_deinit(&x);
    }
    limn_mem_free(j);
    return st;
}

limn_status limn_quantize(char **out_text, const char *in, const char *out,
                          const limn_quantize_options *o, const limn_watch *watch, limn_err *err) {
    limn_weights *w = NULL;
    limn_pool *pool = NULL;
    limn_buf text, mmproj;
    limn_status st;
    *out_text = NULL;
    limn_buf_init(&text, 1 << 20);
    limn_buf_init(&mmproj, 1 << 16);
    LIMN_CHECK(err, o->type && limn_mix_find(o->type), LIMN_E_VALUE,
               "there is no type \"%.60s\"; for example q8_0, q6_k, q5_k_m, q4_k_m, iq4_xs, f16",
               o->type ? o->type : "");
    LIMN_TRY(limn_pool_new(&pool, o->threads, err));
    LIMN_TRY(limn_weights_open(&w, in, err));
    bool folder = limn_weights_meta_str(w, "limn.config") != NULL;
    bool vision = limn_export_has_vision(w);
    mmproj_path(&mmproj, out);
    LIMN_TRY(check_out(in, out, o, err));
    if (vision) LIMN_TRY(check_out(in, limn_buf_text(&mmproj), o, err));
    if (o->json) limn_buf_adds(&text, "{\"files\": [");
    LIMN_TRY(one_file(&text, o, watch, pool, w, folder ? LIMN_EXPORT_LLM : LIMN_EXPORT_OTHER, out,
                      false, err));
    if (vision)
        LIMN_TRY(one_file(&text, o, watch, pool, w, LIMN_EXPORT_VISION, limn_buf_text(&mmproj),
                          true, err));
    if (o->json) limn_buf_adds(&text, "]}\n");
    *out_text = limn_buf_take(&text);
    LIMN_CHECK(err, *out_text, LIMN_E_NOMEM, "no memory for a report");
out:
    limn_weights_unref(&w);
    limn_pool_free(&pool);
    limn_buf_deinit(&text);
    limn_buf_deinit(&mmproj);
    return st;
}

bool limn_quantize_choice(const char **name, const char **help, int index) {
    const limn_mix *m = limn_mix_at(index);
    if (m) *name = m->name, *help = m->help;
    return m != NULL;
}
