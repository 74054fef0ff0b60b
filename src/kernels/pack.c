/* SPDX-License-Identifier: MIT */
/*
 * Packing: rows to f32 (+ delta), into packed channel order, into words of the store, transposed
 * into panels. One task per panel; see pack.h for the order.
 */
#include "kernels/pack.h"

#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/quant_panel.h"

enum { PACK_VERSION = 3, BLOCK_WORDS = 64, PACK_ALIGN = 64 };
static const char pack_magic[8] = "LIMNPCK";

/* What lies on disk before the panels; native byte order, the magic is wrong on the other one. */
typedef struct pack_header {
    char magic[8];
    uint32_t version, store, compute, nr, kh, kw, row_dtype, spare;
    int64_t n, k, block;
    uint64_t panel_bytes, scale_off, sum_off, data_off, size;
} pack_header;

static const struct {
    int elems;     /* k per step */
    int lane_size; /* bytes per output and step */
} stores[LIMN_STORE_COUNT] = {
    [LIMN_STORE_F32] = {1, 4},    [LIMN_STORE_F16] = {1, 2},   [LIMN_STORE_BF16] = {1, 2},
    [LIMN_STORE_BF16X2] = {2, 4}, [LIMN_STORE_I8X4] = {4, 4},  [LIMN_STORE_ROWS] = {1, 4},
    [LIMN_STORE_S16X2] = {2, 4},  [LIMN_STORE_QUANT] = {1, 4},
};

static const struct {
    int elems, elem_size;
} words[LIMN_WORDS_COUNT] = {
    [LIMN_WORDS_F32] = {1, 4},   [LIMN_WORDS_BF16X2] = {2, 2}, [LIMN_WORDS_U8X4] = {4, 1},
    [LIMN_WORDS_S16X4] = {4, 2}, [LIMN_WORDS_S16X2] = {2, 2},
};

int limn_words_elems(limn_words w) {
    return words[w].elems;
}

size_t limn_words_bytes(limn_words w, int64_t n) {
    return (size_t)n * (size_t)words[w].elem_size;
}

static int64_t fix_blocks(const limn_packed *p) {
    return p->fix_block > 0 ? (p->ic_pad + p->fix_block - 1) / p->fix_block : 0;
}

size_t limn_packed_row_bytes(const limn_packed *p, limn_words w) {
    size_t scales = w == LIMN_WORDS_S16X2 ? (size_t)fix_blocks(p) * sizeof(float) : 0;
    return limn_words_bytes(w, p->ic_pad) + scales;
}

limn_words limn_packed_words(const limn_packed *p, const limn_kernels *k) {
    switch (p->store) {
    case LIMN_STORE_BF16X2: return LIMN_WORDS_BF16X2;
    case LIMN_STORE_I8X4: return k->gemm.int8_words;
    case LIMN_STORE_S16X2: return LIMN_WORDS_S16X2;
    case LIMN_STORE_ROWS:
        return p->compute == LIMN_COMPUTE_HALF && k->gemm.half == LIMN_STORE_BF16X2
                   ? LIMN_WORDS_BF16X2
                   : LIMN_WORDS_F32;
    default: return LIMN_WORDS_F32;
    }
}

static int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

static size_t align_up(size_t n) {
    return (n + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
}

static bool is_narrow(limn_dtype t) {
    return t == LIMN_F16 || t == LIMN_F8_E4M3 || t == LIMN_F8_E5M2;
}

static limn_store choose_store(const limn_gemm_kernels *g, const limn_pack_args *a) {
    bool quantised = limn_dtype_get(a->dtype)->quantised, one_tap = a->kh * a->kw <= 1;
    if (a->compute == LIMN_COMPUTE_INT8) return LIMN_STORE_I8X4;
    if (quantised && !a->borrow && !a->delta && !a->expand && a->kh == 0 &&
        a->compute == LIMN_COMPUTE_HALF && g->quant[a->dtype].few)
        return LIMN_STORE_QUANT;
    if ((quantised || a->borrow) && !a->delta && !a->expand && one_tap) return LIMN_STORE_ROWS;
    if (a->compute == LIMN_COMPUTE_HALF && g->half == LIMN_STORE_BF16X2) return LIMN_STORE_BF16X2;
    if (a->compute == LIMN_COMPUTE_HALF && g->half == LIMN_STORE_S16X2 && one_tap)
        return LIMN_STORE_S16X2;
    if (a->dtype == LIMN_BF16 && !a->delta) return LIMN_STORE_BF16;
    if (is_narrow(a->dtype) && !a->delta) return LIMN_STORE_F16;
    return a->compute == LIMN_COMPUTE_HALF ? LIMN_STORE_F16 : LIMN_STORE_F32;
}

/* Fills the geometry of `p`; false when a size overflows. */
static bool set_shape(limn_packed *p, const limn_gemm_kernels *g) {
    int elems = stores[p->store].elems;
    size_t panel, all;
    p->taps = p->kh * p->kw;
    p->ic = p->k / p->taps;
    p->ic_pad = round_up(p->ic, elems);
    if (p->taps == 1 || p->ic_pad <= BLOCK_WORDS * 3 / 2 * elems)
        p->block = p->ic_pad;
    else
        p->block = BLOCK_WORDS * elems;
    p->fix_block = 0;
    if (p->store == LIMN_STORE_S16X2) { /* evenly, in whole vectors */
        int64_t blocks = (p->ic_pad + LIMN_FIX_BLOCK - 1) / LIMN_FIX_BLOCK;
        p->fix_block = round_up((p->ic_pad + blocks - 1) / blocks, 16);
    }
    p->nr = p->store == LIMN_STORE_QUANT ? LIMN_QUANT_NR : g->nr;
    p->panels = (p->n + p->nr - 1) / p->nr;
    if (p->store == LIMN_STORE_QUANT) {
        p->panel_bytes = align_up(p->row_bytes * LIMN_QUANT_NR);
        return limn_mul_size(&all, p->panel_bytes, (size_t)p->panels + 1);
    }
    p->channel_bytes = (size_t)(p->nr * stores[p->store].lane_size / elems);
    if (!limn_mul_size(&panel, (size_t)(p->ic_pad / elems) * (size_t)p->taps,
                       (size_t)(p->nr * stores[p->store].lane_size)) ||
        !limn_add_size(&panel, panel, (size_t)(fix_blocks(p) * p->nr) * sizeof(float)))
        return false;
    p->panel_bytes = (panel + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
    return limn_mul_size(&all, p->panel_bytes, (size_t)p->panels + 1);
}

typedef struct pack_job {
    limn_packed *p;
    const limn_gemm_kernels *g;
    const limn_pack_args *a;
    char *data;
    float *col_scale;
    int32_t *col_sum;
    size_t src_row_bytes;
    float *scratch; /* per worker: 2 * nr rows of row_room f32 */
    size_t row_room;
    atomic_bool overflow; /* an f32 value is beyond f16 */
    atomic_bool failed;
    limn_status status;
    limn_err *err;
} pack_job;

static void read_row(const pack_job *job, float *dst, int64_t row) {
    const limn_pack_args *a = job->a;
    const char *src = (const char *)a->data + (size_t)row * job->src_row_bytes;
    if (a->dtype == LIMN_F16)
        job->g->f16_to_f32(dst, (const uint16_t *)src, (size_t)a->k);
    else if (a->dtype == LIMN_BF16)
        job->g->bf16_to_f32(dst, (const uint16_t *)src, (size_t)a->k);
    else
        limn_dtype_to_f32(dst, src, a->dtype, a->k);
}

/* From [ic][taps] to blocks of [taps][channels], channels filled up to whole words. */
static void reorder_row(const limn_packed *p, float *dst, const float *src) {
    int64_t taps = p->taps;
    for (int64_t c0 = 0; c0 < p->ic_pad; c0 += p->block) {
        int64_t c1 = c0 + p->block < p->ic_pad ? c0 + p->block : p->ic_pad;
        int64_t real = c1 < p->ic ? c1 : p->ic;
        for (int64_t t = 0; t < taps; t++) {
            int64_t c = c0;
            for (; c < real; c++) *dst++ = src[c * taps + t];
            for (; c < c1; c++) *dst++ = 0;
        }
    }
}

/* A row in packed order to the 32-bit words of the store. S16X2 leaves its scales in `row`. */
static void narrow_row(pack_job *job, float *words_out, float *row, size_t n, int64_t out) {
    const limn_gemm_kernels *g = job->g;
    if (job->p->store == LIMN_STORE_BF16X2) {
        g->f32_to_bf16((uint16_t *)words_out, row, n);
        return;
    }
    if (job->p->store == LIMN_STORE_S16X2) {
        g->fix_row((int16_t *)words_out, row, row, n, (size_t)job->p->fix_block, LIMN_FIX_W);
        return;
    }
    float amax = g->max_abs(row, n);
    uint8_t *codes = (uint8_t *)words_out;
    g->quantise_u8(codes, row, n, amax > 0 ? 127.0f / amax : 0);
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        codes[i] ^= 0x80; /* code + 128 as a byte -> two's complement */
        sum += (int8_t)codes[i];
    }
    job->col_scale[out] = amax / 127.0f;
    job->col_sum[out] = sum;
}

static void set_failed(pack_job *job, limn_status st, const limn_err *err) {
    if (atomic_exchange(&job->failed, true)) return;
    job->status = st;
    if (job->err) *job->err = *err;
}

static void interleave_panel(void *arg, size_t task, int worker) {
    const pack_job *job = arg;
    const limn_packed *p = job->p;
    int64_t row0 = (int64_t)task * p->nr;
    int rows = p->n - row0 < p->nr ? (int)(p->n - row0) : p->nr;
    (void)worker;
    limn_quant_panel_pack(job->data + task * p->panel_bytes,
                          (const char *)job->a->data + (size_t)row0 * p->row_bytes, p->row_bytes,
                          rows, p->row_dtype, (size_t)p->k);
}

/* Rows of words and their scales to the blocks of a panel. */
static void turn_fix(const pack_job *job, float *out, const float *codes, const float *scales) {
    const limn_packed *p = job->p;
    size_t nr = (size_t)p->nr, all = (size_t)(p->ic_pad / 2), block = (size_t)(p->fix_block / 2);
    for (size_t w = 0, b = 0; w < all; w += block, b++) {
        size_t n = all - w < block ? all - w : block;
        job->g->transpose(out, codes + w, (size_t)p->k, n);
        out += n * nr;
        for (size_t r = 0; r < nr; r++) *out++ = scales[r * job->row_room + b];
    }
}

static void pack_panel(void *arg, size_t task, int worker) {
    pack_job *job = arg;
    limn_packed *p = job->p;
    const limn_gemm_kernels *g = job->g;
    if (atomic_load(&job->failed)) return;
    int64_t row0 = (int64_t)task * p->nr;
    int rows = p->n - row0 < p->nr ? (int)(p->n - row0) : p->nr;
    float *src = job->scratch + (size_t)worker * 2 * (size_t)p->nr * job->row_room;
    float *ordered = src + (size_t)p->nr * job->row_room;
    size_t k = (size_t)p->k, k_pad = (size_t)(p->ic_pad * p->taps);
    for (int r = 0; r < rows; r++) read_row(job, src + (size_t)r * k, row0 + r);
    if (job->a->delta) {
        limn_err err = {0};
        limn_status st = job->a->delta(job->a->delta_user, src, row0, rows, p->k, &err);
        if (st != LIMN_OK) {
            set_failed(job, st, &err);
            return;
        }
    }
    bool dot = stores[p->store].elems > 1;
    for (int r = 0; r < p->nr; r++) {
        float *in = src + (size_t)r * k, *to = ordered + (size_t)r * job->row_room;
        if (r >= rows) {
            memset(in, 0, k * sizeof *in);
            memset(to, 0, k_pad * sizeof *to);
            continue;
        }
        reorder_row(p, to, in);
        if (dot)
            narrow_row(job, in, to, k_pad, row0 + r); /* at most k words: over its own source */
        if (p->store == LIMN_STORE_F16 && !is_narrow(job->a->dtype) &&
            g->max_abs(to, k_pad) > 65504.0f)
            atomic_store(&job->overflow, true);
    }
    char *out = job->data + task * p->panel_bytes;
    size_t steps = k_pad / (size_t)stores[p->store].elems;
    if (p->store == LIMN_STORE_S16X2) {
        turn_fix(job, (float *)out, src, ordered);
    } else if (dot) {
        g->transpose((float *)out, src, k, steps);
    } else if (p->store == LIMN_STORE_F32) {
        g->transpose((float *)out, ordered, job->row_room, steps);
    } else {
        g->transpose(src, ordered, job->row_room, steps);
        if (p->store == LIMN_STORE_F16)
            g->f32_to_f16((uint16_t *)out, src, steps * (size_t)p->nr);
        else
            g->f32_to_bf16((uint16_t *)out, src, steps * (size_t)p->nr);
    }
}

/* Lays the sections out and writes the header; `p->bytes` is set. */
static limn_status alloc_bytes(pack_job *job, limn_err *err) {
    limn_packed *p = job->p;
    size_t cols = (size_t)(p->panels * p->nr) * 4;
    pack_header h = {.version = PACK_VERSION,
                     .store = p->store,
                     .compute = p->compute,
                     .nr = (uint32_t)p->nr,
                     .kh = (uint32_t)p->kh,
                     .kw = (uint32_t)p->kw,
                     .row_dtype = (uint32_t)p->row_dtype,
                     .n = p->n,
                     .k = p->k,
                     .block = p->block,
                     .panel_bytes = p->panel_bytes};
    memcpy(h.magic, pack_magic, sizeof h.magic);
    h.scale_off = align_up(sizeof h);
    h.sum_off = h.scale_off + (p->store == LIMN_STORE_I8X4 ? align_up(cols) : 0);
    h.data_off = h.sum_off + (p->store == LIMN_STORE_I8X4 ? align_up(cols) : 0);
    h.size = h.data_off + (size_t)p->panels * p->panel_bytes;
    char *bytes = limn_mem_aligned(h.size);
    if (!bytes)
        return limn_fail(err, LIMN_E_NOMEM, "no memory for %.1f MB of packed weights",
                         (double)h.size * 1e-6);
    memset(bytes, 0, h.data_off);
    memcpy(bytes, &h, sizeof h);
    job->col_scale = (float *)(bytes + h.scale_off);
    job->col_sum = (int32_t *)(bytes + h.sum_off);
    job->data = bytes + h.data_off;
    p->bytes = bytes;
    p->size = h.size;
    p->owned = true;
    p->data = job->data;
    if (p->store == LIMN_STORE_I8X4) {
        p->col_scale = job->col_scale;
        p->col_sum = job->col_sum;
    }
    return LIMN_OK;
}

static limn_status pack_all(pack_job *job, limn_pool *pool, limn_err *err) {
    limn_packed *p = job->p;
    size_t k_pad = (size_t)(p->ic_pad * p->taps);
    job->row_room = ((k_pad > (size_t)p->k ? k_pad : (size_t)p->k) + 15) / 16 * 16;
    limn_status st = alloc_bytes(job, err);
    if (st != LIMN_OK) return st;
    if (p->store == LIMN_STORE_QUANT) {
        limn_pool_run(pool, interleave_panel, job, (size_t)p->panels);
        return LIMN_OK;
    }
    size_t room = (size_t)limn_pool_threads(pool) * 2 * (size_t)p->nr * job->row_room;
    job->scratch = limn_mem_aligned(room * sizeof(float));
    if (!job->scratch) return limn_fail(err, LIMN_E_NOMEM, "no memory for packing weights");
    limn_pool_run(pool, pack_panel, job, (size_t)p->panels);
    limn_mem_free(job->scratch);
    return atomic_load(&job->failed) ? job->status : LIMN_OK;
}

static limn_status check_args(const limn_pack_args *a, size_t *row_bytes, limn_err *err) {
    size_t all;
    int64_t taps = (int64_t)(a->kh > 0 ? a->kh : 1) * (a->kw > 0 ? a->kw : 1);
    if (a->n <= 0 || a->k <= 0 || a->k > INT32_MAX || a->n > INT32_MAX || a->k % taps != 0)
        return limn_fail(err, LIMN_E_VALUE, "cannot pack a weight of %lld x %lld with %lld taps",
                         (long long)a->n, (long long)a->k, (long long)taps);
    int64_t row = a->input_major ? a->n : a->k, count = a->input_major ? a->k : a->n;
    if (!limn_dtype_row_bytes(row_bytes, a->dtype, row) ||
        !limn_mul_size(&all, *row_bytes, (size_t)count))
        return limn_fail(err, LIMN_E_SHAPE, "rows of %lld elements are not whole blocks of %s",
                         (long long)row, limn_dtype_get(a->dtype)->name);
    if (a->borrow && (a->k % 2 != 0 || a->delta || a->compute == LIMN_COMPUTE_INT8 ||
                      (a->input_major && limn_dtype_get(a->dtype)->quantised)))
        return limn_fail(err, LIMN_E_UNSUPPORTED,
                         "a weight of %lld inputs in %s cannot be read "
                         "where it is",
                         (long long)a->k, limn_dtype_get(a->dtype)->name);
    /* 32-bit sums of products of 8-bit codes */
    if (a->compute == LIMN_COMPUTE_INT8 && a->k > 65536)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "int8 products of %lld terms may overflow",
                         (long long)a->k);
    return LIMN_OK;
}

limn_status limn_packed_new(limn_packed **out, const limn_kernels *k, limn_pool *pool,
                            const limn_pack_args *a, limn_err *err) {
    size_t row_bytes;
    *out = NULL;
    limn_status st = check_args(a, &row_bytes, err);
    if (st != LIMN_OK) return st;
    limn_packed *p = limn_mem_calloc(1, sizeof *p);
    if (!p) return limn_fail(err, LIMN_E_NOMEM, "no memory for a packed weight");
    *p = (limn_packed){.store = choose_store(&k->gemm, a),
                       .compute = a->compute,
                       .n = a->n,
                       .k = a->k,
                       .kh = a->kh > 0 ? a->kh : 1,
                       .kw = a->kw > 0 ? a->kw : 1};
    pack_job job = {.p = p, .g = &k->gemm, .a = a, .src_row_bytes = row_bytes, .err = err};
    p->row_dtype = a->dtype;
    p->row_bytes = row_bytes;
    LIMN_CHECK(err, set_shape(p, &k->gemm), LIMN_E_LIMIT, "a packed weight would be too large");
    if (p->store == LIMN_STORE_ROWS) {
        p->data = a->data;
        p->input_major = a->input_major;
        p->panel_bytes = row_bytes * (size_t)p->nr;
    } else {
        LIMN_TRY(pack_all(&job, pool, err));
        if (atomic_load(&job.overflow)) { /* too wide for f16: once more in bf16 */
            limn_mem_free((void *)p->bytes);
            p->bytes = NULL;
            p->store = LIMN_STORE_BF16;
            LIMN_TRY(pack_all(&job, pool, err));
        }
    }
    *out = p;
    return LIMN_OK;
out:
    limn_packed_free(&p);
    return st;
}

/* Every field of a header from a file that the kernels rely on. */
static bool header_is_sane(const pack_header *h, size_t size) {
    if (h->store >= LIMN_STORE_COUNT || h->compute > LIMN_COMPUTE_INT8) return false;
    if (h->row_dtype >= LIMN_DTYPE_COUNT) return false;
    if ((h->store == LIMN_STORE_QUANT || h->store == LIMN_STORE_S16X2) &&
        (h->kh != 1 || h->kw != 1))
        return false;
    if (h->n <= 0 || h->n > INT32_MAX || h->k <= 0 || h->k > INT32_MAX) return false;
    if (h->kh < 1 || h->kw < 1 || h->kh > 1024 || h->kw > 1024 || h->k % (h->kh * h->kw) != 0)
        return false;
    return h->size == size;
}

/* Is there a kernel here for what the header says? */
static bool header_fits(const pack_header *h, const limn_gemm_kernels *g) {
    if (h->version != PACK_VERSION) return false;
    if (h->store == LIMN_STORE_QUANT)
        return h->nr == LIMN_QUANT_NR && h->row_dtype < LIMN_DTYPE_COUNT &&
               g->quant[h->row_dtype].few;
    return (int)h->nr == g->nr && h->store < LIMN_STORE_ROWS && g->panel[h->store];
}

limn_status limn_packed_view(limn_packed **out, const limn_kernels *k, const void *bytes,
                             size_t size, limn_err *err) {
    pack_header h;
    *out = NULL;
    if (size < sizeof h || memcmp(bytes, pack_magic, sizeof pack_magic) != 0)
        return limn_fail(err, LIMN_E_FORMAT, "not a packed weight");
    memcpy(&h, bytes, sizeof h);
    if (!header_fits(&h, &k->gemm))
        return limn_fail(err, LIMN_E_UNSUPPORTED, "weights were packed for another processor");
    if (!header_is_sane(&h, size)) return limn_fail(err, LIMN_E_FORMAT, "packed weight is damaged");
    limn_packed *p = limn_mem_calloc(1, sizeof *p);
    if (!p) return limn_fail(err, LIMN_E_NOMEM, "no memory for a packed weight");
    *p = (limn_packed){.store = (limn_store)h.store,
                       .compute = (limn_compute)h.compute,
                       .n = h.n,
                       .k = h.k,
                       .kh = (int)h.kh,
                       .kw = (int)h.kw,
                       .row_dtype = (limn_dtype)h.row_dtype,
                       .bytes = bytes,
                       .size = size};
    bool int8 = p->store == LIMN_STORE_I8X4;
    size_t data_off = 0, data, cols, end;
    bool ok =
        (p->store != LIMN_STORE_QUANT || limn_dtype_row_bytes(&p->row_bytes, p->row_dtype, p->k)) &&
        set_shape(p, &k->gemm) && p->block == h.block && p->panel_bytes == h.panel_bytes &&
        limn_mul_size(&data, p->panel_bytes, (size_t)p->panels);
    if (ok) {
        cols = int8 ? align_up((size_t)(p->panels * p->nr) * 4) : 0;
        data_off = align_up(sizeof h) + 2 * cols;
        ok = h.scale_off == align_up(sizeof h) && h.sum_off == h.scale_off + cols &&
             h.data_off == data_off && limn_add_size(&end, data_off, data) && end == size;
    }
    if (!ok) {
        limn_packed_free(&p);
        return limn_fail(err, LIMN_E_FORMAT, "packed weight is damaged");
    }
    p->data = (const char *)bytes + data_off;
    if (int8) {
        p->col_scale = (const float *)((const char *)bytes + h.scale_off);
        p->col_sum = (const int32_t *)((const char *)bytes + h.sum_off);
    }
    *out = p;
    return LIMN_OK;
}

const void *limn_packed_bytes(const limn_packed *p, size_t *size) {
    *size = p->bytes ? p->size : 0;
    return p->bytes;
}

void limn_packed_free(limn_packed **pp) {
    limn_packed *p = pp ? *pp : NULL;
    if (!p) return;
    *pp = NULL;
    if (p->owned) limn_mem_free((void *)p->bytes);
    limn_mem_free(p);
}
