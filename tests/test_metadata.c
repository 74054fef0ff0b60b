/* SPDX-License-Identifier: MIT */
/* metadata: recipes of other programs, in files and as text, become the right parameters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/fsmap.h"
#include "image/picture_text.h"
#include "param/gen.h"

static const limn_gen *read_text(limn_params **out, const char *text, char **unknown) {
    limn_err err = {0};
    assert_int_equal(limn_params_new(out, LIMN_PARAMS_GEN, NULL), LIMN_OK);
    if (limn_params_parse_text(*out, text, strlen(text), LIMN_FROM_FILE, unknown, &err) != LIMN_OK)
        fail_msg("%s", err.text);
    return limn_gen_of(*out);
}

static void test_a1111(void **state) {
    (void)state;
    limn_params *p;
    char *unknown;
    const limn_gen *g = read_text(
        &p,
        "masterpiece, (castle:1.2),\nsecond line <lora:fog:0.6>\n"
        "Negative prompt: ugly,\nbad hands\n"
        "Steps: 28, Sampler: DPM++ 2M Karras, Schedule type: Karras, CFG scale: 6.5, Seed: 123456, "
        "Size: 512x768, Model hash: abcd1234, Model: dream_8 [0123abcd], Denoising strength: 0.4, "
        "Clip skip: 2, ENSD: 31337, Hires upscale: 1.5, Hires steps: 12, Hires upscaler: "
        "4x-UltraSharp, Lora hashes: \"fog: 12ab, x: 34cd\", RNG: NV, Tiling: True, Face "
        "restoration: GFPGAN, "
        "Version: v1.9.4",
        &unknown);
    assert_string_equal(g->prompt, "masterpiece, (castle:1.2),\nsecond line <lora:fog:0.6>");
    assert_string_equal(g->negative_prompt, "ugly,\nbad hands");
    assert_int_equal(g->steps, 28);
    assert_string_equal(g->sampler, "DPM++ 2M Karras");
    assert_string_equal(g->schedule, "Karras");
    assert_true(g->cfg_scale == 6.5);
    assert_int_equal(g->seed, 123456);
    assert_int_equal(g->width, 512);
    assert_int_equal(g->height, 768);
    assert_string_equal(g->model, "dream_8");
    assert_int_equal(g->clip_skip, 2);
    assert_int_equal(g->eta_seed_delta, 31337);
    assert_true(g->hires_scale == 1.5);
    assert_int_equal(g->hires_steps, 12);
    assert_true(g->hires_strength == 0.4); /* A1111 has one strength for both */
    assert_int_equal(g->rng, LIMN_GEN_RNG_CUDA);
    assert_true(g->tiling);
    assert_string_equal(unknown, "Face restoration");
    assert_false(limn_gen_has(g, "vae"));
    limn_text_free(&unknown);
    limn_params_free(&p);
}

static void test_prompt_only(void **state) {
    (void)state;
    limn_params *p;
    const limn_gen *g = read_text(&p, "  {red|blue} cat: big, dog: small \n", NULL);
    assert_string_equal(g->prompt, "{red|blue} cat: big, dog: small");
    assert_false(limn_gen_has(g, "steps"));
    limn_params_free(&p);
    g = read_text(&p, "", NULL);
    assert_false(limn_gen_has(g, "prompt"));
    limn_params_free(&p);
}

static void test_sdnext_and_civitai(void **state) {
    (void)state;
    limn_params *p;
    char *unknown;
    const limn_gen *g = read_text(
        &p,
        "a cat\nNegative prompt: dog\nSteps: 20, Size: 1024x1024, Sampler: Euler a, Scheduler: "
        "EulerAncestralDiscreteScheduler, Seed: 5, CFG scale: 6, CFG rescale: 0.7, App: SD.Next, "
        "Variation strength: 0.1, Variation seed: 9, Civitai resources: [{\"type\":\"checkpoint\","
        "\"modelVersionId\":128713}], Operations: \"txt2img; hires\"",
        &unknown);
    assert_int_equal(g->width, 1024);
    assert_true(g->cfg_rescale == 0.7);
    assert_true(g->variation_strength == 0.1);
    assert_int_equal(g->variation_seed, 9);
    assert_string_equal(unknown, "Scheduler, Civitai resources, Operations");
    limn_text_free(&unknown);
    limn_params_free(&p);
}

static void expect_bad(const char *text, limn_status want, const char *says) {
    limn_params *p;
    limn_err err = {0};
    assert_int_equal(limn_params_new(&p, LIMN_PARAMS_GEN, NULL), LIMN_OK);
    assert_int_equal(limn_params_parse_text(p, text, strlen(text), LIMN_FROM_FILE, NULL, &err),
                     want);
    if (!strstr(err.text, says)) fail_msg("%s said: %s", text, err.text);
    assert_false(limn_params_is_set(p, "prompt")); /* nothing half done */
    limn_params_free(&p);
}

static void test_bad_text(void **state) {
    (void)state;
    expect_bad("a\nSteps: 0, Sampler: x, Seed: 1", LIMN_E_VALUE, "Steps 0: must be a whole number");
    expect_bad("a\nSteps: 5, Sampler: x, Size: 513x512", LIMN_E_VALUE,
               "Size 513: must be a multiple");
    expect_bad("a\nSteps: 5, Sampler: x, Size: big", LIMN_E_VALUE, "must be WIDTHxHEIGHT");
    expect_bad("a\nSteps: 5, Sampler: x, CFG scale: nan", LIMN_E_VALUE, "CFG scale nan");
    expect_bad("a\xff\nSteps: 5", LIMN_E_FORMAT, "not UTF-8");
}

static void test_comfy(void **state) {
    (void)state;
    static const char text[] =
        "{\"3\":{\"class_type\":\"KSampler\",\"inputs\":{\"seed\":42,\"steps\":12,\"cfg\":5.5,"
        "\"sampler_name\":\"dpmpp_2m\",\"scheduler\":\"karras\",\"denoise\":1.0,\"model\":[\"10\","
        "0],"
        "\"positive\":[\"6\",0],\"negative\":[\"7\",0],\"latent_image\":[\"5\",0]}},"
        "\"4\":{\"class_type\":\"CheckpointLoaderSimple\",\"inputs\":{\"ckpt_name\":\"v1-5.ckpt\"}}"
        ","
        "\"5\":{\"class_type\":\"EmptyLatentImage\",\"inputs\":{\"width\":640,\"height\":448,"
        "\"batch_size\":2}},"
        "\"6\":{\"class_type\":\"CLIPTextEncode\",\"inputs\":{\"text\":\"a "
        "fox\",\"clip\":[\"4\",1]}},"
        "\"7\":{\"class_type\":\"CLIPTextEncode\",\"inputs\":{\"text\":[\"8\",0],\"clip\":[\"4\",1]"
        "}},"
        "\"8\":{\"class_type\":\"String\",\"inputs\":{\"text\":\"blurry\"}},"
        "\"10\":{\"class_type\":\"LoraLoader\",\"inputs\":{\"lora_name\":\"ink.safetensors\","
        "\"strength_model\":0.75,\"strength_clip\":0.5,\"model\":[\"4\",0],\"clip\":[\"4\",1]}}}";
    limn_params *p;
    const limn_gen *g = read_text(&p, text, NULL);
    assert_string_equal(g->prompt, "a fox");
    assert_string_equal(g->negative_prompt, "blurry");
    assert_int_equal(g->seed, 42);
    assert_int_equal(g->steps, 12);
    assert_string_equal(g->sampler, "dpmpp_2m");
    assert_string_equal(g->schedule, "karras");
    assert_int_equal(g->width, 640);
    assert_int_equal(g->height, 448);
    assert_int_equal(g->batch_size, 2);
    assert_string_equal(g->model, "v1-5.ckpt");
    assert_int_equal(g->loras.count, 1);
    assert_string_equal(g->loras.item[0], "ink.safetensors:0.75:0.5");
    limn_params_free(&p);
    /* a graph that bites its tail ends too */
    g = read_text(
        &p,
        "{\"1\":{\"class_type\":\"KSampler\",\"inputs\":{\"steps\":3,\"model\":[\"1\",0],"
        "\"positive\":[\"2\",0]}},\"2\":{\"class_type\":\"X\",\"inputs\":{\"conditioning\":"
        "[\"2\",0]}}}",
        NULL);
    assert_int_equal(g->steps, 3);
    limn_params_free(&p);
}

static void test_invoke_and_own_json(void **state) {
    (void)state;
    limn_params *p;
    const limn_gen *g = read_text(
        &p,
        "{\"positive_prompt\":\"a fox\",\"negative_prompt\":\"\",\"width\":768,\"height\":512,"
        "\"seed\":9,\"cfg_scale\":4,\"steps\":30,\"scheduler\":\"dpmpp_2m_k\",\"model\":{\"name\":"
        "\"sdxl\"},\"loras\":[{\"model\":{\"name\":\"ink\"},\"weight\":0.5}],\"app_version\":"
        "\"4\"}",
        NULL);
    assert_string_equal(g->prompt, "a fox");
    assert_string_equal(g->sampler, "dpmpp_2m");
    assert_string_equal(g->schedule, "karras");
    assert_string_equal(g->model, "sdxl");
    assert_string_equal(g->loras.item[0], "ink:0.5");
    limn_params_free(&p);
    g = read_text(&p, "{\"prompt\": \"a fox\", \"steps\": 3}", NULL);
    assert_int_equal(g->steps, 3);
    limn_params_free(&p);
    expect_bad("{\"prompt\": \"a\", \"stepz\": 3}", LIMN_E_VALUE, "/stepz");
}

/* Files that Pillow wrote: PNG iTXt (plain and compressed), zTXt, EXIF of both byte orders. */
static void test_files(void **state) {
    (void)state;
    static const char *const names[] = {"recipe_itxt.png", "recipe_itxt_zip.png", "recipe_ztxt.png",
                                        "recipe_be.jpg",   "recipe_le.jpg",       "recipe_be.webp",
                                        "recipe_le.webp"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[1024], *text;
        limn_err err = {0};
        limn_params *p;
        snprintf(path, sizeof path, "%s/image/%s", getenv("LIMN_GOLDEN_DIR"), names[i]);
        if (limn_image_load_text(&text, path, &err) != LIMN_OK) fail_msg("%s", err.text);
        const limn_gen *g = read_text(&p, text, NULL);
        assert_int_equal(memcmp(g->prompt, "a cat, caf\xc3\xa9 ", 13), 0);
        assert_string_equal(g->negative_prompt, "dog");
        assert_true(g->cfg_scale == 6.5);
        limn_text_free(&text);
        limn_params_free(&p);
    }
}

/* A file as InvokeAI 5 writes it (tools/reference/make_image.py says after what). */
static void test_invoke_file(void **state) {
    (void)state;
    char path[1024], *text;
    limn_err err = {0};
    limn_params *p;
    snprintf(path, sizeof path, "%s/image/invokeai.png", getenv("LIMN_GOLDEN_DIR"));
    if (limn_image_load_text(&text, path, &err) != LIMN_OK) fail_msg("%s", err.text);
    const limn_gen *g = read_text(&p, text, NULL);
    assert_string_equal(g->prompt, "a red fox, caf\xc3\xa9 window, \xe4\xb8\xa4\xe5\x8f\xaa");
    assert_string_equal(g->negative_prompt, "blurry, text");
    assert_string_equal(g->sampler, "dpmpp_2m_sde");
    assert_string_equal(g->schedule, "karras");
    assert_string_equal(g->model, "dreamshaper-8");
    assert_string_equal(g->loras.item[0], "ink-wash:0.75");
    assert_int_equal(g->seed, 2849503841);
    assert_int_equal(g->clip_skip, 2); /* one layer is skipped: the second from the end */
    assert_true(g->cfg_scale == 6.5 && g->cfg_rescale == 0.25);
    assert_true(g->width == 768 && g->height == 512 && g->steps == 28);
    assert_false(limn_gen_has(g, "tiling") || limn_gen_has(g, "rng"));
    limn_text_free(&text);
    limn_params_free(&p);
    g = read_text(&p,
                  "{\"positive_prompt\": \"a tile\", \"seamless_x\": true, \"seamless_y\": true,"
                  " \"rand_device\": \"cuda\", \"clip_skip\": 0, \"scheduler\": \"euler_a\","
                  " \"refiner_model\": {\"name\": \"sdxl-refiner\"}, \"refiner_start\": 0.7}",
                  NULL);
    assert_true(g->tiling && limn_gen_has(g, "rng") && !limn_gen_has(g, "clip_skip"));
    assert_string_equal(g->sampler, "euler_a");
    assert_string_equal(g->refiner, "sdxl-refiner");
    assert_true(g->refiner_switch == 0.7);
    limn_params_free(&p);
}

/* Every cut and every flipped byte of such a file ends in a status, never in a crash. */
static void test_damaged_files(void **state) {
    (void)state;
    static const char *const names[] = {"recipe_itxt_zip.png", "recipe_be.jpg", "recipe_le.webp"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[1024], *text;
        limn_fsmap *map;
        int kept = 0;
        snprintf(path, sizeof path, "%s/image/%s", getenv("LIMN_GOLDEN_DIR"), names[i]);
        assert_int_equal(limn_fsmap_open(&map, path, NULL), LIMN_OK);
        for (size_t n = 0; n <= map->size; n++) {
            uint8_t *cut = malloc(n + 1);
            memcpy(cut, map->data, n);
            kept += limn_picture_text_get(&text, cut, n, NULL) == LIMN_OK;
            limn_text_free(&text);
            for (int bit = 0; n > 0 && bit < 8; bit++) {
                cut[n - 1] ^= (uint8_t)(1 << bit);
                limn_picture_text_get(&text, cut, n, NULL);
                limn_text_free(&text);
                cut[n - 1] ^= (uint8_t)(1 << bit);
            }
            free(cut);
        }
        assert_true(kept > 0);
        limn_fsmap_unref(&map);
    }
}

static void test_none(void **state) {
    (void)state;
    char path[1024], *text;
    limn_err err = {0};
    snprintf(path, sizeof path, "%s/image/plain.png", getenv("LIMN_GOLDEN_DIR"));
    assert_int_equal(limn_image_load_text(&text, path, &err), LIMN_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "no recipe"));
    assert_int_equal(limn_image_decode_text(&text, "abc", 3, &err), LIMN_E_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a1111),
        cmocka_unit_test(test_prompt_only),
        cmocka_unit_test(test_sdnext_and_civitai),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_comfy),
        cmocka_unit_test(test_invoke_and_own_json),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_invoke_file),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
