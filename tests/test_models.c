/* SPDX-License-Identifier: MIT */
/*
 * Every network against tensors of diffusers / transformers, in every file dialect, on every
 * backend. f32 must be within 1e-5 of the largest value (the bar is 1e-4). With LIMN_GOLDEN_PRINT
 * in the environment each error is printed: the tables of docs/PRECISION.md.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/canon.h"
#include "golden_net.h"
#include "models/autoencoder.h"
#include "models/clip_text.h"
#include "models/model_weights.h"
#include "models/unet.h"

/* The backends of all tests, and two that whole networks alone have bounds for. */
static const golden_backend more_backends[] = {
    {"avx512 fast", 2, "avx512", LIMN_PRECISION_FAST, 5e-3}, /* AVX2's where there is no more */
    {"native int8", 2, "native", LIMN_PRECISION_INT8, 0.2},
};
enum { BACKENDS = GOLDEN_BACKENDS + sizeof more_backends / sizeof more_backends[0] };

static const golden_backend *backend_at(int i) {
    return i < GOLDEN_BACKENDS ? &golden_backends[i] : &more_backends[i - GOLDEN_BACKENDS];
}

static void check(const char *what, const golden_backend *b, const float *y,
                  const limn_tensor *want) {
    double e = golden_error(y, want);
    if (getenv("LIMN_GOLDEN_PRINT")) printf("%-28s %-24s %.2g\n", what, b->name, e);
    if (!(e <= b->tolerance)) fail_msg("%s on %s: error %g > %g", what, b->name, e, b->tolerance);
}

/* ---- UNet ---- */
static void fill(limn_program *p, const char *input, const limn_tensor *t) {
    limn_shape s;
    float *dst = limn_program_input(p, input, &s);
    assert_non_null(dst);
    assert_int_equal(limn_shape_count(&s), limn_shape_count(&t->shape));
    if (t->shape.ndim == 4)
        to_nhwc(dst, t);
    else
        memcpy(dst, t->data, (size_t)limn_shape_count(&s) * sizeof *dst);
}

static void unet_case(const golden_backend *b, limn_backend *backend, limn_model_weights *mw,
                      const limn_unet_config *cfg, const limn_weights *io, const char *name) {
    limn_err err = {0};
    limn_graph *g = NULL;
    limn_program *p = NULL;
    char in[64];
    snprintf(in, sizeof in, "%s/in/", name);
    const limn_tensor *x = golden_get(io, in, "sample");
    const limn_tensor *ctx = golden_get(io, in, "encoder_hidden_states");
    GOLDEN_OK(limn_graph_new(&g, &err));
    limn_nn nn = {g, limn_model_weights_find, mw};
    limn_unet_request r = {x->shape.dim[0], x->shape.dim[2], x->shape.dim[3], ctx->shape.dim[1], 0};
    if (cfg->add_embed_dim) r.pooled_dim = (int)golden_get(io, in, "text_embeds")->shape.dim[1];
    limn_unet_build(&nn, cfg, &r);
    GOLDEN_OK(limn_program_new(&p, backend, &g, &err));
    fill(p, "sample", x);
    fill(p, "context", ctx);
    fill(p, "timestep", golden_get(io, in, "timestep"));
    if (cfg->add_embed_dim) {
        fill(p, "text_embeds", golden_get(io, in, "text_embeds"));
        fill(p, "time_ids", golden_get(io, in, "time_ids"));
    }
    GOLDEN_OK(limn_program_run(p, NULL, &err));
    char what[96], out[64];
    snprintf(what, sizeof what, "unet case %s", name);
    snprintf(out, sizeof out, "%s/out/sample", name);
    check(what, b, limn_program_output(p, "out", NULL), golden_get(io, out, ""));
    limn_program_free(&p);
}

static void unet_file(const char *file, const char *io_name, const char *config,
                      const char *prefix) {
    static const char *const cases[] = {"a", "odd", "tsteps", "wide", "tfrac"};
    limn_err err = {0};
    limn_unet_config cfg;
    limn_weights *w = golden_open(file), *io = golden_open(io_name), *set = NULL;
    char *json = config ? golden_text(config) : NULL;
    GOLDEN_OK(limn_canon_unet(&set, &cfg, w, prefix, json, &err));
    for (int i = 0; i < BACKENDS; i++) {
        limn_backend *backend = golden_backend_new(backend_at(i));
        limn_model_weights *mw = NULL;
        GOLDEN_OK(limn_model_weights_new(&mw, set, &err));
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
            if (limn_weights_findf(io, "%s/in/sample", cases[c]))
                unet_case(backend_at(i), backend, mw, &cfg, io, cases[c]);
        limn_backend_free(&backend);
        limn_model_weights_free(&mw);
    }
    free(json);
    limn_weights_unref(&set);
    limn_weights_unref(&w);
    limn_weights_unref(&io);
}

#define UNET_TEST(id, file, io, config, prefix)                                                    \
    static void test_unet_##id(void **state) {                                                     \
        (void)state;                                                                               \
        unet_file(file, io, config, prefix);                                                       \
    }
UNET_TEST(sd1, "unet/sd1.safetensors", "unet/sd1.io.safetensors", "unet/sd1.json", "")
UNET_TEST(sd2, "unet/sd2.orig.safetensors", "unet/sd2.io.safetensors", "unet/sd2.json",
          "model.diffusion_model.")
UNET_TEST(sdxl, "unet/sdxl.safetensors", "unet/sdxl.io.safetensors", "unet/sdxl.json", "")
UNET_TEST(refiner, "unet/sdxl_refiner.orig.safetensors", "unet/sdxl_refiner.io.safetensors",
          "unet/sdxl_refiner.json", "model.diffusion_model.")
UNET_TEST(ssd1b, "unet/ssd1b.orig.safetensors", "unet/ssd1b.io.safetensors", "unet/ssd1b.json",
          "model.diffusion_model.")
UNET_TEST(inpaint, "unet/sd1_inpaint.safetensors", "unet/sd1_inpaint.io.safetensors",
          "unet/sd1_inpaint.json", "")
UNET_TEST(ip2p, "unet/sd1_ip2p.orig.safetensors", "unet/sd1_ip2p.io.safetensors",
          "unet/sd1_ip2p.json", "model.diffusion_model.")

/* ---- text encoders ---- */
static void clip_run(const golden_backend *b, limn_model_weights *mw, const limn_clip_config *cfg,
                     const limn_weights *io) {
    limn_err err = {0};
    limn_backend *backend = golden_backend_new(b);
    const limn_tensor *ids = golden_get(io, "in/", "input_ids");
    const int32_t *id = ids->data;
    int64_t n = ids->shape.dim[0], len = ids->shape.dim[1];
    for (int skip = 0; skip <= cfg->layers; skip++) {
        limn_graph *g = NULL;
        limn_program *p = NULL;
        GOLDEN_OK(limn_graph_new(&g, &err));
        limn_nn nn = {g, limn_model_weights_find, mw};
        limn_clip_request r = {n, len, skip, skip == 0, true};
        limn_clip_build(&nn, cfg, &r);
        GOLDEN_OK(limn_program_new(&p, backend, &g, &err));
        float *e = limn_program_input(p, "embeds", NULL);
        int32_t *end = limn_program_input(p, "end", NULL);
        GOLDEN_OK(limn_clip_embed(e, &nn, cfg, id, len, NULL, 0, &err));
        GOLDEN_OK(limn_clip_embed(e + len * cfg->width, &nn, cfg, id + len, len, NULL, 0, &err));
        for (int64_t i = 0; i < n; i++)
            for (end[i] = 0; end[i] < len && id[i * len + end[i]] != 999;) end[i]++;
        GOLDEN_OK(limn_program_run(p, NULL, &err));
        char name[64];
        snprintf(name, sizeof name, "out/hidden_states.%d", cfg->layers - skip);
        const char *hidden = skip == 0 ? "out/last_hidden_state" : name;
        check(hidden, b, limn_program_output(p, "hidden", NULL), golden_get(io, hidden, ""));
        const char *pooled = cfg->projection ? "out/text_embeds" : "out/pooled";
        check(pooled, b, limn_program_output(p, "pooled", NULL), golden_get(io, pooled, ""));
        limn_program_free(&p);
    }
    limn_backend_free(&backend);
}

static void clip_file(const char *file, const char *io_name, const char *config,
                      const char *prefix) {
    limn_err err = {0};
    limn_clip_config cfg;
    limn_weights *w = golden_open(file), *io = golden_open(io_name), *set = NULL;
    char *json = config ? golden_text(config) : NULL;
    GOLDEN_OK(limn_canon_clip(&set, &cfg, w, prefix, json, &err));
    if (!json) cfg.heads = 3; /* the tiny file's own; real ones have 64 wide heads */
    for (int i = 0; i < BACKENDS; i++) {
        limn_model_weights *mw = NULL;
        GOLDEN_OK(limn_model_weights_new(&mw, set, &err));
        clip_run(backend_at(i), mw, &cfg, io);
        limn_model_weights_free(&mw);
    }
    free(json);
    limn_weights_unref(&set);
    limn_weights_unref(&w);
    limn_weights_unref(&io);
}

static void test_clip_l(void **state) {
    (void)state;
    clip_file("clip/clip_l.safetensors", "clip/clip_l.io.safetensors", "clip/clip_l.json", "");
}
static void test_clip_h(void **state) {
    (void)state;
    clip_file("clip/clip_h.safetensors", "clip/clip_h.io.safetensors", "clip/clip_h.json", "");
}
static void test_clip_h_openclip(void **state) {
    (void)state;
    clip_file("clip/clip_h.openclip.safetensors", "clip/clip_h.io.safetensors", NULL,
              "cond_stage_model.");
}
static void test_clip_g(void **state) {
    (void)state;
    clip_file("clip/clip_g.safetensors", "clip/clip_g.io.safetensors", "clip/clip_g.json", "");
}

/* ---- autoencoders ---- */
typedef void vae_builder(const limn_nn *nn, const void *cfg, const limn_vae_request *r);

static void build_vae_enc(const limn_nn *nn, const void *c, const limn_vae_request *r) {
    limn_vae_build_encoder(nn, c, r);
}
static void build_vae_dec(const limn_nn *nn, const void *c, const limn_vae_request *r) {
    limn_vae_build_decoder(nn, c, r);
}
static void build_tiny_enc(const limn_nn *nn, const void *c, const limn_vae_request *r) {
    limn_taesd_build_encoder(nn, c, r);
}
static void build_tiny_dec(const limn_nn *nn, const void *c, const limn_vae_request *r) {
    limn_taesd_build_decoder(nn, c, r);
}

typedef struct vae_half {
    vae_builder *build;
    const char *in, *in_name, *out, *out_name; /* fixture and graph names */
} vae_half;

static void vae_run(const limn_weights *set, const void *cfg, const vae_half *h,
                    const limn_weights *io) {
    static const char *const cases[] = {"a", "odd"};
    limn_err err = {0};
    for (int i = 0; i < BACKENDS; i++) {
        limn_backend *backend = golden_backend_new(backend_at(i));
        limn_model_weights *mw = NULL;
        GOLDEN_OK(limn_model_weights_new(&mw, set, &err));
        for (int c = 0; c < 2; c++) {
            const limn_tensor *x = limn_weights_findf(io, "%s/%s", cases[c], h->in);
            const limn_tensor *want = limn_weights_findf(io, "%s/%s", cases[c], h->out);
            if (!x || !want) continue;
            limn_graph *g = NULL;
            limn_program *p = NULL;
            GOLDEN_OK(limn_graph_new(&g, &err));
            limn_nn nn = {g, limn_model_weights_find, mw};
            limn_vae_request r = {x->shape.dim[0], x->shape.dim[2], x->shape.dim[3]};
            h->build(&nn, cfg, &r);
            GOLDEN_OK(limn_program_new(&p, backend, &g, &err));
            fill(p, h->in_name, x);
            GOLDEN_OK(limn_program_run(p, NULL, &err));
            check(h->out, backend_at(i), limn_program_output(p, h->out_name, NULL), want);
            limn_program_free(&p);
        }
        limn_backend_free(&backend);
        limn_model_weights_free(&mw);
    }
}

static const vae_half kl_enc = {build_vae_enc, "enc/in/image", "image", "enc/out/moments",
                                "moments"};
static const vae_half kl_dec = {build_vae_dec, "dec/in/latent", "latent", "dec/out/image", "image"};
static const vae_half tiny_enc = {build_tiny_enc, "enc/in/image", "image", "enc/out/latent",
                                  "latent"};
static const vae_half tiny_dec = {build_tiny_dec, "dec/in/latent", "latent", "dec/out/image",
                                  "image"};

static void vae_file(const char *file, const char *io_name, const char *config) {
    limn_err err = {0};
    limn_vae_config cfg;
    limn_weights *w = golden_open(file), *io = golden_open(io_name), *set = NULL;
    char *json = golden_text(config);
    assert_non_null(json);
    GOLDEN_OK(limn_canon_vae(&set, &cfg, w, "", json, &err));
    vae_run(set, &cfg, &kl_enc, io);
    vae_run(set, &cfg, &kl_dec, io);
    free(json);
    limn_weights_unref(&set);
    limn_weights_unref(&w);
    limn_weights_unref(&io);
}

static void test_vae_sd(void **state) {
    (void)state;
    vae_file("vae/kl_sd.safetensors", "vae/kl_sd.io.safetensors", "vae/kl_sd.json");
}
static void test_vae_16ch(void **state) {
    (void)state;
    vae_file("vae/kl_16ch.orig.safetensors", "vae/kl_16ch.io.safetensors", "vae/kl_16ch.json");
}

static void taesd_file(const char *file, const char *config, bool enc, bool dec) {
    limn_err err = {0};
    limn_taesd_config cfg;
    limn_weights *w = golden_open(file), *io = golden_open("vae/taesd.io.safetensors"), *set = NULL;
    char *json = config ? golden_text(config) : NULL;
    GOLDEN_OK(limn_canon_taesd(&set, &cfg, w, "", json, &err));
    assert_int_equal(cfg.has_encoder, enc);
    assert_int_equal(cfg.has_decoder, dec);
    if (enc) vae_run(set, &cfg, &tiny_enc, io);
    if (dec) vae_run(set, &cfg, &tiny_dec, io);
    free(json);
    limn_weights_unref(&set);
    limn_weights_unref(&w);
    limn_weights_unref(&io);
}

static void test_taesd(void **state) {
    (void)state;
    taesd_file("vae/taesd.safetensors", "vae/taesd.json", true, true);
    taesd_file("vae/taesd_encoder.safetensors", NULL, true, false);
    taesd_file("vae/taesd_decoder.safetensors", NULL, false, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unet_sd1),   cmocka_unit_test(test_unet_sd2),
        cmocka_unit_test(test_unet_sdxl),  cmocka_unit_test(test_unet_refiner),
        cmocka_unit_test(test_unet_ssd1b), cmocka_unit_test(test_unet_inpaint),
        cmocka_unit_test(test_unet_ip2p),  cmocka_unit_test(test_clip_l),
        cmocka_unit_test(test_clip_h),     cmocka_unit_test(test_clip_h_openclip),
        cmocka_unit_test(test_clip_g),     cmocka_unit_test(test_vae_sd),
        cmocka_unit_test(test_vae_16ch),   cmocka_unit_test(test_taesd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
