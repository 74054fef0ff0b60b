/* SPDX-License-Identifier: MIT */
/*
 * Qwen3-VL and the text decoders against transformers, on every backend: host tables, every stage
 * of the vision tower, every layer of the decoder, logits, 32 greedy tokens with and without a
 * cache. The mutation tests break one rule at a time in what is given to the graphs and demand that
 * the comparison notices.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>

#include "pipeline/generate.h"
#include "qwen3vl_test.h"

static void test_stages(void **state) {
    (void)state;
    model m;
    limn_weights *io = golden_open("qwen3vl/vl.io.safetensors");
    model_open(&m, "qwen3vl/vl.safetensors", "qwen3vl/vl.json");
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        const golden_backend *b = &golden_backends[i];
        limn_backend *backend = golden_backend_new(b);
        for (int c = 0; c < N_CASES; c++) {
            prompt pr = prompt_make(&m, backend, b, io, cases[c], RIGHT);
            whole_compare(&m, backend, b, io, cases[c], &pr);
            prompt_free(&pr);
        }
        limn_backend_free(&backend);
    }
    model_close(&m);
    limn_weights_unref(&io);
}

/* 32 tokens from f32 caches on exact backends, prefilled whole and in chunks that cut pictures;
 * the logits of the last step equal those of one uncached run over everything. */
static void test_greedy(void **state) {
    (void)state;
    model m;
    limn_err err = {0};
    limn_weights *io = golden_open("qwen3vl/vl.io.safetensors");
    model_open(&m, "qwen3vl/vl.safetensors", "qwen3vl/vl.json");
    const limn_decoder_config *cfg = &m.cfg.text;
    float *last = malloc((size_t)cfg->vocab * sizeof *last);
    for (int i = 0; i < 4; i++) {
        limn_backend *backend = golden_backend_new(&golden_backends[i]);
        for (int c = 0; c < N_CASES; c++)
            for (int64_t chunk = 7; chunk <= 64; chunk += 57) {
                int32_t tokens[TOKENS];
                prompt pr = prompt_make(&m, backend, NULL, io, cases[c], RIGHT);
                generate(tokens, last, cfg, m.text_weights, backend, &pr, LIMN_F32, chunk);
                assert_memory_equal(tokens, part(io, cases[c], "tokens")->data, sizeof tokens);
                limn_decoder_request r = {
                    .batch = 1, .len = pr.n, .deepstack = true, .head = LIMN_HEAD_LAST};
                limn_program *p = decoder_program(cfg, m.text_weights, backend, &r);
                chunk_fill(p, cfg, &pr, 0, pr.n, 0, pr.n);
                GOLDEN_OK(limn_program_run(p, NULL, &err));
                limn_tensor t = {.shape = LIMN_SHAPE(1, cfg->vocab), .data = last};
                double e = golden_error(limn_program_output(p, "logits", NULL), &t);
                if (!(e <= 1e-5)) fail_msg("%s: cached and whole differ by %g", cases[c], e);
                limn_program_free(&p);
                prompt_free(&pr);
            }
        limn_backend_free(&backend);
    }
    free(last);
    model_close(&m);
    limn_weights_unref(&io);
}

/* The same tokens through the reader, which puts pictures in their places itself; a chunk of 8 cuts
 * them. */
static void test_reader_sees(void **state) {
    (void)state;
    model m;
    limn_err err = {0};
    limn_weights *io = golden_open("qwen3vl/vl.io.safetensors");
    model_open(&m, "qwen3vl/vl.safetensors", "qwen3vl/vl.json");
    const limn_decoder_config *cfg = &m.cfg.text;
    limn_backend *backend = golden_backend_new(&golden_backends[2]);
    limn_reader *r = NULL;
    limn_reader_options o = {.context = 128, .sequences = 1, .chunk = 8, .cache = LIMN_F32};
    GOLDEN_OK(limn_reader_new(&r, backend, m.text_weights, cfg, &o, &err));
    for (int c = 0; c < N_CASES; c++) {
        limn_vision_place places[16];
        limn_reader_picture pictures[16] = {{0}};
        encoded e[MEDIA] = {{0}};
        const limn_tensor *ids = part(io, cases[c], "ids");
        size_t n = places_of(places, &m, io, cases[c]), at = 0;
        for (int i = 0; i < MEDIA && medium(io, cases[c], i, "grid"); i++) {
            const int32_t *grid = medium(io, cases[c], i, "grid")->data;
            e[i] = encode(&m, backend, NULL, io, cases[c], i, 0, RIGHT);
            for (int t = 0; t < grid[1]; t++, at++) {
                int64_t skip = e[i].rows / grid[1] * t * cfg->width;
                pictures[at].merged = e[i].merged + skip;
                for (int k = 0; k < DEEP; k++) pictures[at].deepstack[k] = e[i].deep[k] + skip;
            }
        }
        limn_reader_text text = {ids->data, ids->shape.dim[0], places, pictures, n};
        limn_generate_request q = {.prompt = &text, .max_tokens = TOKENS};
        limn_generate_result out;
        limn_generate_result_init(&out);
        limn_reader_set_mark(r, 0, (limn_reader_mark){0, 0});
        GOLDEN_OK(limn_generate(&out, r, &q, &err));
        assert_memory_equal(out.ids.data, part(io, cases[c], "tokens")->data,
                            TOKENS * sizeof(int32_t));
        int32_t delta;
        memcpy(&delta, part(io, cases[c], "delta")->data, 4);
        limn_reader_mark mark = limn_reader_get_mark(r, 0);
        assert_int_equal(mark.length, text.n + TOKENS - 1);
        assert_int_equal(mark.position, mark.length + delta); /* rope and cache rows differ */
        limn_generate_result_deinit(&out);
        if (n > 0) { /* a picture whose inner rows are missing is refused, not read without them */
            const float *logits;
            pictures[0].deepstack[1] = NULL;
            assert_int_equal(limn_reader_read(r, 0, &text, &logits, NULL, &err), LIMN_E_VALUE);
        }
        for (int i = 0; i < MEDIA; i++) encoded_free(&e[i]);
    }
    limn_reader_free(&r);
    limn_backend_free(&backend);
    model_close(&m);
    limn_weights_unref(&io);
}

/* Narrow caches and the fast precision stay near: first-step logits of every case. */
static void test_narrow_caches(void **state) {
    (void)state;
    static const struct {
        limn_dtype type;
        double tolerance;
    } rows[] = {{LIMN_F16, 1e-3}, {LIMN_BF16, 2e-2}, {LIMN_Q8_0, 4e-2}};
    model m;
    limn_weights *io = golden_open("qwen3vl/vl.io.safetensors");
    model_open(&m, "qwen3vl/vl.safetensors", "qwen3vl/vl.json");
    const limn_decoder_config *cfg = &m.cfg.text;
    limn_backend *backend = golden_backend_new(&golden_backends[2]);
    for (size_t t = 0; t < sizeof rows / sizeof rows[0]; t++)
        for (int c = 0; c < N_CASES; c++) {
            limn_err err = {0};
            limn_kv_cache *cache = NULL;
            prompt pr = prompt_make(&m, backend, NULL, io, cases[c], RIGHT);
            GOLDEN_OK(limn_kv_cache_new(&cache, cfg, rows[t].type, 1, 64, &err));
            limn_decoder_request r = {.batch = 1,
                                      .len = 8,
                                      .rows = 64,
                                      .cache = rows[t].type,
                                      .deepstack = true,
                                      .head = LIMN_HEAD_LAST};
            limn_program *p = decoder_program(cfg, m.text_weights, backend, &r);
            GOLDEN_OK(limn_kv_cache_bind(cache, p, 0, &err));
            for (int64_t at = 0; at < pr.n; at += 8) {
                chunk_fill(p, cfg, &pr, at, pr.n - at < 8 ? pr.n - at : 8, 0, 8);
                GOLDEN_OK(limn_program_run(p, NULL, &err));
            }
            const limn_tensor *want = part(io, cases[c], "logits");
            compare(limn_dtype_get(rows[t].type)->name, &golden_backends[2],
                    limn_program_output(p, "logits", NULL), want, want->shape.dim[0] - 1, 1,
                    rows[t].tolerance);
            limn_program_free(&p);
            limn_kv_cache_free(&cache);
            prompt_free(&pr);
        }
    limn_backend_free(&backend);
    model_close(&m);
    limn_weights_unref(&io);
}

/* Two texts with different pictures side by side, then a third that shares a beginning. */
static void test_sequences_together(void **state) {
    (void)state;
    model m;
    limn_err err = {0};
    enum { ROWS = 64, LEN = 40 };
    limn_weights *io = golden_open("qwen3vl/vl.io.safetensors");
    model_open(&m, "qwen3vl/vl.safetensors", "qwen3vl/vl.json");
    const limn_decoder_config *cfg = &m.cfg.text;
    limn_backend *backend = golden_backend_new(&golden_backends[2]);
    limn_kv_cache *cache = NULL;
    GOLDEN_OK(limn_kv_cache_new(&cache, cfg, LIMN_F32, 3, ROWS, &err));
    limn_decoder_request r = {.batch = 2,
                              .len = LEN,
                              .rows = ROWS,
                              .cache = LIMN_F32,
                              .deepstack = true,
                              .head = LIMN_HEAD_LAST};
    limn_program *p = decoder_program(cfg, m.text_weights, backend, &r);
    static const char *const names[] = {"two", "mixed"};
    prompt pr[2];
    assert_int_equal(limn_kv_cache_bind(cache, p, 2, &err), LIMN_E_INTERNAL); /* past the end */
    GOLDEN_OK(limn_kv_cache_bind(cache, p, 0, &err));
    for (int b = 0; b < 2; b++) {
        pr[b] = prompt_make(&m, backend, NULL, io, names[b], RIGHT);
        chunk_fill(p, cfg, &pr[b], 0, pr[b].n, b, LEN);
    }
    GOLDEN_OK(limn_program_run(p, NULL, &err));
    for (int b = 0; b < 2; b++)
        compare(names[b], &golden_backends[2],
                limn_program_output(p, "logits", NULL) + b * cfg->vocab,
                part(io, names[b], "logits"), 0, 1, 1e-4);
    limn_program_free(&p);
    /* sequence 2 takes all but the last token of "mixed" from sequence 1 */
    limn_kv_cache_copy(cache, 2, 1, pr[1].n - 1);
    r.batch = r.len = 1;
    p = decoder_program(cfg, m.text_weights, backend, &r);
    GOLDEN_OK(limn_kv_cache_bind(cache, p, 2, &err));
    chunk_fill(p, cfg, &pr[1], pr[1].n - 1, 1, 0, 1);
    GOLDEN_OK(limn_program_run(p, NULL, &err));
    compare("a copied beginning", &golden_backends[2], limn_program_output(p, "logits", NULL),
            part(io, "mixed", "logits"), 0, 1, 1e-4);
    limn_program_free(&p);
    for (int b = 0; b < 2; b++) prompt_free(&pr[b]);
    limn_kv_cache_free(&cache);
    limn_backend_free(&backend);
    model_close(&m);
    limn_weights_unref(&io);
}

/* ---- host ---- */
static void test_positions_are_exact(void **state) {
    (void)state;
    model m;
    limn_err err = {0};
    limn_weights *io = golden_open("qwen3vl/vl.io.safetensors");
    model_open(&m, "qwen3vl/vl.safetensors", "qwen3vl/vl.json");
    for (int c = 0; c < N_CASES; c++) {
        limn_vision_place places[16];
        int64_t n = part(io, cases[c], "ids")->shape.dim[0];
        size_t count = places_of(places, &m, io, cases[c]);
        int32_t pos[3 * 128], next, delta;
        assert_true(n <= 128);
        GOLDEN_OK(limn_vision_text_positions(pos, n, places, count, 0, &next, &err));
        assert_memory_equal(pos, part(io, cases[c], "position_ids")->data, (size_t)n * 12);
        memcpy(&delta, part(io, cases[c], "delta")->data, 4);
        assert_int_equal(next - n, delta);
        /* a later turn begins where this one ended */
        GOLDEN_OK(limn_vision_text_positions(pos, n, places, count, 1000, &next, &err));
        assert_int_equal(next - n, delta + 1000);
    }
    int32_t pos[30], next;
    limn_vision_place bad[] = {{8, 2, 2}}, over[] = {{1, 2, 2}, {3, 1, 1}};
    assert_int_equal(limn_vision_text_positions(pos, 10, bad, 1, 0, &next, &err), LIMN_E_VALUE);
    assert_int_equal(limn_vision_text_positions(pos, 10, over, 2, 0, &next, &err), LIMN_E_VALUE);
    model_close(&m);
    limn_weights_unref(&io);
}

static int64_t at(json_t *row, size_t i) {
    return json_integer_value(json_array_get(row, i));
}

static void sizes_check(json_t *row, bool video) {
    limn_err err = {0};
    int h = 0, w = 0;
    size_t k = video ? 1 : 0;
    limn_pixel_limits limits = {at(row, k + 2), at(row, k + 3)};
    limn_status st =
        video ? limn_vision_fit_video(&h, &w, (int)at(row, 0), (int)at(row, 1), (int)at(row, 2), 32,
                                      &limits, at(row, 5) != 0, &err)
              : limn_vision_fit(&h, &w, (int)at(row, 0), (int)at(row, 1), 32, &limits, &err);
    size_t to = video ? 6 : 4;
    if (at(row, to) == 0) {
        assert_int_equal(st, LIMN_E_VALUE);
        return;
    }
    assert_int_equal(st, LIMN_OK);
    if (h != at(row, to) || w != at(row, to + 1))
        fail_msg("%lld x %lld became %d x %d, not %lld x %lld", (long long)at(row, k),
                 (long long)at(row, k + 1), h, w, (long long)at(row, to),
                 (long long)at(row, to + 1));
}

static void test_preprocessing(void **state) {
    (void)state;
    char *text = golden_text("qwen3vl/preprocess.json");
    json_t *root = json_loads(text, 0, NULL), *row;
    size_t i;
    assert_non_null(root);
    assert_true(json_array_size(json_object_get(root, "images")) > 100);
    json_array_foreach(json_object_get(root, "images"), i, row) sizes_check(row, false);
    json_array_foreach(json_object_get(root, "videos"), i, row) sizes_check(row, true);
    json_decref(root);
    free(text);
}

static void test_patches(void **state) {
    (void)state;
    limn_weights *io = golden_open("qwen3vl/patches.safetensors");
    limn_vision_config v = {.patch = 16, .merge = 2, .temporal = 2, .channels = 3};
    const limn_tensor *px = golden_get(io, "pixels", ""), *want = golden_get(io, "patches", "");
    int64_t n = limn_shape_count(&want->shape);
    float *y = malloc((size_t)n * sizeof *y);
    limn_vision_patchify(y, px->data, px->data, 4, 6, &v);
    for (int64_t i = 0; i < n; i++) /* the reference scales and shifts in another order */
        if (!(fabsf(y[i] - ((const float *)want->data)[i]) <= 3e-7f))
            fail_msg("value %lld is %g, not %g", (long long)i, (double)y[i],
                     (double)((const float *)want->data)[i]);
    free(y);
    limn_weights_unref(&io);
}

/* ---- text models ---- */
static void text_file(const char *name) {
    char path[3][64];
    model m;
    snprintf(path[0], 64, "qwen3vl/%s.safetensors", name);
    snprintf(path[1], 64, "qwen3vl/%s.json", name);
    snprintf(path[2], 64, "qwen3vl/%s.io.safetensors", name);
    limn_weights *io = golden_open(path[2]);
    model_open(&m, path[0], path[1]);
    const limn_decoder_config *cfg = &m.cfg.text;
    const limn_tensor *ids = golden_get(io, "ids", "");
    int64_t n = ids->shape.dim[0];
    float *last = malloc((size_t)cfg->vocab * sizeof *last);
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        limn_err err = {0};
        const golden_backend *b = &golden_backends[i];
        limn_backend *backend = golden_backend_new(b);
        static const int taps[] = {0, 1, 2};
        prompt pr = {.width = cfg->width};
        for (int64_t k = 0; k < n; k++)
            prompt_push(&pr, cfg, m.text_weights, ((const int32_t *)ids->data)[k]);
        limn_decoder_request r = {
            .batch = 1, .len = n, .head = LIMN_HEAD_ALL, .norm = true, .taps = taps, .n_taps = 3};
        limn_program *p = decoder_program(cfg, m.text_weights, backend, &r);
        chunk_fill(p, cfg, &pr, 0, n, 0, n);
        GOLDEN_OK(limn_program_run(p, NULL, &err));
        static const char *const outs[] = {"hidden.0", "hidden.1", "hidden.2", "norm"};
        for (int k = 0; k < 4; k++) {
            char key[32];
            snprintf(key, sizeof key, "hidden_states.%d", k);
            compare(key, b, limn_program_output(p, outs[k], NULL), golden_get(io, key, ""), 0, n,
                    b->tolerance);
        }
        compare(name, b, limn_program_output(p, "logits", NULL), golden_get(io, "logits", ""), 0, n,
                10 * b->tolerance);
        limn_program_free(&p);
        if (b->precision == LIMN_PRECISION_EXACT) {
            int32_t tokens[TOKENS];
            generate(tokens, last, cfg, m.text_weights, backend, &pr, LIMN_F32, 16);
            assert_memory_equal(tokens, golden_get(io, "tokens", "")->data, sizeof tokens);
        }
        limn_backend_free(&backend);
        prompt_free(&pr);
    }
    free(last);
    model_close(&m);
    limn_weights_unref(&io);
}

static void test_qwen3(void **state) {
    (void)state;
    text_file("qwen3");
}
static void test_qwen2(void **state) {
    (void)state;
    text_file("qwen2");
}
static void test_llama(void **state) {
    (void)state;
    text_file("llama");
}

/* A file with an output layer of its own, whose config says that the embedding is used. */
static void test_tied(void **state) {
    (void)state;
    model m;
    limn_err err = {0};
    limn_weights *io = golden_open("qwen3vl/vl.io.safetensors");
    model_open(&m, "qwen3vl/vl.safetensors", "qwen3vl/vl_tied.json");
    limn_backend *backend = golden_backend_new(&golden_backends[2]);
    prompt pr = prompt_make(&m, backend, NULL, io, "text", RIGHT);
    limn_decoder_request r = {.batch = 1, .len = pr.n, .head = LIMN_HEAD_ALL};
    limn_program *p = decoder_program(&m.cfg.text, m.text_weights, backend, &r);
    chunk_fill(p, &m.cfg.text, &pr, 0, pr.n, 0, pr.n);
    GOLDEN_OK(limn_program_run(p, NULL, &err));
    compare("tied", &golden_backends[2], limn_program_output(p, "logits", NULL),
            golden_get(io, "tied/logits", ""), 0, pr.n, 1e-4);
    limn_program_free(&p);
    prompt_free(&pr);
    limn_backend_free(&backend);
    model_close(&m);
    limn_weights_unref(&io);
}

/* ---- mutations ---- */
/* Error of the last logits of a case under a mistake. */
static double mistaken(const model *m, limn_backend *backend, const limn_weights *io,
                       const char *name, mutation mut) {
    limn_err err = {0};
    limn_decoder_config cfg = m->cfg.text;
    prompt pr = prompt_make(m, backend, NULL, io, name, mut);
    limn_decoder_request r = {.batch = 1, .len = pr.n, .deepstack = true, .head = LIMN_HEAD_LAST};
    limn_program *p = decoder_program(&cfg, m->text_weights, backend, &r);
    chunk_fill(p, &cfg, &pr, 0, pr.n, 0, pr.n);
    if (mut == SECTIONED_ROPE) { /* t t t .. h h .. w w instead of t h w t h w */
        float *tables[2] = {limn_program_input(p, "cos", NULL), limn_program_input(p, "sin", NULL)};
        float freq[16];
        limn_rope_frequencies(freq, &cfg.rope);
        for (int64_t t = 0; t < pr.n; t++)
            for (int i = 0; i < 16; i++) {
                int axis = i < 8 ? 0 : i < 12 ? 1 : 2;
                double angle = (double)pr.pos[axis * pr.n + t] * (double)freq[i];
                tables[0][t * 16 + i] = (float)cos(angle);
                tables[1][t * 16 + i] = (float)sin(angle);
            }
    }
    GOLDEN_OK(limn_program_run(p, NULL, &err));
    const limn_tensor *all = part(io, name, "logits");
    int64_t rows = all->shape.dim[0], vocab = all->shape.dim[1];
    limn_tensor want = {.shape = LIMN_SHAPE(1, vocab),
                        .data = (float *)all->data + (rows - 1) * vocab};
    double e = golden_error(limn_program_output(p, "logits", NULL), &want);
    limn_program_free(&p);
    prompt_free(&pr);
    return e;
}

static void test_mistakes_are_noticed(void **state) {
    (void)state;
    model m;
    limn_weights *io = golden_open("qwen3vl/vl.io.safetensors");
    model_open(&m, "qwen3vl/vl.safetensors", "qwen3vl/vl.json");
    limn_backend *backend = golden_backend_new(&golden_backends[2]);
    double right = mistaken(&m, backend, io, "wide", RIGHT);
    assert_true(right <= 1e-4);
    for (int mut = RIGHT + 1; mut < MUTATIONS; mut++) {
        double e = mistaken(&m, backend, io, "wide", (mutation)mut);
        if (!(e > 1e-3)) fail_msg("mistake %d changes the logits by %g only", mut, e);
    }
    limn_backend_free(&backend);
    model_close(&m);
    limn_weights_unref(&io);
}

/* ---- refusals ---- */
static void test_configs_are_checked(void **state) {
    (void)state;
    static const char *const refused[] = {
        "[]",
        "{",
        "{}",
        "{\"hidden_size\": 64, \"num_experts\": 8}",
        "{\"hidden_size\": 64, \"hidden_act\": \"gelu\"}",
        "{\"vocab_size\": 9, \"hidden_size\": 64, \"num_hidden_layers\": 1, "
        "\"num_attention_heads\": 3, \"num_key_value_heads\": 2, \"head_dim\": 16, "
        "\"intermediate_size\": 4, \"max_position_embeddings\": 8}",
        "{\"vocab_size\": 9, \"hidden_size\": 64, \"num_hidden_layers\": 1, "
        "\"num_attention_heads\": 4, \"head_dim\": 16, \"intermediate_size\": 4, "
        "\"max_position_embeddings\": 8, \"rope_scaling\": {\"mrope_interleaved\": true, "
        "\"mrope_section\": [2, 4, 2]}}",
        "{\"vocab_size\": 9, \"hidden_size\": 64, \"num_hidden_layers\": 1, "
        "\"num_attention_heads\": 4, \"head_dim\": 16, \"intermediate_size\": 4, "
        "\"max_position_embeddings\": 8, \"rope_scaling\": {\"type\": \"longrope\"}}",
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        limn_vl_config cfg;
        limn_err err = {0};
        limn_status st = limn_vl_config_parse(&cfg, refused[i], &err);
        assert_true(st == LIMN_E_FORMAT || st == LIMN_E_UNSUPPORTED);
        assert_true(err.text[0] != 0);
    }
}

static void test_builders_refuse(void **state) {
    (void)state;
    model m;
    limn_err err = {0};
    model_open(&m, "qwen3vl/vl.safetensors", "qwen3vl/vl.json");
    static const int far[] = {5};
    const limn_decoder_request bad[] = {
        {.batch = 1, .len = 4, .layers = 5},
        {.batch = 1, .len = 4, .layers = 2, .head = LIMN_HEAD_LAST},
        {.batch = 1, .len = 4, .taps = far, .n_taps = 1},
    };
    for (size_t i = 0; i < 3; i++) {
        limn_graph *g = NULL;
        GOLDEN_OK(limn_graph_new(&g, &err));
        limn_nn nn = {g, limn_model_weights_find, m.text_weights};
        limn_decoder_build(&nn, &m.cfg.text, &bad[i]);
        assert_int_equal(limn_graph_check(g, &err), LIMN_E_VALUE);
        limn_graph_free(&g);
    }
    limn_graph *g = NULL;
    GOLDEN_OK(limn_graph_new(&g, &err));
    limn_nn nn = {g, limn_model_weights_find, m.vision_weights};
    limn_vision_build(&nn, &m.cfg.vision, &(limn_vision_request){1, 3, 4, false});
    assert_int_equal(limn_graph_check(g, &err), LIMN_E_VALUE);
    limn_graph_free(&g);
    int32_t id = m.cfg.text.vocab;
    float row[64];
    assert_int_equal(limn_decoder_embed(row, &nn, &m.cfg.text, &id, 1, &err), LIMN_E_MISSING);
    nn.user = m.text_weights;
    assert_int_equal(limn_decoder_embed(row, &nn, &m.cfg.text, &id, 1, &err), LIMN_E_VALUE);
    limn_kv_cache *cache = NULL;
    assert_int_equal(limn_kv_cache_new(&cache, &m.cfg.text, LIMN_Q4_0, 1, 8, &err),
                     LIMN_E_UNSUPPORTED);
    assert_int_equal(limn_kv_cache_new(&cache, &m.cfg.text, LIMN_F16, 1 << 30, INT64_MAX, &err),
                     LIMN_E_LIMIT);
    model_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_preprocessing),
        cmocka_unit_test(test_patches),
        cmocka_unit_test(test_positions_are_exact),
        cmocka_unit_test(test_stages),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_reader_sees),
        cmocka_unit_test(test_narrow_caches),
        cmocka_unit_test(test_sequences_together),
        cmocka_unit_test(test_qwen3),
        cmocka_unit_test(test_qwen2),
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_tied),

        cmocka_unit_test(test_mistakes_are_noticed),
        cmocka_unit_test(test_configs_are_checked),
        cmocka_unit_test(test_builders_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
