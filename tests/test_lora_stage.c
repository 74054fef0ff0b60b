/* SPDX-License-Identifier: MIT */
/*
 * Adapters through the whole engine: every dialect applied while weights are packed gives the
 * outputs of the merged networks, on the UNet and on the text encoder, at full and part strength;
 * taking them off gives the first bits back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "golden_net.h"
#include "pipeline/lora_stage.h"

typedef struct stage {
    limn_engine *engine;
    limn_params *gen;
    limn_checkpoint *ckpt; /* the engine's */
    limn_backend *backend;
    limn_weights *unet_io, *clip_io, *want;
} stage;

static const char *golden(char *buf, size_t size, const char *name) {
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    snprintf(buf, size, "%s/%s", dir ? dir : "tests/golden", name);
    return buf;
}

static int setup(void **state) {
    limn_err err = {0};
    char path[1024], note[256];
    stage *s = calloc(1, sizeof *s);
    limn_params *app = NULL;
    GOLDEN_OK(limn_params_new(&app, LIMN_PARAMS_APP, &err));
    GOLDEN_OK(limn_engine_new(&s->engine, app, &err));
    limn_params_free(&app);
    GOLDEN_OK(limn_params_new(&s->gen, LIMN_PARAMS_GEN, &err));
    GOLDEN_OK(limn_params_set(s->gen, "model", golden(path, sizeof path, "pipe/sd1"), LIMN_FROM_API,
                              &err));
    GOLDEN_OK(limn_engine_backend(&s->backend, s->engine, LIMN_GEN_PRECISION_EXACT, &err));
    GOLDEN_OK(limn_engine_checkpoint(&s->ckpt, s->engine, limn_gen_of(s->gen), note, &err));
    s->unet_io = golden_open("unet/sd1.io.safetensors");
    s->clip_io = golden_open("clip/clip_l.io.safetensors");
    s->want = golden_open("lora/lora.io.safetensors");
    *state = s;
    return 0;
}

static int teardown(void **state) {
    stage *s = *state;
    limn_weights_unref(&s->unet_io);
    limn_weights_unref(&s->clip_io);
    limn_weights_unref(&s->want);
    limn_params_free(&s->gen);
    limn_engine_free(&s->engine);
    free(s);
    return 0;
}

static void fill(limn_program *p, const char *input, const limn_tensor *t) {
    limn_shape shape;
    float *dst = limn_program_input(p, input, &shape);
    if (t->shape.ndim == 4)
        to_nhwc(dst, t);
    else
        memcpy(dst, t->data, (size_t)limn_shape_count(&shape) * sizeof *dst);
}

static double unet_error(stage *s, const limn_tensor *want, float *copy) {
    limn_err err = {0};
    limn_graph *g = NULL;
    limn_program *p = NULL;
    const limn_tensor *x = golden_get(s->unet_io, "a/in/", "sample");
    const limn_tensor *ctx = golden_get(s->unet_io, "a/in/", "encoder_hidden_states");
    GOLDEN_OK(limn_graph_new(&g, &err));
    limn_nn nn = {g, limn_model_weights_find, s->ckpt->unet};
    limn_unet_request r = {x->shape.dim[0], x->shape.dim[2], x->shape.dim[3], ctx->shape.dim[1], 0};
    limn_unet_build(&nn, &s->ckpt->unet_cfg, &r);
    GOLDEN_OK(limn_program_new(&p, s->backend, &g, &err));
    fill(p, "sample", x);
    fill(p, "context", ctx);
    fill(p, "timestep", golden_get(s->unet_io, "a/in/", "timestep"));
    GOLDEN_OK(limn_program_run(p, NULL, &err));
    const float *y = limn_program_output(p, "out", NULL);
    double e = golden_error(y, want);
    if (copy) memcpy(copy, y, (size_t)limn_shape_count(&want->shape) * sizeof *y);
    limn_program_free(&p);
    return e;
}

static double text_error(stage *s, const limn_tensor *want) {
    limn_err err = {0};
    limn_graph *g = NULL;
    limn_program *p = NULL;
    limn_text_encoder *te = &s->ckpt->text[0];
    const limn_tensor *ids = golden_get(s->clip_io, "in/", "input_ids");
    GOLDEN_OK(limn_graph_new(&g, &err));
    limn_nn nn = {g, limn_model_weights_find, te->weights};
    limn_clip_request r = {1, 77, 0, true, false};
    limn_clip_build(&nn, &te->cfg, &r);
    GOLDEN_OK(limn_program_new(&p, s->backend, &g, &err));
    float *x = limn_program_input(p, "embeds", NULL);
    GOLDEN_OK(limn_clip_embed(x, &nn, &te->cfg, ids->data, 77, NULL, 0, &err));
    GOLDEN_OK(limn_program_run(p, NULL, &err));
    double e = golden_error(limn_program_output(p, "hidden", NULL), want);
    limn_program_free(&p);
    return e;
}

/* `prompt_text` may name nets as well. */
static limn_status apply(stage *s, const char *lora, const char *prompt_text, limn_err *err) {
    limn_prompt *prompt = NULL;
    limn_prompt_options opt = {.steps = 5};
    limn_status st = limn_params_unset(s->gen, "loras", err);
    if (st == LIMN_OK && lora) st = limn_params_set(s->gen, "loras", lora, LIMN_FROM_API, err);
    if (st == LIMN_OK) st = limn_prompt_parse(&prompt, prompt_text, strlen(prompt_text), &opt, err);
    if (st == LIMN_OK)
        st = limn_lora_stage_apply(s->engine, s->ckpt, limn_gen_of(s->gen), prompt, 5, err);
    limn_prompt_free(&prompt);
    return st;
}

static void test_every_dialect(void **state) {
    static const char *const files[] = {"kohya", "locon", "peft",      "diffusers_old", "loha",
                                        "lokr",  "dora",  "dora_peft", "full"};
    stage *s = *state;
    limn_err err = {0};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        for (int part = 0; part < 2; part++) {
            char name[64], path[1024], value[1100];
            const char *at = part ? "0.6_0.3" : "1";
            snprintf(name, sizeof name, "lora/%s.safetensors", files[i]);
            snprintf(value, sizeof value, "%s%s", golden(path, sizeof path, name),
                     part ? ":0.6:0.3" : "");
            if (apply(s, value, "a", &err) != LIMN_OK) fail_msg("%s: %s", files[i], err.text);
            double e = unet_error(s, limn_weights_findf(s->want, "%s/%s/unet", files[i], at), NULL);
            if (!(e <= 1e-4)) fail_msg("%s at %s: UNet differs by %g", files[i], at, e);
            const limn_tensor *text = limn_weights_findf(s->want, "%s/%s/text", files[i], at);
            e = text ? text_error(s, text) : 0;
            if (!(e <= 1e-4)) fail_msg("%s at %s: text differs by %g", files[i], at, e);
        }
}

static void test_taken_off_again(void **state) {
    stage *s = *state;
    limn_err err = {0};
    char path[1024], net[1200];
    float before[4096], after[4096];
    const limn_tensor *plain = golden_get(s->unet_io, "a/out/", "sample");
    assert_true(limn_shape_count(&plain->shape) <= 4096);
    GOLDEN_OK(apply(s, NULL, "a", &err));
    assert_true(unet_error(s, plain, before) <= 1e-5);
    snprintf(net, sizeof net, "a <lora:%s:1>", golden(path, sizeof path, "lora/kohya.safetensors"));
    GOLDEN_OK(apply(s, NULL, net, &err));
    assert_true(unet_error(s, golden_get(s->want, "kohya/1/", "unet"), after) <= 1e-4);
    assert_memory_not_equal(before, after, (size_t)limn_shape_count(&plain->shape) * sizeof *after);
    GOLDEN_OK(apply(s, NULL, "a", &err));
    unet_error(s, plain, after);
    assert_memory_equal(before, after, (size_t)limn_shape_count(&plain->shape) * sizeof *after);
}

/* <lora:a:0@0,1@0.5>: nothing at the first step, whole from the middle on. */
static void test_strength_over_the_steps(void **state) {
    stage *s = *state;
    limn_err err = {0};
    char path[1024], net[1200];
    limn_prompt *prompt = NULL;
    limn_prompt_options opt = {.steps = 5};
    bool changed;
    const limn_tensor *plain = golden_get(s->unet_io, "a/out/", "sample");
    const limn_tensor *whole = golden_get(s->want, "kohya/1/", "unet");
    const limn_gen *gen = limn_gen_of(s->gen);
    golden(path, sizeof path, "lora/kohya.safetensors");
    snprintf(net, sizeof net, "a <lora:%s:0@0,1@0.5>", path);
    GOLDEN_OK(limn_prompt_parse(&prompt, net, strlen(net), &opt, &err));
    GOLDEN_OK(limn_lora_stage_apply(s->engine, s->ckpt, gen, prompt, 5, &err));
    assert_true(unet_error(s, plain, NULL) <= 1e-5);
    static const bool changes[] = {false, true, true, false, false};
    for (int i = 0; i < 5; i++) {
        GOLDEN_OK(limn_lora_stage_step(&changed, s->ckpt, gen, prompt, i, 5, &err));
        assert_int_equal(changed, changes[i]);
        double to_plain = unet_error(s, plain, NULL), to_whole = unet_error(s, whole, NULL);
        assert_true(i == 0 ? to_plain <= 1e-5 : to_plain > 1e-3);
        assert_true(i >= 2 ? to_whole <= 1e-4 : to_whole > 1e-3);
    }
    limn_prompt_free(&prompt);
}

static void test_refusals(void **state) {
    stage *s = *state;
    limn_err err = {0};
    char path[1024];
    golden(path, sizeof path, "clip/clip_l.safetensors"); /* no adapter at all */
    assert_int_not_equal(apply(s, path, "a", &err), LIMN_OK);
    assert_true(err.text[0] != 0);
    assert_int_equal(apply(s, NULL, "<hypernet:x:1>", &err), LIMN_E_UNSUPPORTED);
    assert_int_equal(apply(s, NULL, "<lora:missing:1>", &err), LIMN_E_NOT_FOUND);
    GOLDEN_OK(apply(s, NULL, "a", &err));
    assert_true(unet_error(s, golden_get(s->unet_io, "a/out/", "sample"), NULL) <= 1e-5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_dialect, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taken_off_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strength_over_the_steps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
