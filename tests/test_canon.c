/* SPDX-License-Identifier: MIT */
/* Canonical scopes: both dialects of the tiny networks give the same names, shapes and bytes; the
 * full key lists of real models map completely; configs from tensors and from config.json. */
#include "formats_test.h"

#include <math.h>

#include "formats/canon.h"
#include "formats/detect.h"
#include "formats/gguf.h"

static char *golden_text(const char *name) {
    size_t n;
    char *p = (char *)golden_bytes(name, &n);
    p[n] = 0;
    return p;
}

static void must(limn_status st, const limn_err *err) {
    if (st != LIMN_OK) fail_msg("%s", err->text);
}

/* Every tensor of `a` is in `b` with the same shape and values, and the other way round. */
static void assert_same_set(const limn_weights *a, const limn_weights *b) {
    assert_int_equal(limn_weights_count(a), limn_weights_count(b));
    for (size_t i = 0; i < limn_weights_count(a); i++) {
        const char *name = limn_weights_name(a, i);
        const limn_tensor *x = limn_weights_at(a, i), *y = limn_weights_find(b, name);
        if (!y) fail_msg("%s is missing", name);
        if (!limn_shape_equal(&x->shape, &y->shape)) fail_msg("%s has another shape", name);
        for (int64_t k = 0; k < limn_shape_count(&x->shape); k++)
            if (element(x, k) != element(y, k)) fail_msg("%s[%lld] differs", name, (long long)k);
    }
    assert_null(limn_weights_meta_str(a, "limn.unmapped"));
    assert_null(limn_weights_meta_str(b, "limn.unmapped"));
}

typedef struct pair {
    const char *a, *a_prefix, *b, *b_prefix, *config;
} pair;

static const pair unets[] = {
    {"unet/sd1.safetensors", "", "pipe/sd1.safetensors", "model.diffusion_model.", "unet/sd1.json"},
    {"unet/sdxl.safetensors", "", "pipe/sdxl.safetensors", "model.diffusion_model.",
     "unet/sdxl.json"},
};

static void test_unet_dialects_agree(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof unets / sizeof unets[0]; i++) {
        const pair *p = &unets[i];
        limn_weights *a = open_golden(p->a), *b = open_golden(p->b), *x, *y;
        limn_unet_config cx, cy;
        limn_err err = {0};
        char *json = golden_text(p->config);
        must(limn_canon_unet(&x, &cx, a, p->a_prefix, json, &err), &err);
        must(limn_canon_unet(&y, &cy, b, p->b_prefix, json, &err), &err);
        limn_weights_unref(&a);
        limn_weights_unref(&b);
        assert_same_set(x, y);
        assert_int_equal(cx.levels, cy.levels);
        assert_memory_equal(cx.channels, cy.channels, sizeof cx.channels);
        assert_memory_equal(cx.down_depth, cy.down_depth, sizeof cx.down_depth);
        assert_memory_equal(cx.up_depth, cy.up_depth, sizeof cx.up_depth);
        assert_memory_equal(cx.heads, cy.heads, sizeof cx.heads);
        assert_int_equal(cx.context_dim, cy.context_dim);
        limn_weights_unref(&x);
        limn_weights_unref(&y);
        free(json);
    }
}

static void unet_config_of(limn_unet_config *cfg, const char *file, const char *json_file) {
    limn_weights *w = open_golden(file), *x;
    limn_err err = {0};
    char *json = golden_text(json_file);
    bool orig = strstr(file, ".orig") != NULL;
    must(limn_canon_unet(&x, cfg, w, orig ? "model.diffusion_model." : "", json, &err), &err);
    assert_null(limn_weights_meta_str(x, "limn.unmapped"));
    limn_weights_unref(&x);
    limn_weights_unref(&w);
    free(json);
}

static void test_tiny_unet_configs(void **state) {
    (void)state;
    limn_unet_config c;
    unet_config_of(&c, "unet/sd2.orig.safetensors", "unet/sd2.json");
    assert_int_equal(c.channels[0], 32);
    assert_int_equal(c.channels[1], 64);
    assert_int_equal(c.heads[0], 2);
    assert_int_equal(c.heads[1], 4);
    assert_true(c.linear_proj);
    unet_config_of(&c, "unet/sdxl_refiner.orig.safetensors", "unet/sdxl_refiner.json");
    assert_int_equal(c.levels, 3);
    assert_int_equal(c.down_depth[0][0], 0);
    assert_int_equal(c.down_depth[1][0], 2);
    assert_int_equal(c.mid_depth, 2);
    assert_true(c.add_embed_dim > 0);
    unet_config_of(&c, "unet/ssd1b.orig.safetensors", "unet/ssd1b.json");
    assert_int_equal(c.mid_resnets, 1);
    assert_int_equal(c.mid_depth, 0);
    assert_int_equal(c.up_depth[0][0], 1);
    assert_int_equal(c.up_depth[0][1], 3);
    assert_int_equal(c.up_depth[1][0], 2);
    assert_int_equal(c.up_depth[2][0], 0);
    unet_config_of(&c, "unet/sd1_inpaint.safetensors", "unet/sd1_inpaint.json");
    assert_int_equal(c.in_channels, 9);
    assert_int_equal(c.heads[0], 4);
    assert_false(c.linear_proj);
    unet_config_of(&c, "unet/sd1_ip2p.orig.safetensors", "unet/sd1_ip2p.json");
    assert_int_equal(c.in_channels, 8);
    assert_int_equal(c.levels, 1);
}

static void test_vae_dialects_agree(void **state) {
    (void)state;
    limn_weights *a = open_golden("vae/kl_sd.safetensors"),
                 *b = open_golden("pipe/sd1.safetensors");
    limn_weights *x, *y;
    limn_vae_config cx, cy;
    limn_err err = {0};
    char *json = golden_text("vae/kl_sd.json");
    must(limn_canon_vae(&x, &cx, a, "", json, &err), &err);
    must(limn_canon_vae(&y, &cy, b, "first_stage_model.", NULL, &err), &err);
    assert_same_set(x, y);
    assert_int_equal(cx.levels, 4);
    assert_int_equal(cx.layers, 1);
    assert_int_equal(cx.latent_channels, 4);
    assert_true(cx.has_encoder && cx.has_decoder && cx.mid_attention && cx.quant_conv);
    assert_true(fabsf(cy.scaling_factor - 0.18215f) < 1e-7f && cx.shift_factor == 0);
    limn_weights_unref(&x);
    limn_weights_unref(&y);
    limn_weights_unref(&a);
    limn_weights_unref(&b);
    free(json);
    a = open_golden("vae/kl_16ch.orig.safetensors");
    json = golden_text("vae/kl_16ch.json");
    must(limn_canon_vae(&x, &cx, a, "", json, &err), &err);
    assert_int_equal(cx.latent_channels, 16);
    assert_false(cx.quant_conv);
    assert_int_equal(cx.channels[1], 64);
    assert_int_equal(cx.dec_channels[1], 64);
    assert_true(cx.shift_factor != 0);
    limn_weights_unref(&x);
    limn_weights_unref(&a);
    free(json);
}

static void test_taesd_dialects_agree(void **state) {
    (void)state;
    limn_weights *whole = open_golden("vae/taesd.safetensors");
    limn_weights *enc = open_golden("vae/taesd_encoder.safetensors");
    limn_weights *dec = open_golden("vae/taesd_decoder.safetensors"), *x, *e, *d, *both;
    limn_taesd_config c, ce, cd;
    limn_err err = {0};
    must(limn_canon_taesd(&x, &c, whole, "", NULL, &err), &err);
    must(limn_canon_taesd(&e, &ce, enc, "", NULL, &err), &err);
    must(limn_canon_taesd(&d, &cd, dec, "", NULL, &err), &err);
    const limn_weights *two[] = {e, d};
    must(limn_weights_merge(&both, two, NULL, 2, "both", "merge", &err), &err);
    assert_same_set(x, both);
    static const int enc_blocks[] = {1, 3, 3, 3}, dec_blocks[] = {3, 3, 3, 1};
    assert_memory_equal(c.enc_blocks, enc_blocks, sizeof enc_blocks);
    assert_memory_equal(c.dec_blocks, dec_blocks, sizeof dec_blocks);
    assert_int_equal(c.levels, 4);
    assert_int_equal(c.channels, 16);
    assert_int_equal(c.latent_channels, 4);
    assert_int_equal(ce.latent_channels, 4);
    assert_true(ce.has_encoder && !ce.has_decoder && cd.has_decoder && !cd.has_encoder);
    limn_weights *all[] = {whole, enc, dec, x, e, d, both};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) limn_weights_unref(&all[i]);
}

static void test_clip_dialects_agree(void **state) {
    (void)state;
    static const pair clips[] = {
        {"clip/clip_l.safetensors", "", "pipe/sd1.safetensors", "cond_stage_model.",
         "clip/clip_l.json"},
        {"clip/clip_l.safetensors", "", "pipe/sdxl.safetensors", "conditioner.embedders.0.",
         "clip/clip_l.json"},
        {"clip/clip_g.safetensors", "", "pipe/sdxl.safetensors", "conditioner.embedders.1.",
         "clip/clip_g.json"},
        {"clip/clip_h.safetensors", "", "clip/clip_h.openclip.safetensors", "cond_stage_model.",
         "clip/clip_h.json"},
    };
    for (size_t i = 0; i < sizeof clips / sizeof clips[0]; i++) {
        const pair *p = &clips[i];
        limn_weights *a = open_golden(p->a), *b = open_golden(p->b), *x, *y;
        limn_clip_config cx, cy;
        limn_err err = {0};
        char *json = golden_text(p->config);
        must(limn_canon_clip(&x, &cx, a, p->a_prefix, json, &err), &err);
        must(limn_canon_clip(&y, &cy, b, p->b_prefix, json, &err), &err);
        assert_same_set(x, y);
        assert_memory_equal(&cx, &cy, sizeof cx);
        assert_int_equal(cx.bos, 998);
        assert_int_equal(cx.eos, 999);
        assert_int_equal(cx.layers, 3);
        limn_weights_unref(&x);
        limn_weights_unref(&y);
        limn_weights_unref(&a);
        limn_weights_unref(&b);
        free(json);
    }
}

/* transformers 5 writes CLIPTextModel without "text_model.". */
static void test_clip_without_text_model(void **state) {
    (void)state;
    static const char start[] = "text_model.";
    limn_weights *a = open_golden("clip/clip_l.safetensors"), *b = NULL, *x, *y;
    limn_clip_config cx, cy;
    limn_err err = {0};
    must(limn_weights_new(&b, "bare", "made", &err), &err);
    for (size_t i = 0; i < limn_weights_count(a); i++) {
        const char *name = limn_weights_name(a, i);
        bool cut = strncmp(name, start, sizeof start - 1) == 0;
        must(limn_weights_add(b, cut ? name + sizeof start - 1 : name, limn_weights_at(a, i), &err),
             &err);
    }
    limn_model_info m;
    must(limn_detect(&m, b, &err), &err);
    assert_non_null(limn_model_info_find(&m, LIMN_PART_TE));
    must(limn_canon_clip(&x, &cx, a, "", NULL, &err), &err);
    must(limn_canon_clip(&y, &cy, b, "", NULL, &err), &err);
    assert_same_set(x, y);
    assert_memory_equal(&cx, &cy, sizeof cx);
    limn_weights_unref(&x);
    limn_weights_unref(&y);
    limn_weights_unref(&a);
    limn_weights_unref(&b);
}

static uint64_t fnv(const char *s) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return h;
}

/* The tensors of keys_<model>.txt, without data. */
static limn_weights *keys_open(const char *model, char *prefix, size_t *count, uint64_t *sum) {
    char path[128], line[512], name[512];
    limn_weights *w;
    limn_err err = {0};
    snprintf(path, sizeof path, "formats/keys_%s.txt", model);
    FILE *f = fopen(golden_path(path), "r");
    if (!f) fail_msg("no %s", path);
    unsigned long long s;
    assert_non_null(fgets(line, sizeof line, f));
    assert_int_equal(sscanf(line, "%63s %zu %llu", prefix, count, &s), 3);
    *sum = s;
    must(limn_weights_new(&w, model, "keys", &err), &err);
    while (fgets(line, sizeof line, f)) {
        limn_tensor t = {.dtype = LIMN_F16};
        char *at = strchr(line, ' ');
        assert_non_null(at);
        snprintf(name, sizeof name, "%.*s", (int)(at - line), line);
        for (char *end; *at == ' '; at = end)
            t.shape.dim[t.shape.ndim++] = strtoll(at + 1, &end, 10);
        must(limn_weights_add(w, name, &t, &err), &err);
    }
    fclose(f);
    return w;
}

static void assert_complete(const limn_weights *x, size_t count, uint64_t want) {
    uint64_t sum = 0;
    char text[512], shape[96];
    assert_null(limn_weights_meta_str(x, "limn.unmapped"));
    assert_int_equal(limn_weights_count(x), count);
    for (size_t i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%s %s", limn_weights_name(x, i),
                 limn_shape_format(&limn_weights_at(x, i)->shape, shape, sizeof shape));
        sum += fnv(text);
    }
    assert_true(sum == want);
}

static void real_unet(const char *model, limn_unet_config *c) {
    char prefix[64];
    size_t count;
    uint64_t sum;
    limn_err err = {0};
    limn_weights *w = keys_open(model, prefix, &count, &sum), *x;
    must(limn_canon_unet(&x, c, w, prefix, NULL, &err), &err);
    assert_complete(x, count, sum);
    limn_weights_unref(&x);
    limn_weights_unref(&w);
}

static void test_real_unets_map_completely(void **state) {
    (void)state;
    limn_unet_config c;
    real_unet("sd15", &c);
    assert_int_equal(c.levels, 4);
    assert_int_equal(c.heads[0], 8);
    assert_int_equal(c.heads[3], 8);
    assert_int_equal(c.context_dim, 768);
    assert_int_equal(c.down_layers[0], 2);
    assert_int_equal(c.up_layers[0], 3);
    assert_int_equal(c.time_dim, 1280);
    assert_int_equal(c.down_depth[3][0], 0);
    assert_false(c.linear_proj);
    real_unet("sd21", &c);
    assert_int_equal(c.heads[0], 5);
    assert_int_equal(c.heads[3], 20);
    assert_int_equal(c.context_dim, 1024);
    assert_true(c.linear_proj);
    real_unet("sdxl", &c);
    assert_int_equal(c.levels, 3);
    assert_int_equal(c.down_depth[1][1], 2);
    assert_int_equal(c.down_depth[2][0], 10);
    assert_int_equal(c.mid_depth, 10);
    assert_int_equal(c.heads[2], 20);
    assert_int_equal(c.add_embed_dim, 2816);
    real_unet("refiner", &c);
    assert_int_equal(c.levels, 4);
    assert_int_equal(c.channels[3], 1536);
    assert_int_equal(c.heads[3], 24);
    assert_int_equal(c.add_embed_dim, 2560);
    assert_int_equal(c.context_dim, 1280);
    real_unet("ssd1b", &c);
    assert_int_equal(c.mid_resnets, 1);
    assert_int_equal(c.mid_depth, 0);
    assert_int_equal(c.up_depth[0][2], 10);
}

static void test_real_vae_maps_completely(void **state) {
    (void)state;
    char prefix[64];
    size_t count;
    uint64_t sum;
    limn_err err = {0};
    limn_vae_config c;
    limn_weights *w = keys_open("vae", prefix, &count, &sum), *x;
    must(limn_canon_vae(&x, &c, w, prefix, NULL, &err), &err);
    assert_complete(x, count, sum);
    assert_int_equal(c.layers, 2);
    assert_int_equal(c.channels[3], 512);
    assert_int_equal(c.dec_channels[0], 128);
    limn_weights_unref(&x);
    limn_weights_unref(&w);
}

static void test_upscaler_dialects(void **state) {
    (void)state;
    static const char *const old[] = {"model.0.weight",       "model.1.sub.0.RDB1.conv1.0.weight",
                                      "model.1.sub.1.weight", "model.3.weight",
                                      "model.6.weight",       "model.8.weight",
                                      "model.10.weight"};
    static const char *const canon[] = {
        "conv_first.weight", "body.0.rdb1.conv1.weight", "conv_body.weight", "conv_up1.weight",
        "conv_up2.weight",   "conv_hr.weight",           "conv_last.weight"};
    limn_weights *w, *x;
    limn_err err = {0};
    must(limn_weights_new(&w, "old", "made", &err), &err);
    for (int i = 0; i < 7; i++) {
        limn_tensor t = {.dtype = LIMN_F16, .shape = LIMN_SHAPE(64, 64, 3, 3)};
        if (i == 0) t.shape.dim[1] = 3;
        if (i == 1) t.shape.dim[0] = 32;
        if (i == 6) t.shape.dim[0] = 3;
        must(limn_weights_add(w, old[i], &t, &err), &err);
    }
    limn_upscaler_config c;
    must(limn_canon_upscaler(&x, &c, w, "", &err), &err);
    for (int i = 0; i < 7; i++)
        if (!limn_weights_find(x, canon[i])) fail_msg("no %s", canon[i]);
    assert_int_equal(c.scale, 4);
    assert_int_equal(c.growth, 32);
    assert_int_equal(c.blocks, 1);
    limn_weights_unref(&x);
    limn_weights_unref(&w);
    must(limn_weights_new(&w, "srvgg", "made", &err), &err);
    for (int i = 0; i < 5; i++) {
        char name[32];
        limn_tensor t = {.dtype = LIMN_F16, .shape = LIMN_SHAPE(16, 16, 3, 3)};
        if (i % 2) t.shape = LIMN_SHAPE(16);
        if (i == 0) t.shape.dim[1] = 3;
        if (i == 4) t.shape.dim[0] = 48;
        snprintf(name, sizeof name, "body.%d.weight", i);
        must(limn_weights_add(w, name, &t, &err), &err);
    }
    must(limn_canon_upscaler(&x, &c, w, "", &err), &err);
    assert_int_equal(c.kind, LIMN_UPSCALER_SRVGG);
    assert_int_equal(c.scale, 4);
    assert_int_equal(c.blocks, 1);
    limn_weights_unref(&x);
    limn_weights_unref(&w);
}

/* The tiny SD 1 as the GGUF files of city96 (UNet alone, no prefix, architecture key) and of
 * stable-diffusion.cpp (all in one, prefixed, no key, 1x1 projections as matrices). */
static void gguf_round(bool city96) {
    static const char unet[] = "model.diffusion_model.";
    limn_weights *w = open_golden("pipe/sd1.safetensors"), *x, *y;
    limn_named_tensor *list = calloc(limn_weights_count(w), sizeof *list);
    limn_err err = {0};
    size_t n = 0;
    for (size_t i = 0; i < limn_weights_count(w); i++) {
        const char *name = limn_weights_name(w, i);
        limn_tensor t = *limn_weights_at(w, i);
        if (t.dtype != LIMN_F16 || (city96 && strncmp(name, unet, sizeof unet - 1) != 0)) continue;
        if (!city96 && strstr(name, ".proj_") && t.shape.ndim == 4) t.shape.ndim = 2;
        list[n++] = (limn_named_tensor){city96 ? name + sizeof unet - 1 : name, t};
    }
    limn_str_view word = {"sd1", 3};
    limn_meta arch = {
        .key = "general.architecture", .type = LIMN_META_STR, .count = 1, .data = &word};
    must(limn_gguf_save(temp_path(), list, n, &arch, city96 ? 1 : 0, &err), &err);
    limn_inspection in;
    must(limn_inspect(&in, temp_path(), &err), &err);
    unlink(temp_path());
    assert_string_equal(in.info.family, "sd1");
    assert_int_equal(in.info.n_parts, city96 ? 1 : 3);
    assert_int_equal(in.info.n_missing, city96 ? 2 : 0);
    limn_unet_config cx, cy;
    limn_vae_config vx, vy;
    char *json = golden_text("unet/sd1.json");
    must(limn_canon_unet(&x, &cx, w, unet, json, &err), &err);
    must(limn_canon_unet(&y, &cy, in.weights,
                         limn_model_info_find(&in.info, LIMN_PART_UNET)->prefix, json, &err),
         &err);
    assert_same_set(x, y);
    limn_weights_unref(&x);
    limn_weights_unref(&y);
    if (!city96) {
        must(limn_canon_vae(&x, &vx, w, "first_stage_model.", NULL, &err), &err);
        must(limn_canon_vae(&y, &vy, in.weights, "first_stage_model.", NULL, &err), &err);
        assert_same_set(x, y);
        limn_weights_unref(&x);
        limn_weights_unref(&y);
    }
    free(json);
    free(list);
    limn_inspection_free(&in);
    limn_weights_unref(&w);
}

static void test_gguf_dialects(void **state) {
    (void)state;
    gguf_round(true);
    gguf_round(false);
}

/* Language models in fp8 have a scale for each block of 128 x 128, also of those at the edges. */
static void test_block_scaled_f8(void **state) {
    (void)state;
    enum { ROWS = 130, COLS = 300 };
    static uint8_t ones[ROWS * COLS];
    uint16_t scales[2 * 3] = {0x3f80, 0x4000, 0x4080, 0x3f00, 0x3e80, 0x4100}; /* bf16 */
    static const float want[2][3] = {{1, 2, 4}, {0.5f, 0.25f, 8}};
    static const char q[] = "model.layers.0.self_attn.q_proj.weight";
    limn_weights *w, *x = NULL;
    limn_err err = {0};
    memset(ones, 0x38, sizeof ones); /* 1.0 in e4m3 */
    limn_tensor matrix = {.dtype = LIMN_F8_E4M3, .shape = LIMN_SHAPE(ROWS, COLS), .data = ones};
    limn_tensor scale = {.dtype = LIMN_BF16, .shape = LIMN_SHAPE(2, 3), .data = scales};
    limn_tensor embed = {.dtype = LIMN_F8_E4M3, .shape = LIMN_SHAPE(2, COLS), .data = ones};
    for (int wrong = 0; wrong < 2; wrong++) {
        must(limn_weights_new(&w, "blocks", "made", &err), &err);
        must(limn_weights_add(w, "model.embed_tokens.weight", &embed, &err), &err);
        must(limn_weights_add(w, q, &matrix, &err), &err);
        if (wrong) scale.shape = LIMN_SHAPE(3, 2);
        must(limn_weights_add(w, "model.layers.0.self_attn.q_proj.weight_scale_inv", &scale, &err),
             &err);
        limn_status st = limn_canon_llm(&x, w, &err);
        assert_int_equal(st, wrong ? LIMN_E_UNSUPPORTED : LIMN_OK);
        if (!wrong) {
            const limn_tensor *t = limn_weights_find(x, q + strlen("model."));
            assert_non_null(t);
            assert_int_equal(limn_weights_count(x), 2);
            for (int r = 0; r < ROWS; r++)
                for (int c = 0; c < COLS; c++)
                    assert_true(element(t, r * COLS + c) == want[r / 128][c / 128]);
        }
        limn_weights_unref(&x);
        limn_weights_unref(&w);
    }
}

static void test_scaled_f8(void **state) {
    (void)state;
    uint8_t one[64];
    float scale = 0.5f, rows[3] = {1, 2, 4};
    memset(one, 0x38, sizeof one); /* 1.0 in e4m3 */
    limn_weights *w, *x;
    limn_taesd_config c;
    limn_err err = {0};
    const struct {
        const char *name;
        limn_tensor t;
    } list[] = {
        {"1.weight", {.dtype = LIMN_F8_E4M3, .shape = LIMN_SHAPE(2, 4, 1, 1), .data = one}},
        {"1.scale_weight", {.dtype = LIMN_F32, .shape = {0}, .data = &scale}},
        {"1.scale_input", {.dtype = LIMN_F32, .shape = {0}, .data = &scale}},
        {"3.conv.0.weight", {.dtype = LIMN_F8_E4M3, .shape = LIMN_SHAPE(2, 2, 1, 1), .data = one}},
        {"5.weight", {.dtype = LIMN_F8_E4M3, .shape = LIMN_SHAPE(3, 2, 1, 1), .data = one}},
        {"5.weight_scale", {.dtype = LIMN_F32, .shape = LIMN_SHAPE(3, 1), .data = rows}},
        {"scaled_fp8", {.dtype = LIMN_F8_E4M3, .shape = LIMN_SHAPE(2), .data = one}},
    };
    must(limn_weights_new(&w, "scaled", "made", &err), &err);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        must(limn_weights_add(w, list[i].name, &list[i].t, &err), &err);
    must(limn_canon_taesd(&x, &c, w, "", NULL, &err), &err);
    assert_null(limn_weights_meta_str(x, "limn.unmapped"));
    assert_int_equal(limn_weights_count(x), 3);
    const limn_tensor *t = limn_weights_find(x, "decoder.layers.0.weight");
    assert_int_equal(t->dtype, LIMN_F16);
    assert_true(element(t, 7) == 0.5f);
    assert_int_equal(limn_weights_find(x, "decoder.layers.2.conv.0.weight")->dtype, LIMN_F8_E4M3);
    t = limn_weights_find(x, "decoder.layers.4.weight");
    assert_true(element(t, 1) == 1 && element(t, 2) == 2 && element(t, 5) == 4);
    limn_weights_unref(&x);
    static char nvfp4[] = "{\"format\": \"nvfp4\"}";
    limn_tensor mark = {.dtype = LIMN_U8, .shape = LIMN_SHAPE(sizeof nvfp4 - 1), .data = nvfp4};
    must(limn_weights_add(w, "1.comfy_quant", &mark, &err), &err);
    assert_int_equal(limn_canon_taesd(&x, &c, w, "", NULL, &err), LIMN_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "nvfp4"));
    limn_weights_unref(&w);
}

static void test_refuses(void **state) {
    (void)state;
    limn_weights *w = open_golden("unet/sd1.safetensors"), *x;
    limn_unet_config c;
    limn_vae_config v;
    limn_err err = {0};
    assert_int_equal(limn_canon_unet(&x, &c, w, "nowhere.", NULL, &err), LIMN_E_MISSING);
    assert_int_equal(limn_canon_vae(&x, &v, w, "", NULL, &err), LIMN_E_MISSING);
    /* 32 channels and no config: the number of heads cannot be told */
    assert_int_equal(limn_canon_unet(&x, &c, w, "", NULL, &err), LIMN_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "heads"));
    assert_int_equal(
        limn_canon_unet(&x, &c, w, "", "{\"encoder_hid_dim_type\": \"ip_image_proj\"}", &err),
        LIMN_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "encoder_hid_dim_type"));
    assert_int_equal(limn_canon_unet(&x, &c, w, "", "[]", &err), LIMN_E_FORMAT);
    assert_int_equal(limn_canon_unet(&x, &c, w, "", "{\"attention_head_dim\": 7}", &err),
                     LIMN_E_FORMAT);
    limn_weights_unref(&w);
    limn_trained_noise n;
    must(limn_trained_noise_parse(&n, "{\"prediction_type\": \"v_prediction\"}", &err), &err);
    assert_int_equal(n.prediction, LIMN_TRAINED_V);
    assert_int_equal(limn_trained_noise_parse(&n, "{\"prediction_type\": \"x\"}", &err),
                     LIMN_E_UNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unet_dialects_agree),
        cmocka_unit_test(test_tiny_unet_configs),
        cmocka_unit_test(test_vae_dialects_agree),
        cmocka_unit_test(test_taesd_dialects_agree),
        cmocka_unit_test(test_clip_dialects_agree),
        cmocka_unit_test(test_clip_without_text_model),
        cmocka_unit_test(test_real_unets_map_completely),
        cmocka_unit_test(test_real_vae_maps_completely),
        cmocka_unit_test(test_upscaler_dialects),
        cmocka_unit_test(test_scaled_f8),
        cmocka_unit_test(test_block_scaled_f8),
        cmocka_unit_test(test_gguf_dialects),
        cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
