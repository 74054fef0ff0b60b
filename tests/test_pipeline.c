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
 * diffusers ends DDIM at the noise of timestep 0 (set_alpha_to_one false), limn at none, as
 * ComfyUI: 2/255 on these random networks. Left out: UniPC (diffusers' leading spacing for it
 * counts one step more; tests/test_solver.c has its traces) and clip_skip (diffusers does not apply
 * it to the negative prompt).
 */
static const draw_case cases[] = {
    {"sd1_ddim", "sd1", {"sampler", "ddim", "schedule", "ddim_uniform"}, 2},
    {"sd1_euler", "sd1", {"sampler", "euler", "schedule", "ddim_uniform"}, 1},
    {"sd1_euler_a", "sd1", {"sampler", "euler_a", "schedule", "ddim_uniform"}, 1},
    {"sd1_dpmpp_2m_karras", "sd1", {"sampler", "DPM++ 2M", "schedule", "karras"}, 1},
    {"sd1_pndm", "sd1", {"sampler", "plms", "schedule", "ddim_uniform"}, 1},
    {"sd1_odd",
     "sd1",
     {"sampler", "ddim", "schedule", "ddim_uniform", "width", "88", "height", "72"},
     1},
    {"sd1_rescale",
     "sd1",
     {"sampler", "ddim", "schedule", "ddim_uniform", "cfg_rescale", "0.7"},
     2},
    {"sd1_nocfg", "sd1", {"sampler", "ddim", "schedule", "ddim_uniform", "cfg_scale", "1"}, 2},
    {"sd1_batch",
     "sd1",
     {"sampler", "euler_a", "schedule", "ddim_uniform", "batch_size", "2", "seed", "1"},
     1},
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
    expect(e, &bad[1], LIMN_E_VALUE, "did you mean euler");
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_diffusers),
        cmocka_unit_test(test_threads_and_repeats_give_the_same_bits),
        cmocka_unit_test(test_recipe_draws_the_same_bits),
        cmocka_unit_test(test_bad_requests_say_what_is_wrong),
        cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
