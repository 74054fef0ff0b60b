/* SPDX-License-Identifier: MIT */
/* Detection: golden files and folders, made-up key sets of every family, the report. */
#include "formats_test.h"

#include <jansson.h>

#include "formats/canon.h"
#include "formats/detect.h"
#include "formats/detect_rows.h"
#include "formats/license.h"

static limn_inspection inspect(const char *name) {
    limn_inspection x;
    limn_err err = {0};
    if (limn_inspect(&x, golden_path(name), &err) != LIMN_OK) fail_msg("%s", err.text);
    return x;
}

static void assert_part(const limn_model_info *m, limn_part part, const char *family,
                        const char *prefix) {
    const limn_found *f = limn_model_info_find(m, part);
    if (!f) fail_msg("no %s", limn_part_word(part));
    assert_string_equal(f->family, family);
    assert_string_equal(f->prefix, prefix);
    assert_true(f->tensors > 0 && f->params > 0 && f->bytes > 0 && f->why[0]);
}

static void test_golden_files(void **state) {
    (void)state;
    limn_inspection x = inspect("pipe/sd1.safetensors");
    assert_string_equal(x.info.family, "sd1");
    assert_int_equal(x.info.n_parts, 3);
    assert_int_equal(x.info.n_missing, 0);
    assert_part(&x.info, LIMN_PART_UNET, "sd1", "model.diffusion_model.");
    assert_part(&x.info, LIMN_PART_TE, "clip", "cond_stage_model.");
    assert_part(&x.info, LIMN_PART_VAE, "kl", "first_stage_model.");
    assert_true(x.info.other_tensors > 0); /* betas and the like */
    assert_int_equal(x.info.noise.prediction, LIMN_TRAINED_EPS);
    limn_inspection_free(&x);
    x = inspect("pipe/sdxl.safetensors");
    assert_string_equal(x.info.family, "sdxl");
    assert_int_equal(x.info.n_parts, 4);
    assert_part(&x.info, LIMN_PART_TE, "clip", "conditioner.embedders.0.");
    assert_part(&x.info, LIMN_PART_TE2, "clip", "conditioner.embedders.1.");
    assert_true(x.info.latent_scale == 0.13025f);
    limn_inspection_free(&x);
    x = inspect("unet/sd1_inpaint.safetensors");
    assert_string_equal(x.info.variant, "custom inpaint");
    assert_int_equal(x.info.n_missing, 2);
    limn_inspection_free(&x);
    x = inspect("vae/taesd.safetensors");
    assert_part(&x.info, LIMN_PART_TAESD, "taesd", "");
    limn_inspection_free(&x);
    x = inspect("vae/taesd_decoder.safetensors");
    assert_string_equal(x.info.variant, "decoder");
    limn_inspection_free(&x);
    x = inspect("vae/taesd_encoder.safetensors");
    assert_string_equal(x.info.variant, "encoder");
    limn_inspection_free(&x);
    x = inspect("vae/kl_16ch.orig.safetensors");
    assert_part(&x.info, LIMN_PART_VAE, "kl16", "");
    limn_inspection_free(&x);
    x = inspect("lora/kohya_sdxl.safetensors");
    assert_part(&x.info, LIMN_PART_LORA, "sdxl", "");
    limn_inspection_free(&x);
    x = inspect("lora/peft.safetensors");
    assert_int_equal(x.info.part[0].part, LIMN_PART_LORA);
    limn_inspection_free(&x);
    x = inspect("ti/a1111.pt");
    assert_int_equal(x.info.part[0].part, LIMN_PART_EMBEDDING);
    limn_inspection_free(&x);
}

static void test_diffusers_folders(void **state) {
    (void)state;
    limn_inspection x = inspect("pipe/sd1");
    assert_string_equal(limn_weights_format(x.weights), "diffusers folder");
    assert_part(&x.info, LIMN_PART_UNET, "sd1", "unet.");
    assert_part(&x.info, LIMN_PART_TE, "clip", "text_encoder.");
    assert_part(&x.info, LIMN_PART_VAE, "kl", "vae.");
    assert_int_equal(x.info.n_missing, 0);
    assert_int_equal(x.info.other_tensors, 0);
    const limn_found *f = limn_model_info_find(&x.info, LIMN_PART_UNET);
    assert_string_equal(f->config_key, "limn.config.unet");
    limn_weights *u;
    limn_unet_config c;
    limn_err err = {0};
    assert_int_equal(
        limn_canon_unet(&u, &c, x.weights, f->prefix, limn_found_config(f, x.weights), &err),
        LIMN_OK);
    assert_int_equal(c.heads[0], 4);
    limn_weights_unref(&u);
    limn_inspection_free(&x);
    x = inspect("pipe/sdxl");
    assert_string_equal(x.info.family, "sdxl");
    assert_part(&x.info, LIMN_PART_TE2, "clip", "text_encoder_2.");
    limn_inspection_free(&x);
    x = inspect("pipe/sd1/unet");
    assert_part(&x.info, LIMN_PART_UNET, "sd1", "");
    assert_string_equal(x.info.part[0].config_key, "limn.config");
    limn_inspection_free(&x);
}

/* Adds a small tensor, with one dimension as wanted (0: any). */

static void add(limn_weights *w, const char *prefix, const char *name, int dim, int64_t value) {
    char full[512];
    limn_err err = {0};
    limn_tensor t = {.dtype = LIMN_F16, .shape = LIMN_SHAPE(5, 5)};
    if (value) t.shape.dim[dim] = value;
    snprintf(full, sizeof full, "%s%s", prefix, name);
    if (!limn_weights_find(w, full) && limn_weights_add(w, full, &t, &err) != LIMN_OK)
        fail_msg("%s", err.text);
}

/* Every row of the table is reachable: a set made of its own keys is found as that row. */
static void test_every_row_is_reachable(void **state) {
    (void)state;
    for (size_t i = 0; i < limn_detect_row_count; i++) {
        const limn_detect_row *r = &limn_detect_rows[i];
        const char *prefix = limn_detect_prefixes(r->part)[0];
        limn_weights *w;
        limn_model_info m;
        limn_err err = {0};
        assert_int_equal(limn_weights_new(&w, r->title, "made", &err), LIMN_OK);
        if (r->dim_key) add(w, prefix, r->dim_key, r->dim, r->value);
        for (int k = 0; k < LIMN_DETECT_KEYS && r->key[k]; k++) add(w, prefix, r->key[k], 0, 0);
        assert_int_equal(limn_detect(&m, w, &err), LIMN_OK);
        const limn_found *f = limn_model_info_find(&m, r->part);
        if (!f || strcmp(f->family, r->family) != 0 ||
            strcmp(f->variant, r->variant ? r->variant : "") != 0)
            fail_msg("row %zu '%s': found %s '%s'", i, r->title, f ? f->title : "nothing",
                     f ? f->variant : "");
        limn_weights_unref(&w);
    }
}

static void unet_made(limn_weights **w, const char *prefix, int in, int context, int add_dim,
                      bool mid, bool deep) {
    limn_err err = {0};
    assert_int_equal(limn_weights_new(w, "made", "made", &err), LIMN_OK);
    add(*w, prefix, "input_blocks.0.0.weight", 1, in);
    add(*w, prefix, "time_embed.0.weight", 0, 0);
    add(*w, prefix, "out.2.weight", 0, 0);
    add(*w, prefix, "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 1, context);
    add(*w, prefix, "middle_block.0.in_layers.0.weight", 0, 0);
    if (add_dim) add(*w, prefix, "label_emb.0.0.weight", 1, add_dim);
    if (mid) add(*w, prefix, "middle_block.1.norm.weight", 0, 0);
    if (deep) add(*w, prefix, "output_blocks.3.1.transformer_blocks.1.norm1.weight", 0, 0);
}

static void test_unet_families(void **state) {
    (void)state;
    static const struct {
        int in, context, add;
        bool mid, deep;
        const char *family, *variant;
    } rows[] = {
        {4, 768, 0, true, false, "sd1", ""},
        {9, 768, 0, true, false, "sd1", "inpaint"},
        {8, 768, 0, true, false, "sd1", "edit"},
        {4, 1024, 0, true, false, "sd2", ""},
        {9, 1024, 0, true, false, "sd2", "inpaint"},
        {4, 2048, 2816, true, true, "sdxl", ""},
        {9, 2048, 2816, true, true, "sdxl", "inpaint"},
        {4, 2048, 2816, false, true, "sdxl", "ssd-1b"},
        {4, 2048, 2816, false, false, "sdxl", "vega"},
        {4, 1280, 2560, true, true, "sdxl-refiner", ""},
        {4, 96, 96, true, false, "sdxl", "custom"},
        {4, 32, 0, true, false, "sd1", "custom"},
    };
    static const char *const prefixes[] = {"model.diffusion_model.", "diffusion_model.", ""};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        limn_weights *w;
        limn_model_info m;
        limn_err err = {0};
        unet_made(&w, prefixes[i % 3], rows[i].in, rows[i].context, rows[i].add, rows[i].mid,
                  rows[i].deep);
        assert_int_equal(limn_detect(&m, w, &err), LIMN_OK);
        if (strcmp(m.family, rows[i].family) != 0 || strcmp(m.variant, rows[i].variant) != 0)
            fail_msg("row %zu: %s '%s'", i, m.family, m.variant);
        limn_weights_unref(&w);
    }
}

static void test_prediction(void **state) {
    (void)state;
    limn_weights *w;
    limn_model_info m;
    limn_err err = {0};
    unet_made(&w, "model.diffusion_model.", 4, 2048, 2816, true, true);
    add(w, "", "v_pred", 0, 0);
    add(w, "", "ztsnr", 0, 0);
    assert_int_equal(limn_detect(&m, w, &err), LIMN_OK);
    assert_int_equal(m.noise.prediction, LIMN_TRAINED_V);
    assert_true(m.noise.zero_snr && m.noise_is_sure);
    limn_weights_unref(&w);
    unet_made(&w, "model.diffusion_model.", 4, 1024, 0, true, true);
    assert_int_equal(limn_detect(&m, w, &err), LIMN_OK);
    assert_false(m.noise_is_sure);
    limn_weights_set_meta_str(w, "modelspec.prediction_type", "epsilon", 7, &err);
    assert_int_equal(limn_detect(&m, w, &err), LIMN_OK);
    assert_int_equal(m.noise.prediction, LIMN_TRAINED_EPS);
    assert_true(m.noise_is_sure);
    limn_weights_unref(&w);
}

static void test_nothing_known(void **state) {
    (void)state;
    limn_inspection x = inspect("formats/zip.pt");
    assert_int_equal(x.info.n_parts, 0);
    assert_false(x.info.supported);
    assert_int_equal(x.info.other_tensors, 10);
    limn_inspection_free(&x);
}

static void test_report(void **state) {
    (void)state;
    limn_inspection x = inspect("pipe/sd1.safetensors");
    limn_buf b;
    limn_err err = {0};
    limn_buf_init(&b, 1 << 20);
    limn_inspect_text(&b, &x);
    static const char *const words[] = {
        "UNet like Stable Diffusion 1.x", "because",         "f16",
        "under 'first_stage_model.'",     "prediction  eps", "unused"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (!strstr(limn_buf_text(&b), words[i]))
            fail_msg("no '%s' in:\n%s", words[i], limn_buf_text(&b));
    limn_buf_clear(&b);
    assert_int_equal(limn_inspect_json(&b, &x, &err), LIMN_OK);
    json_t *tree = json_loads(limn_buf_text(&b), 0, NULL);
    assert_string_equal(json_string_value(json_object_get(tree, "family")), "sd1");
    assert_int_equal(json_array_size(json_object_get(tree, "parts")), 3);
    json_decref(tree);
    limn_buf_deinit(&b);
    limn_inspection_free(&x);
}

/* Cards as people write them; what is no name is not taken. */
static void test_license(void **state) {
    static const struct {
        const char *card, *want;
    } rows[] = {
        {"---\nlicense: apache-2.0\ntags:\n- x\n---\n# a model\n", "apache-2.0"},
        {"---\r\nlicense: \"mit\"\r\n---\r\n", "mit"},
        {"---\nlicense: other\nlicense_name: flux-1-dev\n---\n", "flux-1-dev"},
        {"---\nlicense: other\n---\nlicense_name: late\n", "other"},
        {"# a model\nlicense: mit\n", ""},
        {"---\ntags: [a]\n---\nlicense: mit\n", ""},
        {"---\nlicense: a\x01z\n---\n", ""},
        {"---\nlicense:", ""},
        {"--", ""},
        {"", ""},
    };
    limn_license found;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        limn_license_of_card(&found, rows[i].card, strlen(rows[i].card));
        assert_string_equal(found.name, rows[i].want);
        assert_string_equal(found.from, rows[i].want[0] ? "model card" : "");
    }
    (void)state;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_files),
        cmocka_unit_test(test_diffusers_folders),
        cmocka_unit_test(test_every_row_is_reachable),
        cmocka_unit_test(test_unet_families),
        cmocka_unit_test(test_prediction),
        cmocka_unit_test(test_nothing_known),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_license),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
