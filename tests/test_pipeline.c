/* SPDX-License-Identifier: MIT */
/*
 * Whole tiny models against diffusers' pipelines with the same seed: every picture within 1/255 in
 * exact mode; folders and all-in-one files; the same bits for any number of threads and drawn
 * twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>

#include "golden_net.h"
#include "limn.h"

typedef struct draw_case {
    const char *name;    /* in pipe.io */
    const char *model;   /* below tests/golden/pipe */
    const char *set[24]; /* name, value, name, value ... */
    int worst;           /* largest difference of a sample that is allowed */
} draw_case;

static const char *golden_path(char *buf, size_t size, const char *name) {
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    snprintf(buf, size, "%s/pipe/%s", dir ? dir : "tests/golden", name);
    return buf;
}

static void set(limn_params *p, const char *name, const char *value) {
    limn_err err = {0};
    if (limn_params_set(p, name, value, LIMN_FROM_API, &err) != LIMN_OK)
        fail_msg("%s=%s: %s", name, value, err.text);
}

static limn_params *request(const draw_case *c) {
    limn_err err = {0};
    limn_params *gen = NULL;
    char path[1024];
    GOLDEN_OK(limn_params_new(&gen, LIMN_PARAMS_GEN, &err));
    set(gen, "model", golden_path(path, sizeof path, c->model));
    set(gen, "prompt", "a lighthouse at dusk, oil painting");
    set(gen, "negative_prompt", "blurry, low quality");
    set(gen, "steps", "5");
    set(gen, "cfg_scale", "5");
    set(gen, "seed", "42");
    set(gen, "width", "64");
    set(gen, "height", "64");
    set(gen, "precision", "exact");
    set(gen, "emphasis", "none");
    for (int i = 0; c->set[i]; i += 2) set(gen, c->set[i], c->set[i + 1]);
    return gen;
}

static limn_engine *engine_new(const char *threads) {
    limn_err err = {0};
    limn_params *app = NULL;
    limn_engine *e = NULL;
    GOLDEN_OK(limn_params_new(&app, LIMN_PARAMS_APP, &err));
    set(app, "threads", threads);
    GOLDEN_OK(limn_engine_new(&e, app, &err));
    limn_params_free(&app);
    return e;
}

static limn_drawing *draw(limn_engine *e, const draw_case *c) {
    limn_err err = {0};
    limn_drawing *d = NULL;
    limn_params *gen = request(c);
    if (limn_draw(&d, e, gen, NULL, &err) != LIMN_OK) fail_msg("%s: %s", c->name, err.text);
    limn_params_free(&gen);
    return d;
}

/* Largest difference of any sample of any picture. */
static int drawing_error(const limn_drawing *d, const limn_tensor *want) {
    const int64_t *s = want->shape.dim; /* u8 [n, h, w, 3] */
    int64_t each = s[1] * s[2] * s[3];
    int worst = 0;
    assert_int_equal(limn_drawing_count(d), s[0]);
    for (int i = 0; i < s[0]; i++) {
        const limn_image *im = limn_drawing_image(d, i);
        assert_int_equal(limn_image_height(im), s[1]);
        assert_int_equal(limn_image_width(im), s[2]);
        const uint8_t *a = limn_image_bytes(im), *b = (const uint8_t *)want->data + i * each;
        for (int64_t k = 0; k < each; k++)
            worst = abs(a[k] - b[k]) > worst ? abs(a[k] - b[k]) : worst;
    }
    return worst;
}

/*
 * Left out: UniPC (diffusers' leading spacing for it
 * counts one step more; tests/test_solver.c has its traces) and clip_skip (diffusers does not apply
 * it to the negative prompt).
 */
static const draw_case cases[] = {
    {"sd1_ddim", "sd1", {"sampler", "ddim", "schedule", "ddim_uniform"}, 1},
    {"sd1_euler", "sd1", {"sampler", "euler", "schedule", "ddim_uniform"}, 1},
    {"sd1_euler_a", "sd1", {"sampler", "euler_a", "schedule", "ddim_uniform"}, 1},
    {"sd1_dpmpp_2m_karras", "sd1", {"sampler", "DPM++ 2M", "schedule", "karras"}, 1},
    {"sd1_pndm", "sd1", {"sampler", "plms", "schedule", "ddim_uniform"}, 1},
    {"sd1_odd",
     "sd1",
     {"sampler", "euler", "schedule", "ddim_uniform", "width", "88", "height", "72"},
     1},
    {"sd1_rescale",
     "sd1",
     {"sampler", "ddim", "schedule", "ddim_uniform", "cfg_rescale", "0.7"},
     1},
    {"sd1_nocfg", "sd1", {"sampler", "ddim", "schedule", "ddim_uniform", "cfg_scale", "1"}, 1},
    {"sd1_batch",
     "sd1",
     {"sampler", "euler_a", "schedule", "ddim_uniform", "batch_size", "2", "seed", "1"},
     1},
    {"sd1_ddim_trailing_v", "sd1_v", {NULL}, 1}, /* sampler and schedule from its config */
    {"sdxl_euler", "sdxl", {"sampler", "euler", "schedule", "ddim_uniform"}, 1},
    {"sdxl_zero_negative",
     "sdxl",
     {"sampler", "euler", "schedule", "ddim_uniform", "negative_prompt", ""},
     1},
    {"sdxl_dpmpp_2m_karras", "sdxl", {"sampler", "DPM++ 2M", "schedule", "karras"}, 1},
    {"sdxl_euler_a", "sdxl", {"sampler", "euler_a", "schedule", "ddim_uniform"}, 1},
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

static void test_against_diffusers(void **state) {
    (void)state;
    limn_weights *io = golden_open("pipe/pipe.io.safetensors");
    limn_engine *e = engine_new("2");
    int failed = 0;
    for (int i = 0; i < N_CASES; i++) {
        const limn_tensor *want = limn_weights_findf(io, "%s/image", cases[i].name);
        if (!want) fail_msg("no golden picture for %s", cases[i].name);
        limn_drawing *d = draw(e, &cases[i]);
        int worst = drawing_error(d, want);
        if (worst > cases[i].worst) {
            print_error("%s from %s: differs by %d\n", cases[i].name, cases[i].model, worst);
            failed++;
        }
        limn_drawing_free(&d);
    }
    limn_engine_free(&e);
    limn_weights_unref(&io);
    assert_int_equal(failed, 0);
}

/* The start picture's posterior is drawn with the seed, before the noise, as diffusers does. */
static void test_start_pictures_against_diffusers(void **state) {
    (void)state;
    limn_err err = {0};
    char init[] = "/tmp/limn_start_XXXXXX.png";
    close(mkstemps(init, 4));
    limn_weights *io = golden_open("pipe/pipe.io.safetensors");
    const limn_tensor *rgb = limn_weights_find(io, "sd1/init_image");
    limn_image *im = NULL;
    GOLDEN_OK(limn_image_new(&im, 64, 64, 3, &err));
    memcpy(limn_image_pixels(im), rgb->data, 64 * 64 * 3);
    GOLDEN_OK(limn_image_save(im, init, NULL, NULL, &err));
    limn_engine *e = engine_new("2");
    static const char *const samplers[][2] = {{"ddim", "sd1_img2img_ddim"},
                                              {"euler_a", "sd1_img2img_euler_a"}};
    for (int i = 0; i < 2; i++)
        for (int mean = 0; mean < 2; mean++) {
            const draw_case c = {samplers[i][1],
                                 "sd1",
                                 {"sampler", samplers[i][0], "schedule", "leading", "init_image",
                                  init, "strength", "0.6", "init_posterior",
                                  mean ? "mean" : "sample"},
                                 1};
            limn_drawing *d = draw(e, &c);
            int worst = drawing_error(d, limn_weights_findf(io, "%s/image", c.name));
            if (mean ? worst <= 1 : worst > 1)
                fail_msg("%s, mean %d: differs by %d", c.name, mean, worst);
            limn_drawing_free(&d);
        }
    limn_engine_free(&e);
    limn_image_free(&im);
    limn_weights_unref(&io);
    unlink(init);
}

/* A picture of a golden file, written as a PNG; the path is to be removed. */
static void write_golden(char path[64], const limn_tensor *rgb) {
    limn_err err = {0};
    limn_image *im = NULL;
    const int64_t *s = rgb->shape.dim; /* u8 [h, w, 3] */
    snprintf(path, 64, "/tmp/limn_golden_XXXXXX.png");
    close(mkstemps(path, 4));
    GOLDEN_OK(limn_image_new(&im, (int)s[1], (int)s[0], 3, &err));
    memcpy(limn_image_pixels(im), rgb->data, (size_t)(s[0] * s[1] * s[2]));
    GOLDEN_OK(limn_image_save(im, path, NULL, NULL, &err));
    limn_image_free(&im);
}

/* Convolutions that repeat the picture, and start pictures whose latents are resized (A1111's
 * resize mode 3); tools/reference/make_tiling.py. */
static void test_tiling_and_latent_fit_against_diffusers(void **state) {
    (void)state;
    char square[64], wide[64];
    limn_weights *io = golden_open("pipe/tiling.io.safetensors");
    write_golden(square, limn_weights_find(io, "square"));
    write_golden(wide, limn_weights_find(io, "picture"));
    const draw_case all[] = {
        {"tiling", "sd1", {"sampler", "ddim", "schedule", "leading", "tiling", "on"}, 1},
        {"tiling_odd",
         "sd1",
         {"sampler", "euler", "schedule", "leading", "tiling", "on", "width", "88", "height", "72"},
         1},
        {"tiling_img2img",
         "sd1",
         {"sampler", "ddim", "schedule", "leading", "tiling", "on", "strength", "0.6", "init_image",
          square},
         1},
        {"latent_larger",
         "sd1",
         {"sampler", "ddim", "schedule", "leading", "fit", "latent", "strength", "0.6",
          "init_image", wide, "width", "128", "height", "96"},
         1},
        {"latent_smaller",
         "sd1",
         {"sampler", "ddim", "schedule", "leading", "fit", "latent", "strength", "0.6",
          "init_image", wide, "width", "40", "height", "32"},
         1},
    };
    limn_engine *e = engine_new("2");
    int failed = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        limn_drawing *d = draw(e, &all[i]);
        int worst = drawing_error(d, limn_weights_findf(io, "%s/image", all[i].name));
        if (worst > all[i].worst) {
            print_error("%s: differs by %d\n", all[i].name, worst);
            failed++;
        }
        limn_drawing_free(&d);
    }
    limn_engine_free(&e);
    limn_weights_unref(&io);
    unlink(square);
    unlink(wide);
    assert_int_equal(failed, 0);
}

/* Scheduler and limn.json of a folder fill what the request leaves open, and nothing else. */
static void test_a_model_recommends(void **state) {
    (void)state;
    limn_err err = {0};
    char path[1024];
    limn_engine *e = engine_new("1");
    for (int asked = 0; asked < 2; asked++) {
        limn_params *gen = NULL;
        limn_drawing *d = NULL;
        GOLDEN_OK(limn_params_new(&gen, LIMN_PARAMS_GEN, &err));
        set(gen, "model", golden_path(path, sizeof path, "sd1_v"));
        set(gen, "width", "64");
        set(gen, "height", "64");
        if (asked) set(gen, "sampler", "Euler a");
        if (asked) set(gen, "steps", "2");
        if (limn_draw(&d, e, gen, NULL, &err) != LIMN_OK) fail_msg("%s", err.text);
        const limn_params *p = limn_drawing_params(d, 0);
        assert_int_equal(limn_params_int(p, "steps"), asked ? 2 : 5);
        assert_float_equal(limn_params_real(p, "cfg_scale"), 5, 0);
        assert_string_equal(limn_params_text(p, "sampler"), asked ? "Euler a" : "DDIM");
        assert_string_equal(limn_params_text(p, "schedule"), asked ? "automatic" : "Trailing");
        limn_drawing_free(&d);
        limn_params_free(&gen);
    }
    limn_engine_free(&e);
}

static void test_threads_and_repeats_give_the_same_bits(void **state) {
    (void)state;
    const draw_case c = {"repeat", "sd1", {"sampler", "DPM++ SDE", "precision", "auto"}, 0};
    limn_drawing *first = NULL;
    for (int i = 0; i < 4; i++) {
        limn_engine *e = engine_new(i == 0 ? "1" : i == 1 ? "2" : "3");
        limn_drawing *d = draw(e, &c), *again = draw(e, &c);
        const uint8_t *a = limn_image_bytes(limn_drawing_image(d, 0));
        assert_memory_equal(a, limn_image_bytes(limn_drawing_image(again, 0)), 64 * 64 * 3);
        if (first)
            assert_memory_equal(a, limn_image_bytes(limn_drawing_image(first, 0)), 64 * 64 * 3);
        limn_drawing_free(&again);
        if (first)
            limn_drawing_free(&d);
        else
            first = d;
        limn_engine_free(&e);
    }
    limn_drawing_free(&first);
}

/* The text inside a picture draws it again. */
static void test_recipe_draws_the_same_bits(void **state) {
    (void)state;
    limn_err err = {0};
    const draw_case c = {"recipe",
                         "sd1",
                         {"sampler", "Euler a", "batch_size", "2", "count", "2",
                          "variation_strength", "0.2", "variation_seed", "7"},
                         0};
    limn_engine *e = engine_new("2");
    limn_drawing *d = draw(e, &c), *again = NULL;
    assert_int_equal(limn_drawing_count(d), 4);
    for (int i = 0; i < 4; i++) {
        limn_params *gen = NULL;
        const char *text = limn_drawing_text(d, i);
        GOLDEN_OK(limn_params_new(&gen, LIMN_PARAMS_GEN, &err));
        GOLDEN_OK(limn_params_parse_text(gen, text, strlen(text), LIMN_FROM_FILE, NULL, &err));
        GOLDEN_OK(limn_draw(&again, e, gen, NULL, &err));
        assert_int_equal(limn_drawing_count(again), 1);
        assert_memory_equal(limn_image_bytes(limn_drawing_image(d, i)),
                            limn_image_bytes(limn_drawing_image(again, 0)), 64 * 64 * 3);
        limn_drawing_free(&again);
        limn_params_free(&gen);
    }
    limn_drawing_free(&d);
    limn_engine_free(&e);
}

static void expect(limn_engine *e, const draw_case *c, limn_status want, const char *says) {
    limn_err err = {0};
    limn_drawing *d = NULL;
    limn_params *gen = request(c);
    assert_int_equal(limn_draw(&d, e, gen, NULL, &err), want);
    assert_null(d);
    if (!strstr(err.text, says)) fail_msg("'%s' does not say '%s'", err.text, says);
    limn_params_free(&gen);
}

static void test_bad_requests_say_what_is_wrong(void **state) {
    (void)state;
    limn_engine *e = engine_new("1");
    const draw_case bad[] = {
        {"model", "nothing-here", {NULL}, 0},
        {"sampler", "sd1", {"sampler", "Eulr b"}, 0},
        {"mask", "sd1", {"mask", "x.png"}, 0},
        {"init", "sd1", {"init_image", "/nonexistent.png"}, 0},
        {"lora", "sd1", {"loras", "no-such-lora"}, 0},
    };
    expect(e, &bad[0], LIMN_E_NOT_FOUND, "nothing-here");
    expect(e, &bad[1], LIMN_E_VALUE, "--sampler: unknown sampler \"Eulr b\"; did you mean Euler");
    expect(e, &bad[2], LIMN_E_VALUE, "--init");
    expect(e, &bad[3], LIMN_E_NOT_FOUND, "/nonexistent.png");
    expect(e, &bad[4], LIMN_E_NOT_FOUND, "no-such-lora");
    limn_engine_free(&e);
}

static void stop(void *user, const limn_event *event) {
    if (strcmp(event->stage, "denoise") == 0 && event->step == 2) limn_cancel_set(user);
}

static void test_cancel(void **state) {
    (void)state;
    limn_err err = {0};
    limn_drawing *d = NULL;
    limn_cancel *flag = NULL;
    const draw_case c = {"cancel", "sd1", {NULL}, 0};
    limn_engine *e = engine_new("2");
    limn_params *gen = request(&c);
    GOLDEN_OK(limn_cancel_new(&flag, &err));
    limn_watch w = {.event = stop, .user = flag, .cancel = flag};
    assert_int_equal(limn_draw(&d, e, gen, &w, &err), LIMN_E_CANCELLED);
    limn_cancel_clear(flag);
    GOLDEN_OK(limn_draw(&d, e, gen, NULL, &err)); /* the engine is as good as before */
    limn_drawing_free(&d);
    limn_params_free(&gen);
    limn_cancel_free(&flag);
    limn_engine_free(&e);
}

/* ---- start pictures ---- */
/* A colour ramp, and a mask that is white in its right half. */
static void write_pictures(char *init, char *mask, int side) {
    limn_err err = {0};
    limn_image *a = NULL, *m = NULL;
    strcpy(init, "/tmp/limn_init_XXXXXX.png");
    strcpy(mask, "/tmp/limn_mask_XXXXXX.png");
    close(mkstemps(init, 4));
    close(mkstemps(mask, 4));
    GOLDEN_OK(limn_image_new(&a, side, side, 3, &err));
    GOLDEN_OK(limn_image_new(&m, side, side, 1, &err));
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            uint8_t *p = limn_image_pixels(a) + (y * side + x) * 3;
            p[0] = (uint8_t)(x * 3), p[1] = (uint8_t)(y * 3), p[2] = 128;
            limn_image_pixels(m)[y * side + x] = x >= side / 2 ? 255 : 0;
        }
    GOLDEN_OK(limn_image_save(a, init, NULL, NULL, &err));
    GOLDEN_OK(limn_image_save(m, mask, NULL, NULL, &err));
    limn_image_free(&a);
    limn_image_free(&m);
}

/* Samples of columns [x0, x1) that differ by more than `by`. */
static int columns_differ(const limn_image *a, const limn_image *b, int x0, int x1, int by) {
    int n = 0, w = limn_image_width(a);
    assert_int_equal(w, limn_image_width(b));
    for (int y = 0; y < limn_image_height(a); y++)
        for (int k = (y * w + x0) * 3; k < (y * w + x1) * 3; k++)
            n += abs(limn_image_bytes(a)[k] - limn_image_bytes(b)[k]) > by;
    return n;
}

static void test_inpainting_keeps_what_is_not_masked(void **state) {
    (void)state;
    limn_err err = {0};
    char init[64], mask[64];
    limn_image *original = NULL;
    limn_engine *e = engine_new("2");
    write_pictures(init, mask, 64);
    GOLDEN_OK(limn_image_load(&original, init, &err));
    static const char *const fills[] = {"original", "fill", "noise", "zeros"};
    for (int i = 0; i < 4; i++) {
        const draw_case c = {"inpaint",
                             "sd1",
                             {"init_image", init, "mask", mask, "mask_blur", "0", "strength", "0.8",
                              "inpaint_fill", fills[i]},
                             0};
        limn_drawing *d = draw(e, &c);
        const limn_image *out = limn_drawing_image(d, 0);
        assert_int_equal(columns_differ(out, original, 0, 32, 0), 0);
        assert_true(columns_differ(out, original, 32, 64, 8) > 1000);
        limn_drawing_free(&d);
    }
    /* only the masked part, drawn at full size, pasted back at its place */
    const draw_case part = {"masked",
                            "sd1",
                            {"init_image", init, "mask", mask, "mask_blur", "0", "inpaint_area",
                             "masked", "inpaint_padding", "0", "width", "64", "height", "128"},
                            0};
    limn_drawing *d = draw(e, &part);
    assert_int_equal(limn_image_width(limn_drawing_image(d, 0)), 64);
    assert_int_equal(limn_image_height(limn_drawing_image(d, 0)), 64);
    assert_int_equal(columns_differ(limn_drawing_image(d, 0), original, 0, 32, 0), 0);
    assert_true(columns_differ(limn_drawing_image(d, 0), original, 32, 64, 8) > 1000);
    limn_drawing_free(&d);
    limn_image_free(&original);
    limn_engine_free(&e);
    unlink(init);
    unlink(mask);
}

static void test_strength_goes_from_keeping_to_forgetting(void **state) {
    (void)state;
    char init[64], mask[64];
    limn_engine *e = engine_new("2");
    write_pictures(init, mask, 64);
    static const char *const strengths[] = {"0", "0.4", "1"};
    limn_drawing *d[3];
    for (int i = 0; i < 3; i++) {
        const draw_case c = {"img2img", "sd1", {"init_image", init, "strength", strengths[i]}, 0};
        d[i] = draw(e, &c);
    }
    int some = columns_differ(limn_drawing_image(d[0], 0), limn_drawing_image(d[1], 0), 0, 64, 4);
    int all = columns_differ(limn_drawing_image(d[0], 0), limn_drawing_image(d[2], 0), 0, 64, 4);
    assert_true(some > 0 && all > some);
    for (int i = 0; i < 3; i++) limn_drawing_free(&d[i]);
    limn_engine_free(&e);
    unlink(init);
    unlink(mask);
}

static void test_hires_and_upscale_sizes(void **state) {
    (void)state;
    limn_engine *e = engine_new("2");
    static const char *const how[] = {"Latent", "Lanczos"};
    for (int i = 0; i < 2; i++) {
        const draw_case c = {"hires",
                             "sd1",
                             {"hires_scale", "1.5", "hires_upscaler", how[i], "hires_strength",
                              "0.6", "upscale", "2"},
                             0};
        limn_drawing *d = draw(e, &c);
        assert_int_equal(limn_image_width(limn_drawing_image(d, 0)), 192);
        assert_int_equal(limn_image_height(limn_drawing_image(d, 0)), 192);
        limn_drawing_free(&d);
    }
    limn_engine_free(&e);
}

/* Tiles are the same bits when one covers all; more of them stay near the whole picture. */
/* Tiles give the picture of the whole, decoded and encoded: within one step, where tiles with
 * statistics of their own were 10 steps away on average. */
static void test_tiles_have_no_seams(void **state) {
    (void)state;
    char init[64], mask[64];
    limn_engine *e = engine_new("2");
    write_pictures(init, mask, 160);
    for (int from = 0; from < 2; from++) {
        limn_drawing *d[3];
        static const char *const how[][2] = {{"off", "64"}, {"on", "256"}, {"on", "64"}};
        for (int i = 0; i < 3; i++) {
            const draw_case c = {"tiles",
                                 "sd1",
                                 {"width", "160", "height", "128", "vae_tiling", how[i][0],
                                  "vae_tile", how[i][1], from ? "init_image" : NULL, init},
                                 0};
            d[i] = draw(e, &c);
        }
        const limn_image *whole = limn_drawing_image(d[0], 0);
        assert_int_equal(columns_differ(whole, limn_drawing_image(d[1], 0), 0, 160, 0), 0);
        int n = columns_differ(whole, limn_drawing_image(d[2], 0), 0, 160, 1);
        if (n) fail_msg("%d samples of tiles differ from the whole (start picture %d)", n, from);
        for (int i = 0; i < 3; i++) limn_drawing_free(&d[i]);
    }
    unlink(init);
    unlink(mask);
    limn_engine_free(&e);
}

/* AND, BREAK, prompt editing and long prompts reach the network. */
static void test_prompt_syntax_changes_pictures(void **state) {
    (void)state;
    static const char *const prompts[] = {"a cat",
                                          "a (cat:1.5)",
                                          "a cat AND a dog :0.5",
                                          "a cat BREAK on a mat",
                                          "[a cat:a dog:0.5]",
                                          "a cat, a cat, a cat, a cat, a cat, a cat, a cat, a cat, "
                                          "a cat, a cat, a cat, a cat, a cat, a "
                                          "cat, a cat, a cat, a cat, a cat, a cat, a cat, a cat, a "
                                          "cat, a cat, a cat, a cat, a cat, a"};
    enum { N = sizeof prompts / sizeof prompts[0] };
    limn_engine *e = engine_new("2");
    limn_drawing *d[N];
    for (int i = 0; i < N; i++) {
        const draw_case c = {"prompt", "sd1", {"prompt", prompts[i], "emphasis", "original"}, 0};
        d[i] = draw(e, &c);
        for (int j = 0; j < i; j++)
            if (columns_differ(limn_drawing_image(d[i], 0), limn_drawing_image(d[j], 0), 0, 64,
                               0) == 0)
                fail_msg("'%s' and '%s' draw the same", prompts[i], prompts[j]);
    }
    for (int i = 0; i < N; i++) limn_drawing_free(&d[i]);
    limn_engine_free(&e);
}

/* A refiner that is the model itself changes nothing; another one changes the picture. */
/* Strengths may follow the steps; constant curves draw what plain numbers draw. */
static void test_lora_strength_over_the_steps(void **state) {
    (void)state;
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    static const char *const strengths[] = {"0", "0@0,0@1", "1", "1@0,1@1", "0@0,1@1"};
    limn_engine *e = engine_new("2");
    limn_drawing *d[5];
    for (int i = 0; i < 5; i++) {
        char prompt[1200];
        snprintf(prompt, sizeof prompt, "a fox <lora:%s/lora/kohya.safetensors:te=0:unet=%s>",
                 dir ? dir : "tests/golden", strengths[i]);
        const draw_case c = {"lora", "sd1", {"prompt", prompt, "emphasis", "a1111"}, 0};
        d[i] = draw(e, &c);
    }
    for (int i = 0; i < 5; i++) {
        int same = i == 1 ? 0 : i == 3 ? 2 : i;
        int n =
            columns_differ(limn_drawing_image(d[i], 0), limn_drawing_image(d[same], 0), 0, 64, 0);
        assert_int_equal(n, 0);
    }
    assert_true(columns_differ(limn_drawing_image(d[0], 0), limn_drawing_image(d[2], 0), 0, 64, 4));
    assert_true(columns_differ(limn_drawing_image(d[4], 0), limn_drawing_image(d[0], 0), 0, 64, 4));
    assert_true(columns_differ(limn_drawing_image(d[4], 0), limn_drawing_image(d[2], 0), 0, 64, 4));
    for (int i = 0; i < 5; i++) limn_drawing_free(&d[i]);
    limn_engine_free(&e);
}

static void test_refiner_takes_over(void **state) {
    (void)state;
    limn_err err = {0};
    char same[1024], other[1024];
    limn_engine *e = engine_new("2");
    const draw_case alone = {"alone", "sd1", {"sampler", "euler"}, 0};
    const draw_case itself = {"itself",
                              "sd1",
                              {"sampler", "euler", "refiner", golden_path(same, sizeof same, "sd1"),
                               "refiner_switch", "0.5"},
                              0};
    limn_drawing *a = draw(e, &alone), *b = draw(e, &itself), *d = NULL;
    assert_int_equal(columns_differ(limn_drawing_image(a, 0), limn_drawing_image(b, 0), 0, 64, 0),
                     0);
    limn_drawing_free(&b);
    const draw_case xl = {"xl",
                          "sd1",
                          {"sampler", "euler", "refiner", golden_path(other, sizeof other, "sdxl"),
                           "refiner_switch", "0.5"},
                          0};
    b = draw(e, &xl);
    assert_true(columns_differ(limn_drawing_image(a, 0), limn_drawing_image(b, 0), 0, 64, 2) > 0);
    limn_params *gen = request(&alone);
    set(gen, "refiner", "no-such-refiner");
    assert_int_equal(limn_draw(&d, e, gen, NULL, &err), LIMN_E_NOT_FOUND);
    limn_params_free(&gen);
    limn_drawing_free(&a);
    limn_drawing_free(&b);
    limn_engine_free(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_diffusers),
        cmocka_unit_test(test_start_pictures_against_diffusers),
        cmocka_unit_test(test_tiling_and_latent_fit_against_diffusers),
        cmocka_unit_test(test_a_model_recommends),
        cmocka_unit_test(test_threads_and_repeats_give_the_same_bits),
        cmocka_unit_test(test_recipe_draws_the_same_bits),
        cmocka_unit_test(test_bad_requests_say_what_is_wrong),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_inpainting_keeps_what_is_not_masked),
        cmocka_unit_test(test_strength_goes_from_keeping_to_forgetting),
        cmocka_unit_test(test_hires_and_upscale_sizes),
        cmocka_unit_test(test_tiles_have_no_seams),
        cmocka_unit_test(test_prompt_syntax_changes_pictures),
        cmocka_unit_test(test_lora_strength_over_the_steps),
        cmocka_unit_test(test_refiner_takes_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
