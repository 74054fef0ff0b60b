/* SPDX-License-Identifier: MIT */
/*
 * Reading LoRA files; see lora_file.h. A tensor's name is module + leaf: the leaf (a table) says
 * which factor it is; the module, flattened ('.' -> '_') and without its dialect's prefix (a
 * table), is looked up among the flattened names of the target's weights.
 */
#include "formats/lora_file.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "formats/canon.h"
#include "formats/lora_math.h"

enum { NAME = 512, SLOTS = 20, TARGETS_MAX = 8 };

/* ---- leaves ---- */
typedef enum slot {
    UP,
    DOWN,
    MID,
    ALPHA,
    DORA,
    HADA_W1A,
    HADA_W1B,
    HADA_W2A,
    HADA_W2B,
    HADA_T1,
    HADA_T2,
    LOKR_W1,
    LOKR_W1A,
    LOKR_W1B,
    LOKR_W2,
    LOKR_W2A,
    LOKR_W2B,
    LOKR_T2,
    DIFF,
    DIFF_B
} slot;

static const struct {
    const char *end;
    slot slot;
} leaves[] = {
    {".lora_up.weight", UP},
    {".lora_down.weight", DOWN},
    {".lora_mid.weight", MID},
    {".lora_B.weight", UP},
    {".lora_A.weight", DOWN},
    {".lora_B", UP},
    {".lora_A", DOWN},
    {".lora.up.weight", UP},
    {".lora.down.weight", DOWN},
    {"_lora.up.weight", UP},
    {"_lora.down.weight", DOWN},
    {".lora_linear_layer.up.weight", UP},
    {".lora_linear_layer.down.weight", DOWN},
    {".alpha", ALPHA},
    {".dora_scale", DORA},
    {".lora_magnitude_vector", DORA},
    {".lora_magnitude_vector.weight", DORA},
    {".hada_w1_a", HADA_W1A},
    {".hada_w1_b", HADA_W1B},
    {".hada_w2_a", HADA_W2A},
    {".hada_w2_b", HADA_W2B},
    {".hada_t1", HADA_T1},
    {".hada_t2", HADA_T2},
    {".lokr_w1", LOKR_W1},
    {".lokr_w1_a", LOKR_W1A},
    {".lokr_w1_b", LOKR_W1B},
    {".lokr_w2", LOKR_W2},
    {".lokr_w2_a", LOKR_W2A},
    {".lokr_w2_b", LOKR_W2B},
    {".lokr_t2", LOKR_T2},
    {".diff", DIFF},
    {".diff_b", DIFF_B},
    {".w_norm", DIFF},
    {".b_norm", DIFF_B},
};

/* Splits "module" off; handles PEFT's adapter infix (".lora_A.default.weight"). */
static bool leaf_find(const char *name, slot *out, size_t *module_len) {
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof leaves / sizeof leaves[0]; i++) {
        size_t m = strlen(leaves[i].end);
        if (n <= m || strcmp(name + n - m, leaves[i].end) != 0) continue;
        *out = leaves[i].slot;
        *module_len = n - m;
        return true;
    }
    static const char *const infix[] = {".lora_A.", ".lora_B."};
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(name, infix[i]);
        if (!at || at == name || n < 7 || strcmp(name + n - 7, ".weight") != 0) continue;
        *out = i ? UP : DOWN;
        *module_len = (size_t)(at - name);
        return true;
    }
    return false;
}

/* ---- modules ---- */
static const struct {
    const char *begin;
    limn_part part;
} prefixes[] = {
    {"lora_unet_", LIMN_PART_UNET},
    {"lora_te1_", LIMN_PART_TE},
    {"lora_te2_", LIMN_PART_TE2},
    {"lora_te_", LIMN_PART_TE},
    {"base_model.model.unet.", LIMN_PART_UNET},
    {"base_model.model.", LIMN_PART_UNET},
    {"unet.", LIMN_PART_UNET},
    {"model.diffusion_model.", LIMN_PART_UNET},
    {"diffusion_model.", LIMN_PART_UNET},
    {"text_encoder_2.", LIMN_PART_TE2},
    {"text_encoder.", LIMN_PART_TE},
    {"text_encoders.clip_l.transformer.", LIMN_PART_TE},
    {"text_encoders.clip_g.transformer.", LIMN_PART_TE2},
    {"clip_l.transformer.", LIMN_PART_TE},
    {"clip_g.transformer.", LIMN_PART_TE2},
};

static void flatten(char *out, const char *in, size_t n) {
    size_t at = 0;
    if (n > NAME - 3) n = NAME - 3;
    for (size_t i = 0; i < n; i++) {
        static const char skip[] = ".processor."; /* old diffusers: attn1.processor.to_q_lora */
        size_t m = sizeof skip - 1;
        if (n - i >= m && strncmp(in + i, skip, m) == 0) {
            out[at++] = '_';
            i += m - 1;
            continue;
        }
        out[at++] = in[i] == '.' ? '_' : in[i];
    }
    out[at] = 0;
    static const char end[] = "_to_out"; /* the same dialect leaves the ".0" out */
    size_t m = sizeof end - 1;
    if (at >= m && strcmp(out + at - m, end) == 0) memcpy(out + at, "_0", 3);
}

/* ---- the object ---- */
typedef struct module {
    const char *key; /* as in the file */
    const limn_tensor *f[SLOTS];
    const char *file_name[SLOTS];
} module;

/* Flattened names of one target's modules, and what they stand for. */
typedef struct lookup {
    limn_weights *flat;       /* flattened module name -> weight (or bias) tensor */
    const char **module_name; /* canonical, by index in `flat` */
} lookup;

struct limn_lora {
    limn_arena arena;
    limn_weights *file;
    limn_weights *targets[TARGETS_MAX];
    limn_lora_entry *list;
    size_t count;
    const char **unmatched;
    size_t n_unmatched;
    float **norms;
    size_t n_norms;
};

typedef struct binder {
    limn_lora *l;
    const limn_weights *file;
    const limn_lora_target *targets;
    size_t n_targets;
    lookup look[TARGETS_MAX];
    limn_weights *keys; /* module key -> nothing; its indices number the modules */
    module *modules;
    size_t n_modules;
    json_t *peft; /* "lora_adapter_metadata" of diffusers files, or NULL */
    limn_err *err;
} binder;

static limn_status no_memory(const binder *b) {
    return limn_fail(b->err, LIMN_E_NOMEM, "%s: no memory to read it", limn_weights_path(b->file));
}

/* ---- lookup tables ---- */
static limn_status lookup_put(binder *b, lookup *k, const char *flat, const char *canonical,
                              const limn_tensor *t) {
    if (limn_weights_find(k->flat, flat)) return LIMN_OK;
    k->module_name[limn_weights_count(k->flat)] = canonical;
    return limn_weights_add(k->flat, flat, t, b->err);
}

static limn_status lookup_make(binder *b, size_t i) {
    static const char end[] = ".weight";
    const limn_lora_target *t = &b->targets[i];
    lookup *k = &b->look[i];
    char flat[NAME], original[NAME];
    limn_status st = limn_weights_new(&k->flat, limn_weights_path(t->weights), "names", b->err);
    if (st != LIMN_OK) return st;
    size_t n = limn_weights_count(t->weights);
    k->module_name = limn_arena_alloc(&b->l->arena, (2 * n + 1) * sizeof *k->module_name);
    if (!k->module_name) return no_memory(b);
    for (size_t j = 0; j < n && st == LIMN_OK; j++) {
        const char *name = limn_weights_name(t->weights, j);
        size_t len = strlen(name), m = sizeof end - 1;
        if (len <= m || len >= NAME || strcmp(name + len - m, end) != 0) continue;
        char *module_name = limn_arena_strndup(&b->l->arena, name, len - m);
        if (!module_name) return no_memory(b);
        flatten(flat, module_name, len - m);
        st = lookup_put(b, k, flat, module_name, limn_weights_at(t->weights, j));
        if (st != LIMN_OK || !t->unet ||
            !limn_canon_unet_original(original, sizeof original, t->unet, module_name))
            continue;
        flatten(flat, original, strlen(original));
        st = lookup_put(b, k, flat, module_name, limn_weights_at(t->weights, j));
    }
    return st;
}

/* Target and canonical module of a key; false when no target has it. */
static bool module_find(const binder *b, const char *key, size_t *target, const char **name) {
    char flat[NAME];
    for (size_t p = 0; p < sizeof prefixes / sizeof prefixes[0]; p++) {
        size_t n = strlen(prefixes[p].begin);
        if (strncmp(key, prefixes[p].begin, n) != 0) continue;
        flatten(flat, key + n, strlen(key + n));
        for (size_t i = 0; i < b->n_targets; i++) {
            if (b->targets[i].part != prefixes[p].part) continue;
            size_t at = limn_weights_index(b->look[i].flat, flat);
            if (at == SIZE_MAX) continue;
            *target = i;
            *name = b->look[i].module_name[at];
            return true;
        }
    }
    return false;
}

/* ---- collecting ---- */
static limn_status unmatched_add(binder *b, const char *name) {
    b->l->unmatched[b->l->n_unmatched++] = name;
    return LIMN_OK;
}

static limn_status modules_collect(binder *b) {
    size_t n = limn_weights_count(b->file);
    b->modules = limn_mem_calloc(n ? n : 1, sizeof *b->modules);
    b->l->unmatched = limn_arena_alloc(&b->l->arena, (n + 1) * sizeof *b->l->unmatched);
    limn_status st = limn_weights_new(&b->keys, limn_weights_path(b->file), "names", b->err);
    if (st != LIMN_OK) return st;
    if (!b->modules || !b->l->unmatched) return no_memory(b);
    for (size_t i = 0; i < n; i++) {
        const char *name = limn_weights_name(b->file, i);
        char key[NAME];
        size_t len = 0;
        slot s;
        if (!leaf_find(name, &s, &len) || len >= NAME) {
            unmatched_add(b, name);
            continue;
        }
        memcpy(key, name, len);
        key[len] = 0;
        size_t at = limn_weights_index(b->keys, key);
        if (at == SIZE_MAX) {
            limn_tensor none = {0};
            st = limn_weights_add(b->keys, key, &none, b->err);
            if (st != LIMN_OK) return st;
            at = b->n_modules++;
            b->modules[at].key = limn_weights_name(b->keys, at);
        }
        if (b->modules[at].f[s])
            return limn_fail(b->err, LIMN_E_FORMAT, "%s: '%s' and '%s' say the same",
                             limn_weights_path(b->file), b->modules[at].file_name[s], name);
        b->modules[at].f[s] = limn_weights_at(b->file, i);
        b->modules[at].file_name[s] = name;
    }
    return LIMN_OK;
}

/* ---- one module -> entries ---- */
static int64_t dim_of(const limn_tensor *t, int d) {
    return t && d < t->shape.ndim ? t->shape.dim[d] : t && d == 1 ? 1 : 0;
}
static int64_t count_of(const limn_tensor *t) {
    return t ? limn_shape_count(&t->shape) : 0;
}

static limn_status wrong_shape(const binder *b, const module *m, const limn_lora_entry *e) {
    char text[96];
    return limn_fail(b->err, LIMN_E_SHAPE,
                     "%s: the factors of '%s' do not make a change of '%s' %s: it was made for "
                     "another model",
                     limn_weights_path(b->file), m->key, e->name,
                     limn_shape_format(&e->base->shape, text, sizeof text));
}

static bool low_rank_fits(limn_lora_entry *e, const module *m) {
    const limn_tensor *up = m->f[UP], *down = m->f[DOWN], *mid = m->f[MID];
    e->kind = LIMN_LORA_LOW_RANK;
    e->factor[0] = up;
    e->factor[1] = down;
    e->factor[2] = mid;
    e->rank = dim_of(down, 0);
    if (e->rank <= 0 || dim_of(up, 0) != e->rows) return false;
    if (!mid) return count_of(up) == e->rows * e->rank && count_of(down) == e->rank * e->cols;
    int64_t a = dim_of(up, 1);
    return mid->shape.ndim == 4 && dim_of(mid, 0) == a && dim_of(mid, 1) == e->rank &&
           count_of(up) == e->rows * a && count_of(mid) == a * e->rank * e->taps &&
           count_of(down) == e->rank * (e->cols / e->taps);
}

static bool loha_fits(limn_lora_entry *e, const module *m) {
    static const slot slots[6] = {HADA_W1A, HADA_W1B, HADA_W2A, HADA_W2B, HADA_T1, HADA_T2};
    e->kind = LIMN_LORA_LOHA;
    for (int i = 0; i < 6; i++) e->factor[i] = m->f[slots[i]];
    bool core = e->factor[4] != NULL;
    e->rank = dim_of(e->factor[1], 0);
    if (e->rank <= 0 || core != (e->factor[5] != NULL)) return false;
    for (int half = 0; half < 2; half++) {
        const limn_tensor *a = e->factor[2 * half], *w = e->factor[2 * half + 1];
        const limn_tensor *t = e->factor[4 + half];
        int64_t r = dim_of(w, 0), in = core ? e->cols / e->taps : e->cols;
        if (!a || !w || r <= 0 || r > e->rank || count_of(a) != e->rows * r ||
            dim_of(a, 0) != (core ? r : e->rows) || count_of(w) != r * in ||
            (core && (dim_of(t, 0) != r || count_of(t) != r * r * e->taps)))
            return false;
    }
    return true;
}

static bool lokr_fits(limn_lora_entry *e, const module *m) {
    static const slot slots[7] = {LOKR_W1,  LOKR_W1A, LOKR_W1B, LOKR_W2,
                                  LOKR_W2A, LOKR_W2B, LOKR_T2};
    e->kind = LIMN_LORA_LOKR;
    for (int i = 0; i < 7; i++) e->factor[i] = m->f[slots[i]];
    const limn_tensor *w1 = e->factor[0], *w1a = e->factor[1], *w1b = e->factor[2];
    const limn_tensor *w2 = e->factor[3], *w2a = e->factor[4], *w2b = e->factor[5];
    const limn_tensor *t2 = e->factor[6];
    if ((!w1 && (!w1a || !w1b)) || (!w2 && (!w2a || !w2b))) return false;
    int64_t r1 = w1 ? 1 : dim_of(w1b, 0), r2 = w2 ? 1 : dim_of(w2b, 0);
    int64_t o1 = dim_of(w1 ? w1 : w1a, 0), i1 = dim_of(w1 ? w1 : w1b, 1);
    if (o1 <= 0 || i1 <= 0 || r1 <= 0 || r2 <= 0 || e->rows % o1 || (e->cols / e->taps) % i1)
        return false;
    int64_t o2 = e->rows / o1, c2 = e->cols / i1;
    e->rank = w2 ? (w1 ? 0 : r1) : r2; /* as LyCORIS: w2's rank counts when both are factored */
    if (w1 ? count_of(w1) != o1 * i1 : count_of(w1a) != o1 * r1 || count_of(w1b) != r1 * i1)
        return false;
    if (w2) return dim_of(w2, 0) == o2 && count_of(w2) == o2 * c2;
    if (!t2) return dim_of(w2a, 0) == o2 && count_of(w2a) == o2 * r2 && count_of(w2b) == r2 * c2;
    return dim_of(w2a, 0) == r2 && count_of(w2a) == o2 * r2 &&
           count_of(w2b) == r2 * (c2 / e->taps) && dim_of(t2, 0) == r2 &&
           count_of(t2) == r2 * r2 * e->taps;
}

/* alpha of diffusers' "lora_adapter_metadata": "<component>.lora_alpha", and per module */
static double peft_alpha(const binder *b, const char *key, double fallback, bool *rs) {
    const char *dot = strchr(key, '.');
    char name[NAME];
    *rs = false;
    if (!b->peft || !dot || dot - key > 64) return fallback;
    snprintf(name, sizeof name, "%.*s.alpha_pattern", (int)(dot - key), key);
    json_t *one = json_object_get(json_object_get(b->peft, name), dot + 1);
    snprintf(name, sizeof name, "%.*s.lora_alpha", (int)(dot - key), key);
    json_t *all = json_object_get(b->peft, name);
    snprintf(name, sizeof name, "%.*s.use_rslora", (int)(dot - key), key);
    *rs = json_is_true(json_object_get(b->peft, name));
    if (json_is_number(one)) return json_number_value(one);
    return json_is_number(all) ? json_number_value(all) : fallback;
}

static limn_status scale_set(const binder *b, const module *m, limn_lora_entry *e) {
    bool rs = false;
    double rank = (double)e->rank;
    e->alpha = e->scale = 1;
    if (e->kind == LIMN_LORA_FULL || e->rank == 0) return LIMN_OK;
    e->alpha = peft_alpha(b, m->key, rank, &rs);
    if (m->f[ALPHA] && count_of(m->f[ALPHA]) == 1 &&
        !limn_dtype_get(m->f[ALPHA]->dtype)->quantised) {
        float alpha;
        limn_dtype_to_f32(&alpha, m->f[ALPHA]->data, m->f[ALPHA]->dtype, 1);
        e->alpha = (double)alpha;
    }
    e->scale = e->alpha / (rs ? sqrt(rank) : rank);
    if (isfinite(e->scale)) return LIMN_OK;
    return limn_fail(b->err, LIMN_E_FORMAT, "%s: '%s.alpha' is not a number",
                     limn_weights_path(b->file), m->key);
}

/* [out, 1, ..] or [out]: by output row; [1, in, ..]: by input channel. Square weights with a plain
 * [n] vector count as by row, as PEFT has it. */
static limn_status dora_set(binder *b, const module *m, limn_lora_entry *e) {
    const limn_tensor *t = m->f[DORA];
    if (!t) return LIMN_OK;
    int64_t n = count_of(t), channels = e->cols / e->taps;
    bool by_row = n == e->rows && dim_of(t, 0) == e->rows;
    bool by_column = !by_row && n == channels && dim_of(t, 0) == 1;
    if ((!by_row && !by_column) || limn_dtype_get(t->dtype)->quantised) return wrong_shape(b, m, e);
    e->dora = t;
    if (by_row) return LIMN_OK;
    float *norms = limn_mem_alloc((size_t)channels * sizeof *norms);
    if (!norms) return no_memory(b);
    b->l->norms[b->l->n_norms++] = norms;
    e->column_norm = norms;
    return limn_lora_column_norms(norms, e, b->err);
}

static limn_status entry_begin(binder *b, size_t target, const char *module_name, const char *leaf,
                               limn_lora_entry **out) {
    limn_lora_entry *e = &b->l->list[b->l->count];
    *e = (limn_lora_entry){.target = (int)target};
    *out = NULL;
    e->name = limn_arena_printf(&b->l->arena, "%s.%s", module_name, leaf);
    if (!e->name) return no_memory(b);
    e->base = limn_weights_find(b->targets[target].weights, e->name);
    if (!e->base || e->base->shape.ndim == 0 || count_of(e->base) <= 0) return LIMN_OK;
    e->rows = e->base->shape.dim[0];
    e->cols = count_of(e->base) / e->rows;
    e->taps = 1;
    for (int d = 2; d < e->base->shape.ndim; d++) e->taps *= e->base->shape.dim[d];
    *out = e;
    return LIMN_OK;
}

static bool factors_are_plain(const limn_lora_entry *e) {
    for (int i = 0; i < LIMN_LORA_FACTORS; i++)
        if (e->factor[i] && limn_dtype_get(e->factor[i]->dtype)->quantised) return false;
    return true;
}

static limn_status weight_bind(binder *b, const module *m, limn_lora_entry *e, bool *bound) {
    bool fits;
    if (m->f[UP] && m->f[DOWN])
        fits = low_rank_fits(e, m);
    else if (m->f[HADA_W1A])
        fits = loha_fits(e, m);
    else if (m->f[LOKR_W1] || m->f[LOKR_W1A])
        fits = lokr_fits(e, m);
    else if (m->f[DIFF]) {
        e->kind = LIMN_LORA_FULL;
        e->factor[0] = m->f[DIFF];
        fits = count_of(m->f[DIFF]) == e->rows * e->cols;
    } else {
        return LIMN_OK; /* only half of a pair: reported as unmatched */
    }
    if (!fits || !factors_are_plain(e)) return wrong_shape(b, m, e);
    limn_status st = scale_set(b, m, e);
    if (st == LIMN_OK) st = dora_set(b, m, e);
    if (st == LIMN_OK) {
        b->l->count++;
        *bound = true;
    }
    return st;
}

static limn_status bias_bind(binder *b, const module *m, limn_lora_entry *e, bool *bound) {
    e->kind = LIMN_LORA_FULL;
    e->factor[0] = m->f[DIFF_B];
    if (count_of(m->f[DIFF_B]) != e->rows * e->cols || !factors_are_plain(e))
        return wrong_shape(b, m, e);
    e->alpha = e->scale = 1;
    b->l->count++;
    *bound = true;
    return LIMN_OK;
}

static limn_status module_bind(binder *b, const module *m) {
    size_t target = 0;
    const char *name = NULL;
    limn_lora_entry *e = NULL;
    bool weight = false, bias = false;
    limn_status st = LIMN_OK;
    if (module_find(b, m->key, &target, &name)) {
        LIMN_TRY(entry_begin(b, target, name, "weight", &e));
        if (e) LIMN_TRY(weight_bind(b, m, e, &weight));
        if (m->f[DIFF_B]) {
            LIMN_TRY(entry_begin(b, target, name, "bias", &e));
            if (e) LIMN_TRY(bias_bind(b, m, e, &bias));
        }
    }
    for (int s = 0; s < SLOTS; s++)
        if (m->f[s] && (s == DIFF_B ? !bias : !weight && !(s == ALPHA && bias)))
            unmatched_add(b, m->file_name[s]);
out:
    return st;
}

/* ---- open and close ---- */
void limn_lora_free(limn_lora **pl) {
    limn_lora *l = pl ? *pl : NULL;
    if (!l) return;
    *pl = NULL;
    for (size_t i = 0; i < l->n_norms; i++) limn_mem_free(l->norms[i]);
    limn_mem_free(l->norms);
    limn_mem_free(l->list);
    limn_weights_unref(&l->file);
    for (size_t i = 0; i < TARGETS_MAX; i++) limn_weights_unref(&l->targets[i]);
    limn_arena_deinit(&l->arena);
    limn_mem_free(l);
}

static void binder_close(binder *b) {
    for (size_t i = 0; i < TARGETS_MAX; i++) limn_weights_unref(&b->look[i].flat);
    limn_weights_unref(&b->keys);
    limn_mem_free(b->modules);
    json_decref(b->peft);
}

/* Names must outlive the binder: those of unmatched tensors belong to the file's set. */
static limn_status bind_all(binder *b) {
    limn_status st = LIMN_OK;
    const char *path = limn_weights_path(b->file);
    for (size_t i = 0; i < b->n_targets; i++) LIMN_TRY(lookup_make(b, i));
    LIMN_TRY(modules_collect(b));
    b->l->list = limn_mem_calloc(2 * b->n_modules + 2, sizeof *b->l->list);
    b->l->norms = limn_mem_calloc(b->n_modules + 1, sizeof *b->l->norms);
    if (!b->l->list || !b->l->norms) return no_memory(b);
    for (size_t i = 0; i < b->n_modules; i++) LIMN_TRY(module_bind(b, &b->modules[i]));
    if (b->l->n_unmatched)
        limn_log(LIMN_LOG_WARN, "load", "%s: %zu tensors change nothing in this model: '%s' ...",
                 path, b->l->n_unmatched, b->l->unmatched[0]);
    LIMN_CHECK(b->err, b->l->count || b->n_modules, LIMN_E_UNSUPPORTED,
               "%s: is no LoRA of a kind that limn applies (first tensor '%s')", path,
               b->l->n_unmatched ? b->l->unmatched[0] : "");
    LIMN_CHECK(b->err, b->l->count, LIMN_E_MISSING,
               "%s: nothing in it fits this model (first tensor '%s')", path, b->l->unmatched[0]);
out:
    return st;
}

limn_status limn_lora_open(limn_lora **out, const limn_weights *file,
                           const limn_lora_target *targets, size_t n_targets, limn_err *err) {
    *out = NULL;
    binder b = {.file = file, .targets = targets, .n_targets = n_targets, .err = err};
    if (n_targets == 0 || n_targets > TARGETS_MAX)
        return limn_fail(err, LIMN_E_VALUE, "a LoRA needs 1 to %d networks to change", TARGETS_MAX);
    b.l = limn_mem_calloc(1, sizeof *b.l);
    if (!b.l) return no_memory(&b);
    limn_arena_init(&b.l->arena);
    b.l->file = limn_weights_ref(file);
    for (size_t i = 0; i < n_targets; i++) b.l->targets[i] = limn_weights_ref(targets[i].weights);
    const char *meta = limn_weights_meta_str(file, "lora_adapter_metadata");
    if (meta) b.peft = json_loads(meta, 0, NULL);
    limn_status st = bind_all(&b);
    binder_close(&b);
    if (st == LIMN_OK)
        *out = b.l;
    else
        limn_lora_free(&b.l);
    return st;
}

size_t limn_lora_count(const limn_lora *l) {
    return l->count;
}
const limn_lora_entry *limn_lora_at(const limn_lora *l, size_t i) {
    return &l->list[i];
}
size_t limn_lora_unmatched(const limn_lora *l) {
    return l->n_unmatched;
}
const char *limn_lora_unmatched_at(const limn_lora *l, size_t i) {
    return l->unmatched[i];
}

const limn_lora_entry *limn_lora_find(const limn_lora *l, int target, const char *name) {
    for (size_t i = 0; i < l->count; i++)
        if (l->list[i].target == target && strcmp(l->list[i].name, name) == 0) return &l->list[i];
    return NULL;
}
