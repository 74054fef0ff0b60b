/* SPDX-License-Identifier: MIT */
/* LoRA files of every dialect bound to the tiny models, merged weights against the reference;
 * textual inversions in every form. */
#include "formats_test.h"

#include <math.h>

#include "formats/canon.h"
#include "formats/embedding.h"
#include "formats/lora_file.h"
#include "formats/safetensors.h"

static void must(limn_status st, const limn_err *err) {
    if (st != LIMN_OK) fail_msg("%s", err->text);
}

/* The networks that adapters of the golden files change. */
typedef struct model {
    limn_weights *unet, *te, *te2;
    limn_unet_config cfg;
    limn_lora_target target[3];
    size_t n;
} model;

static model model_open(const char *file) {
    model m = {0};
    limn_inspection x;
    limn_clip_config clip;
    limn_err err = {0};
    must(limn_inspect(&x, golden_path(file), &err), &err);
    const limn_found *u = limn_model_info_find(&x.info, LIMN_PART_UNET);
    const limn_found *t = limn_model_info_find(&x.info, LIMN_PART_TE);
    const limn_found *t2 = limn_model_info_find(&x.info, LIMN_PART_TE2);
    const char *json = limn_found_config(u, x.weights);
    if (!json) json = "{\"attention_head_dim\": 4}";
    must(limn_canon_unet(&m.unet, &m.cfg, x.weights, u->prefix, json, &err), &err);
    must(limn_canon_clip(&m.te, &clip, x.weights, t->prefix, NULL, &err), &err);
    m.target[m.n++] = (limn_lora_target){LIMN_PART_UNET, m.unet, &m.cfg};
    m.target[m.n++] = (limn_lora_target){LIMN_PART_TE, m.te, NULL};
    if (t2) {
        must(limn_canon_clip(&m.te2, &clip, x.weights, t2->prefix, NULL, &err), &err);
        m.target[m.n++] = (limn_lora_target){LIMN_PART_TE2, m.te2, NULL};
    }
    limn_inspection_free(&x);
    return m;
}

static void model_close(model *m) {
    limn_weights_unref(&m->unet);
    limn_weights_unref(&m->te);
    limn_weights_unref(&m->te2);
}

/* W' of one entry, in two calls that split the rows unevenly. */
static float *merged(const limn_lora_entry *e, double strength) {
    int64_t n = e->rows * e->cols, cut = e->rows / 3;
    float *w = malloc((size_t)n * sizeof *w), *base = malloc((size_t)n * sizeof *base);
    limn_err err = {0};
    limn_dtype_to_f32(w, e->base->data, e->base->dtype, n);
    memcpy(base, w, (size_t)n * sizeof *w);
    must(limn_lora_row_delta(e, strength, 0, cut, w, NULL, &err), &err);
    must(limn_lora_row_delta(e, strength, cut, e->rows, w + cut * e->cols, base + cut * e->cols,
                             &err),
         &err);
    free(base);
    return w;
}

static void check_merged(const limn_lora_entry *e, const limn_tensor *want, const char *name) {
    int64_t n = limn_shape_count(&want->shape);
    assert_int_equal(n, e->rows * e->cols);
    float *w = merged(e, 1), *half = merged(e, 0.5), top = 0;
    for (int64_t i = 0; i < n; i++) top = fmaxf(top, fabsf(element(want, i)));
    for (int64_t i = 0; i < n; i++) {
        float base = element(e->base, i), full = element(want, i);
        if (!(fabsf(w[i] - full) <= 2e-6f * top))
            fail_msg("%s[%d] is %g, should be %g", name, (int)i, (double)w[i], (double)full);
        if (!(fabsf(half[i] - (base + 0.5f * (full - base))) <= 2e-6f * top))
            fail_msg("%s[%d] at half strength is %g", name, (int)i, (double)half[i]);
    }
    free(w);
    free(half);
}

static size_t check_file(const char *name, const char *base, size_t entries) {
    char path[128], begin[64];
    limn_weights *io = open_golden("lora/lora.io.safetensors"), *file;
    limn_err err = {0};
    model m = model_open(base);
    limn_lora *l;
    snprintf(path, sizeof path, "lora/%s.safetensors", name);
    file = open_golden(path);
    must(limn_lora_open(&l, file, m.target, m.n, &err), &err);
    limn_weights_unref(&file);
    model_close(&m); /* the LoRA keeps all it needs */
    if (limn_lora_unmatched(l)) fail_msg("%s: left over %s", name, limn_lora_unmatched_at(l, 0));
    assert_int_equal(limn_lora_count(l), entries);
    snprintf(begin, sizeof begin, "%s/merged/unet/", name);
    size_t checked = 0;
    for (size_t i = 0; i < limn_weights_count(io); i++) {
        const char *at = limn_weights_name(io, i);
        if (strncmp(at, begin, strlen(begin)) != 0) continue;
        const limn_lora_entry *e = limn_lora_find(l, 0, at + strlen(begin));
        if (!e) fail_msg("%s: nothing changes %s", name, at + strlen(begin));
        check_merged(e, limn_weights_at(io, i), at);
        checked++;
    }
    limn_lora_free(&l);
    limn_weights_unref(&io);
    return checked;
}

static void test_every_dialect(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t entries, checked;
    } files[] = {{"kohya", 14, 2},        {"locon", 13, 3},    {"peft", 15, 3},
                 {"diffusers_old", 4, 2}, {"loha", 11, 3},     {"lokr", 12, 3},
                 {"dora", 12, 2},         {"dora_peft", 4, 2}, {"full", 17, 3}};
    static const char *const bases[] = {"pipe/sd1", "pipe/sd1.safetensors"};
    for (size_t b = 0; b < 2; b++)
        for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
            assert_int_equal(check_file(files[i].name, bases[b], files[i].entries),
                             files[i].checked);
}

static void test_sdxl_original_names(void **state) {
    (void)state;
    assert_int_equal(check_file("kohya_sdxl", "pipe/sdxl", 8), 2);
    assert_int_equal(check_file("kohya_sdxl", "pipe/sdxl.safetensors", 8), 2);
}

static void test_names_there_and_back(void **state) {
    (void)state;
    limn_weights *w = open_golden("pipe/sdxl.safetensors"), *u;
    limn_unet_config cfg;
    limn_err err = {0};
    char name[512], full[600];
    must(
        limn_canon_unet(&u, &cfg, w, "model.diffusion_model.", "{\"attention_head_dim\": 4}", &err),
        &err);
    for (size_t i = 0; i < limn_weights_count(u); i++) {
        if (!limn_canon_unet_original(name, sizeof name, &cfg, limn_weights_name(u, i)))
            fail_msg("no original name of %s", limn_weights_name(u, i));
        snprintf(full, sizeof full, "model.diffusion_model.%s", name);
        if (!limn_weights_find(w, full)) fail_msg("%s does not exist", full);
    }
    limn_weights_unref(&u);
    limn_weights_unref(&w);
}

/* A one-module file from up and down factors under the given names. */
static limn_status try_names(const char *up, const char *down, int64_t in, size_t *unmatched,
                             double *scale, const char *meta, limn_err *err) {
    float a[64 * 64] = {0};
    limn_named_tensor list[] = {{up, {.dtype = LIMN_F32, .shape = LIMN_SHAPE(32, 2), .data = a}},
                                {down, {.dtype = LIMN_F32, .shape = LIMN_SHAPE(2, in), .data = a}}};
    const char *const metas[][2] = {{"lora_adapter_metadata", meta ? meta : "{}"}};
    must(limn_safetensors_save(temp_path(), list, 2, metas, 1, err), err);
    limn_weights *file;
    must(limn_weights_open(&file, temp_path(), err), err);
    unlink(temp_path());
    model m = model_open("pipe/sd1");
    limn_lora *l = NULL;
    limn_status st = limn_lora_open(&l, file, m.target, m.n, err);
    if (st == LIMN_OK) {
        *unmatched = limn_lora_unmatched(l);
        *scale = limn_lora_at(l, 0)->scale;
    }
    limn_lora_free(&l);
    limn_weights_unref(&file);
    model_close(&m);
    return st;
}

static void test_more_names(void **state) {
    (void)state;
    static const char *const good[] = {
        "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q",
        "diffusion_model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
        "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q",
        "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
        "text_encoder.text_model.encoder.layers.0.self_attn.k_proj",
    };
    static const char *const ends[][2] = {
        {".lora_up.weight", ".lora_down.weight"},
        {".lora_B.weight", ".lora_A.weight"},
        {".lora_B.default.weight", ".lora_A.default.weight"},
        {".lora.up.weight", ".lora.down.weight"},
        {".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"},
    };
    char up[256], down[256];
    size_t unmatched = 9;
    double scale = 0;
    limn_err err = {0};
    for (size_t g = 0; g < 5; g++)
        for (size_t k = 0; k < 5; k++) {
            snprintf(up, sizeof up, "%s%s", good[g], ends[k][0]);
            snprintf(down, sizeof down, "%s%s", good[g], ends[k][1]);
            must(try_names(up, down, 32, &unmatched, &scale, NULL, &err), &err);
            assert_int_equal(unmatched, 0);
            assert_true(scale == 1);
        }
    static const char meta[] = "{\"unet.lora_alpha\": 8, \"unet.alpha_pattern\": {}}";
    must(try_names("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight",
                   "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",
                   32, &unmatched, &scale, meta, &err),
         &err);
    assert_true(scale == 4); /* 8 / rank 2 */
}

static void test_refusals(void **state) {
    (void)state;
    size_t unmatched;
    double scale;
    limn_err err = {0};
    static const char q[] = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
    char up[256], down[256];
    snprintf(up, sizeof up, "%s.lora_up.weight", q);
    snprintf(down, sizeof down, "%s.lora_down.weight", q);
    assert_int_equal(try_names(up, down, 33, &unmatched, &scale, NULL, &err), LIMN_E_SHAPE);
    assert_non_null(strstr(err.text, "another model"));
    assert_int_equal(try_names("lora_unet_no_such_thing.lora_up.weight",
                               "lora_unet_no_such_thing.lora_down.weight", 32, &unmatched, &scale,
                               NULL, &err),
                     LIMN_E_MISSING);
    assert_int_equal(try_names("x.oft_blocks", "y.oft_blocks", 32, &unmatched, &scale, NULL, &err),
                     LIMN_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "oft_blocks"));
    /* half of a pair changes nothing */
    assert_int_equal(try_names(up, "z.alpha", 32, &unmatched, &scale, NULL, &err), LIMN_E_MISSING);
    /* another model's file: SDXL's on SD 1 */
    limn_weights *file = open_golden("lora/kohya.safetensors");
    model m = model_open("pipe/sdxl");
    limn_lora *l = NULL;
    limn_status st = limn_lora_open(&l, file, m.target, m.n, &err);
    assert_true(st != LIMN_OK || limn_lora_unmatched(l) > 0);
    limn_lora_free(&l);
    limn_weights_unref(&file);
    model_close(&m);
}

static void test_textual_inversions(void **state) {
    (void)state;
    static const char *const files[] = {
        "ti/a1111.pt",        "ti/a1111_legacy.pt",       "ti/compvis.pt",
        "ti/diffusers.bin",   "ti/diffusers.safetensors", "ti/emb_params.safetensors",
        "ti/sdxl.safetensors"};
    limn_weights *io = open_golden("ti/ti.io.safetensors");
    const limn_tensor *l = limn_weights_find(io, "vectors"),
                      *g = limn_weights_find(io, "vectors_g");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        limn_weights *w = open_golden(files[i]);
        limn_embedding e;
        limn_err err = {0};
        must(limn_embedding_open(&e, w, &err), &err);
        limn_weights_unref(&w);
        assert_int_equal(e.count, 2);
        const float *v = limn_embedding_find(&e, LIMN_PART_TE, 32);
        assert_non_null(v);
        for (int k = 0; k < 64; k++) assert_true(v[k] == element(l, k));
        if (i == 6) {
            v = limn_embedding_find(&e, LIMN_PART_TE2, 64);
            assert_non_null(v);
            for (int k = 0; k < 128; k++) assert_true(v[k] == element(g, k));
        }
        assert_null(limn_embedding_find(&e, LIMN_PART_TE, 768));
        limn_embedding_free(&e);
    }
    limn_embedding e;
    limn_err err = {0};
    assert_int_equal(limn_embedding_open(&e, io, &err), LIMN_E_FORMAT);
    limn_weights_unref(&io);
}

static void test_memory(void **state) {
    (void)state;
    limn_weights *file = open_golden("lora/dora.safetensors");
    model m = model_open("pipe/sd1");
    limn_lora *l = NULL;
    limn_err err = {0};
    limn_status st = LIMN_E_NOMEM;
    for (int64_t n = 0; n < 10000 && st != LIMN_OK; n++) {
        limn_mem_fail_after(n);
        st = limn_lora_open(&l, file, m.target, m.n, &err);
        limn_mem_fail_after(-1);
        assert_true(st == LIMN_OK || st == LIMN_E_NOMEM);
    }
    assert_int_equal(st, LIMN_OK);
    limn_lora_free(&l);
    limn_weights_unref(&file);
    model_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_dialect),
        cmocka_unit_test(test_sdxl_original_names),
        cmocka_unit_test(test_names_there_and_back),
        cmocka_unit_test(test_more_names),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_textual_inversions),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
