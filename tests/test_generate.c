/* SPDX-License-Identifier: MIT */
/*
 * Picking tokens (each option against its definition, draws against their distribution), reading
 * texts with pictures in chunks, forks and marks, and the generation loop: greedy tokens as the
 * reference, stop ids and strings at every place, streaming, the end of the context.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/canon.h"
#include "golden_net.h"
#include "pipeline/generate.h"

/* ---- picking ---- */
enum { VOCAB = 50, DRAWS = 20000 };

static void logits_make(float *logits) {
    for (int i = 0; i < VOCAB; i++) logits[i] = 3 * sinf((float)(7 * i + 1)) - 0.02f * (float)i;
}

static double probs_make(double *q, const float *logits, double t) {
    double top = -1e30, sum = 0;
    for (int i = 0; i < VOCAB; i++) top = fmax(top, logits[i]);
    for (int i = 0; i < VOCAB; i++) sum += q[i] = exp((logits[i] - top) / t);
    for (int i = 0; i < VOCAB; i++) q[i] /= sum;
    return sum;
}

/* Keeps the likeliest `k`, then the shortest head of at least top_p, then those of min_p. */
static void filter(double *q, int k, double top_p, double min_p) {
    bool kept[VOCAB] = {0};
    double sum_k = 0, seen = 0, top = 0;
    int order[VOCAB];
    for (int i = 0; i < VOCAB; i++) order[i] = i;
    for (int i = 0; i < VOCAB; i++)
        for (int j = i + 1; j < VOCAB; j++)
            if (q[order[j]] > q[order[i]]) {
                int t = order[i];
                order[i] = order[j];
                order[j] = t;
            }
    if (k == 0) k = VOCAB;
    for (int i = 0; i < k; i++) sum_k += q[order[i]];
    top = q[order[0]];
    for (int i = 0; i < k; i++) {
        if (i > 0 && (seen >= top_p * sum_k || q[order[i]] < min_p * top)) break;
        kept[order[i]] = true;
        seen += q[order[i]];
    }
    for (int i = 0; i < VOCAB; i++) q[i] = kept[i] ? q[i] / seen : 0;
}

static void test_draws_follow_the_options(void **state) {
    (void)state;
    static const limn_pick_options rows[] = {
        {.temperature = 1, .top_p = 1, .repetition = 1},
        {.temperature = 0.5f, .top_p = 1, .repetition = 1, .top_k = 7, .seed = 1},
        {.temperature = 1, .top_p = 0.7f, .repetition = 1, .seed = 2},
        {.temperature = 1.5f, .top_p = 0.6f, .repetition = 1, .top_k = 9, .seed = 3},
        {.temperature = 1, .top_p = 1, .repetition = 1, .min_p = 0.2f, .seed = 4},
        {.temperature = 2, .top_p = 0.9f, .repetition = 1, .min_p = 0.3f, .top_k = 20, .seed = 5},
        {.temperature = 1, .top_p = 0.001f, .repetition = 1, .seed = 6},
    };
    float logits[VOCAB];
    logits_make(logits);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        limn_err err = {0};
        limn_token_picker *p = NULL;
        double q[VOCAB];
        int count[VOCAB] = {0};
        GOLDEN_OK(limn_token_picker_new(&p, VOCAB, 0, &rows[r], &err));
        probs_make(q, logits, rows[r].temperature);
        filter(q, rows[r].top_k, rows[r].top_p, rows[r].min_p);
        for (int i = 0; i < DRAWS; i++) {
            limn_pick pick;
            GOLDEN_OK(limn_token_picker_take(p, &pick, logits, NULL, &err));
            count[pick.id]++;
        }
        for (int i = 0; i < VOCAB; i++) { /* five standard deviations; 0 means never */
            double sd = sqrt(q[i] * (1 - q[i]) / DRAWS);
            if (fabs((double)count[i] / DRAWS - q[i]) > 5 * sd + 1e-12)
                fail_msg("options %zu: id %d came %d times, expected %g", r, i, count[i],
                         q[i] * DRAWS);
        }
        limn_token_picker_free(&p);
    }
}

static int32_t pick_once(limn_token_picker *p, const float *logits) {
    limn_err err = {0};
    limn_pick pick;
    GOLDEN_OK(limn_token_picker_take(p, &pick, logits, NULL, &err));
    return pick.id;
}

static void test_penalties_and_biases(void **state) {
    (void)state;
    limn_err err = {0};
    limn_token_picker *p = NULL;
    const float logits[4] = {2.0f, 1.5f, -1.0f, -1.2f};
    limn_pick_options o = limn_pick_greedy;
    o.repetition = 1.4f; /* 2.0 / 1.4 = 1.43 once seen */
    GOLDEN_OK(limn_token_picker_new(&p, 4, 0, &o, &err));
    assert_int_equal(pick_once(p, logits), 0);
    assert_int_equal(pick_once(p, logits), 1);
    limn_token_picker_free(&p);
    GOLDEN_OK(limn_token_picker_new(&p, 4, 0, &o, &err));
    limn_token_picker_prompt(p, (int32_t[]){0, -5, 99}, 3); /* the prompt counts too */
    assert_int_equal(pick_once(p, logits), 1);
    limn_token_picker_free(&p);
    /* negative logits are multiplied: -1.0 * 1.4 falls below -1.2 */
    static const limn_logit_bias off[] = {{0, -INFINITY}, {1, -INFINITY}};
    o.bias = off;
    o.n_bias = 2;
    GOLDEN_OK(limn_token_picker_new(&p, 4, 0, &o, &err));
    assert_int_equal(pick_once(p, logits), 2);
    assert_int_equal(pick_once(p, logits), 3);
    limn_token_picker_free(&p);
    /* presence once, frequency each time, both on generated ids only */
    o = limn_pick_greedy;
    o.presence = 0.4f;
    GOLDEN_OK(limn_token_picker_new(&p, 4, 0, &o, &err));
    limn_token_picker_prompt(p, (int32_t[]){0}, 1);
    for (int i = 0; i < 5; i++) assert_int_equal(pick_once(p, logits), 0);
    limn_token_picker_free(&p);
    o.frequency = 0.05f; /* 2.0 - 0.4 - 0.05 n against 1.5: the third time is one too many */
    GOLDEN_OK(limn_token_picker_new(&p, 4, 0, &o, &err));
    for (int i = 0; i < 2; i++) assert_int_equal(pick_once(p, logits), 0);
    assert_int_equal(pick_once(p, (float[]){1.99f, 1.5f, -1, -1}), 1);
    limn_token_picker_free(&p);
    static const limn_logit_bias up[] = {{3, 10}};
    o = limn_pick_greedy;
    o.bias = up;
    o.n_bias = 1;
    GOLDEN_OK(limn_token_picker_new(&p, 4, 0, &o, &err));
    assert_int_equal(pick_once(p, logits), 3);
    limn_token_picker_free(&p);
    GOLDEN_OK(limn_token_picker_new(&p, 4, 2, &limn_pick_greedy, &err)); /* ids 2, 3 unusable */
    assert_int_equal(pick_once(p, (float[]){0, 1, 9, 9}), 1);
    limn_token_picker_free(&p);
}

static void test_logprobs_masks_and_refusals(void **state) {
    (void)state;
    limn_err err = {0};
    limn_token_picker *p = NULL;
    limn_pick pick;
    float logits[VOCAB];
    double q[VOCAB];
    logits_make(logits);
    probs_make(q, logits, 1);
    limn_pick_options o = {
        .temperature = 0.7f, .top_p = 0.5f, .repetition = 1.3f, .top_logprobs = 5};
    GOLDEN_OK(limn_token_picker_new(&p, VOCAB, 0, &o, &err));
    for (int i = 0; i < 20; i++) {
        GOLDEN_OK(limn_token_picker_take(p, &pick, logits, NULL, &err));
        assert_true(fabs(pick.logprob - log(q[pick.id])) < 1e-5);
        assert_int_equal(pick.n_top, 5);
        for (int k = 0; k < 5; k++) {
            assert_true(fabs(pick.top[k].logprob - log(q[pick.top[k].id])) < 1e-5);
            assert_true(k == 0 || pick.top[k].logprob <= pick.top[k - 1].logprob);
        }
    }
    uint32_t allowed[VOCAB / 32 + 1] = {[1] = 1u << 3}; /* 35 only */
    GOLDEN_OK(limn_token_picker_take(p, &pick, logits, allowed, &err));
    assert_int_equal(pick.id, 35);
    allowed[1] = 0;
    assert_int_equal(limn_token_picker_take(p, &pick, logits, allowed, &err), LIMN_E_VALUE);
    logits[7] = NAN;
    assert_int_equal(limn_token_picker_take(p, &pick, logits, NULL, &err), LIMN_E_INTERNAL);
    limn_token_picker_free(&p);
    const limn_pick_options bad[] = {
        {.temperature = -1, .top_p = 1, .repetition = 1},
        {.temperature = NAN, .top_p = 1, .repetition = 1},
        {.top_p = 0, .repetition = 1},
        {.top_p = 1.1f, .repetition = 1},
        {.top_p = 1, .repetition = 0},
        {.top_p = 1, .repetition = 1, .min_p = 2},
        {.top_p = 1, .repetition = 1, .top_k = -1},
        {.top_p = 1, .repetition = 1, .top_logprobs = 21},
        {.top_p = 1, .repetition = 1, .n_bias = 1, .bias = &(limn_logit_bias){VOCAB, 1}},
        {.top_p = 1, .repetition = 1, .n_bias = 1, .bias = &(limn_logit_bias){0, INFINITY}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(limn_token_picker_new(&p, VOCAB, 0, &bad[i], &err), LIMN_E_VALUE);
}

/* ---- a tiny model ---- */
typedef struct fixture {
    limn_weights *file, *set, *io;
    limn_vl_config cfg;
    limn_model_weights *weights;
    limn_backend *backend;
    limn_tokenizer *tokenizer;
    limn_reader *reader;
    limn_reader_text prompt;
    const int32_t *tokens; /* [32] of the reference */
} fixture;

static void fixture_open(fixture *f, const char *name, int64_t context) {
    limn_err err = {0};
    char path[128];
    *f = (fixture){0};
    snprintf(path, sizeof path, "qwen3vl/%s.safetensors", name);
    f->file = golden_open(path);
    snprintf(path, sizeof path, "qwen3vl/%s.io.safetensors", name);
    f->io = golden_open(path);
    snprintf(path, sizeof path, "qwen3vl/%s.json", name);
    char *json = golden_text(path);
    GOLDEN_OK(limn_vl_config_parse(&f->cfg, json, &err));
    free(json);
    GOLDEN_OK(limn_canon_llm(&f->set, f->file, &err));
    GOLDEN_OK(limn_model_weights_new(&f->weights, f->set, &err));
    f->backend = golden_backend_new(&golden_backends[2]);
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    snprintf(path, sizeof path, "%s/text/tiny_bpe.json", dir ? dir : "tests/golden");
    GOLDEN_OK(limn_tokenizer_load(&f->tokenizer, path, &err));
    limn_reader_options o = {.context = context, .sequences = 2, .chunk = 16, .cache = LIMN_F32};
    GOLDEN_OK(limn_reader_new(&f->reader, f->backend, f->weights, &f->cfg.text, &o, &err));
    const limn_tensor *ids = limn_weights_find(f->io, "ids");
    if (!ids) return;
    f->prompt = (limn_reader_text){.ids = ids->data, .n = ids->shape.dim[0]};
    f->tokens = golden_get(f->io, "tokens", "")->data;
}

static void fixture_close(fixture *f) {
    limn_reader_free(&f->reader);
    limn_tokenizer_free(&f->tokenizer);
    limn_backend_free(&f->backend);
    limn_model_weights_free(&f->weights);
    limn_weights_unref(&f->set);
    limn_weights_unref(&f->file);
    limn_weights_unref(&f->io);
}

typedef struct heard {
    char text[4096];
    size_t len;
    int tokens, stop_after;
} heard;

static bool hear(void *user, const limn_generated *g) {
    heard *h = user;
    memcpy(h->text + h->len, g->text, g->len);
    h->len += g->len;
    h->tokens += g->pick != NULL;
    return h->stop_after == 0 || h->tokens < h->stop_after;
}

static void again(fixture *f) {
    limn_reader_set_mark(f->reader, 0, (limn_reader_mark){0, 0});
}

static void test_greedy_and_lengths(void **state) {
    (void)state;
    static const char *const names[] = {"qwen3", "qwen2", "llama"};
    for (size_t k = 0; k < 3; k++) {
        limn_err err = {0};
        fixture f;
        limn_generate_result r;
        fixture_open(&f, names[k], 80);
        limn_generate_result_init(&r);
        limn_generate_request q = {.prompt = &f.prompt, .max_tokens = 32};
        GOLDEN_OK(limn_generate(&r, f.reader, &q, &err));
        assert_int_equal(r.finish, LIMN_FINISH_LENGTH);
        assert_int_equal(r.ids.len, 32);
        assert_memory_equal(r.ids.data, f.tokens, 32 * sizeof(int32_t));
        assert_int_equal(limn_reader_length(f.reader, 0), f.prompt.n + 31);
        limn_generate_result_deinit(&r);
        /* without a limit: until the context of 80 is full; the prompt must not be cut */
        again(&f);
        limn_generate_result_init(&r);
        q.max_tokens = 0;
        GOLDEN_OK(limn_generate(&r, f.reader, &q, &err));
        assert_int_equal(r.finish, LIMN_FINISH_CONTEXT);
        assert_int_equal(r.ids.len, 80 - f.prompt.n + 1);
        assert_int_equal(limn_reader_room(f.reader, 0), 0);
        assert_int_equal(limn_generate(&r, f.reader, &q, &err), LIMN_E_CONTEXT);
        limn_generate_result_deinit(&r);
        fixture_close(&f);
    }
}

static void test_stops(void **state) {
    (void)state;
    limn_err err = {0};
    fixture f;
    limn_generate_result r;
    limn_buf all;
    fixture_open(&f, "qwen3", 80);
    limn_buf_init(&all, 4096);
    GOLDEN_OK(
        limn_tokenizer_decode(f.tokenizer, &all, f.tokens, 32, LIMN_DECODE_SKIP_SPECIAL, &err));
    assert_true(all.len > 12);
    for (size_t at = 0; at + 3 <= all.len; at++) { /* each piece of the text as the stop string */
        char piece[4] = {0};
        memcpy(piece, all.data + at, 3);
        const char *stops[] = {"never in it", piece};
        heard h = {.len = 0};
        again(&f);
        limn_generate_result_init(&r);
        limn_generate_request q = {.prompt = &f.prompt,
                                   .max_tokens = 32,
                                   .tokenizer = f.tokenizer,
                                   .stop = stops,
                                   .n_stop = 2,
                                   .on_token = hear,
                                   .user = &h};
        GOLDEN_OK(limn_generate(&r, f.reader, &q, &err));
        size_t first = (size_t)(strstr(all.data, piece) - all.data);
        if (r.finish == LIMN_FINISH_STOP_STRING)
            assert_int_equal(r.text.len, first);
        else /* the last character was only finished when there was no more to come */
            assert_true(first + 3 > all.len - 3);
        assert_memory_equal(all.data, limn_buf_text(&r.text), r.text.len);
        assert_int_equal(h.len, r.text.len); /* what was streamed is what is returned */
        assert_memory_equal(h.text, limn_buf_text(&r.text), h.len);
        limn_generate_result_deinit(&r);
    }
    /* a stop id of the caller, and his word */
    heard h = {.stop_after = 4};
    limn_generate_request q = {
        .prompt = &f.prompt, .tokenizer = f.tokenizer, .on_token = hear, .user = &h};
    again(&f);
    limn_generate_result_init(&r);
    GOLDEN_OK(limn_generate(&r, f.reader, &q, &err));
    assert_int_equal(r.finish, LIMN_FINISH_CALLER);
    assert_int_equal(r.ids.len, 4);
    limn_generate_result_deinit(&r);
    again(&f);
    limn_generate_result_init(&r);
    q = (limn_generate_request){.prompt = &f.prompt, .stop_ids = f.tokens + 5, .n_stop_ids = 1};
    GOLDEN_OK(limn_generate(&r, f.reader, &q, &err));
    assert_int_equal(r.finish, LIMN_FINISH_STOP_ID);
    assert_int_equal(r.stop_id, f.tokens[5]);
    assert_true(r.ids.len <= 6);
    limn_generate_result_deinit(&r);
    again(&f);
    limn_generate_result_init(&r);
    const char *empty[] = {""};
    q = (limn_generate_request){
        .prompt = &f.prompt, .tokenizer = f.tokenizer, .stop = empty, .n_stop = 1};
    assert_int_equal(limn_generate(&r, f.reader, &q, &err), LIMN_E_VALUE);
    limn_generate_result_deinit(&r);
    limn_buf_deinit(&all);
    fixture_close(&f);
}

/* Two texts from one beginning, and one that goes back. */
static void test_forks_and_marks(void **state) {
    (void)state;
    limn_err err = {0};
    fixture f;
    const float *logits;
    fixture_open(&f, "qwen2", 80);
    int32_t vocab = f.cfg.text.vocab;
    limn_reader_text head = {.ids = f.prompt.ids, .n = 21},
                     tail = {.ids = f.prompt.ids + 21, .n = f.prompt.n - 21};
    GOLDEN_OK(limn_reader_read(f.reader, 0, &head, &logits, NULL, &err));
    limn_reader_mark mark = limn_reader_get_mark(f.reader, 0);
    assert_int_equal(mark.length, 21);
    assert_int_equal(mark.position, 21);
    limn_reader_fork(f.reader, 1, 0, mark);
    for (int64_t s = 0; s < 4; s++) { /* 0, 1, and both again after going back */
        if (s > 1) limn_reader_set_mark(f.reader, s % 2, mark);
        GOLDEN_OK(limn_reader_read(f.reader, s % 2, &tail, &logits, NULL, &err));
        const limn_tensor *want = golden_get(f.io, "logits", "");
        limn_tensor row = {.shape = LIMN_SHAPE(1, vocab),
                           .data = (float *)want->data + (f.prompt.n - 1) * vocab};
        double e = golden_error(logits, &row);
        if (!(e <= 1e-4)) fail_msg("text %lld: error %g", (long long)s, e);
    }
    limn_reader_text none = {.ids = f.prompt.ids, .n = 0},
                     bad = {.ids = (int32_t[]){vocab}, .n = 1};
    assert_int_equal(limn_reader_read(f.reader, 0, &none, &logits, NULL, &err), LIMN_E_VALUE);
    assert_int_equal(limn_reader_read(f.reader, 0, &bad, &logits, NULL, &err), LIMN_E_VALUE);
    atomic_bool stop = true;
    limn_reader_set_mark(f.reader, 0, mark);
    assert_int_equal(limn_reader_read(f.reader, 0, &tail, &logits, &stop, &err), LIMN_E_CANCELLED);
    assert_int_equal(limn_reader_length(f.reader, 0), 21);
    fixture_close(&f);
}

/* Branches together have the probabilities that they have one by one, and leave the text alone. */
static void test_branches(void **state) {
    (void)state;
    static const char *const names[] = {"qwen3", "qwen2", "llama"};
    for (size_t k = 0; k < 3; k++) {
        limn_err err = {0};
        fixture f;
        const float *logits;
        fixture_open(&f, names[k], 110);
        int32_t vocab = f.cfg.text.vocab, ids[9][45];
        static const int64_t lengths[] = {3, 1, 6, 6, 2, 40, 12, 12, 12};
        enum { N = 9 };
        limn_reader_branch b[N];
        GOLDEN_OK(limn_reader_read(f.reader, 0, &f.prompt, &logits, NULL, &err));
        float *first = malloc((size_t)vocab * sizeof *first);
        memcpy(first, logits, (size_t)vocab * sizeof *first);
        limn_reader_mark mark = limn_reader_get_mark(f.reader, 0);
        for (int i = 0; i < N; i++) {
            for (int64_t j = 0; j < lengths[i]; j++)
                ids[i][j] = (int32_t)((i * 37 + j * 11 + 5) % vocab);
            b[i] = (limn_reader_branch){.ids = ids[i], .n = lengths[i]};
        }
        memcpy(ids[3], ids[2], 3 * sizeof(int32_t)); /* a beginning that two share */
        GOLDEN_OK(limn_reader_score(f.reader, 0, first, 0, b, N, NULL, &err));
        limn_reader_mark after = limn_reader_get_mark(f.reader, 0);
        assert_memory_equal(&mark, &after, sizeof mark);
        for (int i = 0; i < N; i++) {
            double sum = 0;
            const float *row = first;
            for (int64_t j = 0; j < lengths[i]; j++) {
                double all = 0;
                for (int32_t v = 0; v < vocab; v++) all += exp((double)row[v]);
                sum += (double)row[ids[i][j]] - log(all);
                limn_reader_text one = {.ids = &ids[i][j], .n = 1};
                GOLDEN_OK(limn_reader_read(f.reader, 0, &one, &row, NULL, &err));
            }
            limn_reader_set_mark(f.reader, 0, mark);
            if (!(fabs(sum - b[i].sum) < 1e-4))
                fail_msg("%s: branch %d has %g, alone %g", names[k], i, b[i].sum, sum);
        }
        /* refused: no tokens, ids of nobody, more than the context holds */
        limn_reader_branch bad[] = {{ids[0], 0, 0}};
        assert_int_equal(limn_reader_score(f.reader, 0, first, 0, bad, 1, NULL, &err),
                         LIMN_E_VALUE);
        bad[0] = (limn_reader_branch){(int32_t[]){1, vocab}, 2, 0};
        assert_int_equal(limn_reader_score(f.reader, 0, first, 0, bad, 1, NULL, &err),
                         LIMN_E_VALUE);
        bad[0] = (limn_reader_branch){(int32_t[]){5}, 1, 0};
        assert_int_equal(limn_reader_score(f.reader, 0, first, 5, bad, 1, NULL, &err),
                         LIMN_E_VALUE);
        static int32_t many[200];
        bad[0] = (limn_reader_branch){many, 200, 0};
        assert_int_equal(limn_reader_score(f.reader, 0, first, 0, bad, 1, NULL, &err),
                         LIMN_E_CONTEXT);
        free(first);
        fixture_close(&f);
    }
}

/* ---- loops ---- */
typedef struct script {
    int32_t ids[400];
    int at;
    uint32_t mask[32];
} script;

static limn_status script_allow(void *user, const uint32_t **ids, limn_err *err) {
    script *s = user;
    (void)err;
    memset(s->mask, 0, sizeof s->mask);
    s->mask[s->ids[s->at] / 32] = 1u << s->ids[s->at] % 32;
    s->at++;
    *ids = s->mask;
    return LIMN_OK;
}

static limn_status script_picked(void *user, int32_t id, limn_err *err) {
    (void)user, (void)id, (void)err;
    return LIMN_OK;
}

/* A writer that can only write what is in the script: how many tokens come, and why they end. */
static limn_finish scripted(size_t *n, const script *what, int64_t limit, fixture *f) {
    limn_err err = {0};
    limn_generate_result r;
    limn_writer *w = NULL;
    script s = *what;
    float *logits = calloc((size_t)f->cfg.text.vocab, sizeof *logits);
    limn_generate_result_init(&r);
    limn_generate_request q = {.prompt = &f->prompt,
                               .max_tokens = 400,
                               .loop_limit = limit,
                               .ignore_stop_ids = true,
                               .allow = script_allow,
                               .picked = script_picked,
                               .user = &s};
    GOLDEN_OK(limn_writer_new(&w, &r, &f->cfg.text, &q, &err));
    for (bool done = false; !done;) GOLDEN_OK(limn_writer_take(w, logits, 1000, &done, &err));
    *n = r.ids.len;
    limn_finish finish = r.finish;
    limn_writer_free(&w);
    limn_generate_result_deinit(&r);
    free(logits);
    return finish;
}

static void test_loops(void **state) {
    (void)state;
    fixture f;
    size_t n;
    fixture_open(&f, "qwen3", 80);
    int32_t vocab = f.cfg.text.vocab;
    /* period: tokens of a piece; after a lead of 11; the limit of 96 and eight times */
    static const struct {
        int period, limit;
        size_t ends;
    } rows[] = {{1, 96, 11 + 96}, {5, 96, 11 + 96}, {12, 96, 11 + 96}, {20, 96, 11 + 160},
                {1, 0, 400},      {60, 96, 400},    {3, 400, 400}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        script s = {.at = 0};
        for (int k = 0; k < 400; k++) s.ids[k] = k < 11 ? 100 + k : (k - 11) % rows[i].period;
        limn_finish finish = scripted(&n, &s, rows[i].limit, &f);
        assert_int_equal(finish, rows[i].ends < 400 ? LIMN_FINISH_LOOP : LIMN_FINISH_LENGTH);
        if (n != rows[i].ends) fail_msg("row %zu ended after %zu", i, n);
    }
    /* a list that counts, a table whose cells differ here and there: no loops */
    script count = {.at = 0}, table = {.at = 0};
    for (int k = 0; k < 400; k++) {
        count.ids[k] = k % 4 == 3 ? (k / 4) % vocab : k % 4;
        table.ids[k] = k % 37 == 36 ? (50 + k / 37) % vocab : k % 2;
    }
    assert_int_equal(scripted(&n, &count, 96, &f), LIMN_FINISH_LENGTH);
    assert_int_equal(scripted(&n, &table, 96, &f), LIMN_FINISH_LENGTH);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draws_follow_the_options),
        cmocka_unit_test(test_penalties_and_biases),
        cmocka_unit_test(test_logprobs_masks_and_refusals),
        cmocka_unit_test(test_greedy_and_lengths),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_forks_and_marks),
        cmocka_unit_test(test_branches),
        cmocka_unit_test(test_loops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
