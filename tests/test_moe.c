/* SPDX-License-Identifier: MIT */
/*
 * Mixtures of experts (Qwen3-VL 30B-A3B) against transformers: layers, logits and 32 greedy tokens
 * of a folder as on the hub, of the layout that transformers 5 writes, and of the GGUF pair that
 * limn writes; whoever is not chosen is not read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "formats/safetensors.h"
#include "qwen3vl_test.h"
#include "see_test.h"

static const char *const moe_cases[] = {"text", "wide", "mixed"};
enum { MOE_CASES = 3 };

static void stages(const model *m, const golden_backend *b, const limn_weights *io) {
    limn_backend *backend = golden_backend_new(b);
    for (int c = 0; c < MOE_CASES; c++) {
        prompt pr = prompt_make(m, backend, b, io, moe_cases[c], RIGHT);
        whole_compare(m, backend, b, io, moe_cases[c], &pr);
        prompt_free(&pr);
    }
    limn_backend_free(&backend);
}

static void test_stages(void **state) {
    (void)state;
    model m;
    limn_weights *io = golden_open("qwen3vl/moe.io.safetensors");
    model_open(&m, "qwen3vl/moe.safetensors", "qwen3vl/moe.json");
    assert_int_equal(m.cfg.text.experts, 6);
    assert_int_equal(m.cfg.text.experts_used, 2);
    assert_null(limn_weights_meta_str(m.text, "limn.unmapped"));
    for (int i = 0; i < GOLDEN_BACKENDS; i++) stages(&m, &golden_backends[i], io);
    model_close(&m);
    limn_weights_unref(&io);
}

/* With a cache, in chunks that cut pictures and whose padding chooses nobody. */
static void test_greedy(void **state) {
    (void)state;
    model m;
    limn_weights *io = golden_open("qwen3vl/moe.io.safetensors");
    model_open(&m, "qwen3vl/moe.safetensors", "qwen3vl/moe.json");
    const limn_decoder_config *cfg = &m.cfg.text;
    float *last = malloc((size_t)cfg->vocab * sizeof *last);
    for (int i = 0; i < 3; i++) {
        limn_backend *backend = golden_backend_new(&golden_backends[i]);
        for (int c = 0; c < MOE_CASES; c++)
            for (int64_t chunk = 7; chunk <= 64; chunk += 57) {
                int32_t tokens[TOKENS];
                prompt pr = prompt_make(&m, backend, NULL, io, moe_cases[c], RIGHT);
                generate(tokens, last, cfg, m.text_weights, backend, &pr, LIMN_F32, chunk);
                assert_memory_equal(tokens, part(io, moe_cases[c], "tokens")->data, sizeof tokens);
                prompt_free(&pr);
            }
        limn_backend_free(&backend);
    }
    free(last);
    model_close(&m);
    limn_weights_unref(&io);
}

/* The text weights of `m` anew, every tensor through `change` (data is the caller's to make). */
typedef void change_fn(limn_tensor *t, const char *name);

static void text_change(model *m, change_fn *change, limn_tensor *owned, size_t room) {
    limn_err err = {0};
    limn_weights *changed = NULL;
    size_t n = limn_weights_count(m->text);
    assert_true(n <= room);
    GOLDEN_OK(limn_weights_new(&changed, "changed", "safetensors", &err));
    for (size_t i = 0; i < n; i++) {
        const limn_tensor *t = limn_weights_at(m->text, i);
        size_t bytes;
        assert_true(limn_tensor_bytes(&bytes, t->dtype, &t->shape));
        GOLDEN_OK(limn_tensor_new(&owned[i], t->dtype, &t->shape, &err));
        memcpy(owned[i].data, t->data, bytes);
        change(&owned[i], limn_weights_name(m->text, i));
        GOLDEN_OK(limn_weights_add(changed, limn_weights_name(m->text, i), &owned[i], &err));
    }
    limn_model_weights_free(&m->text_weights);
    GOLDEN_OK(limn_model_weights_new(&m->text_weights, changed, &err));
    limn_weights_unref(&changed);
}

/* [experts, in, out] -> [experts, out, in], bf16 */
static void turn_experts(limn_tensor *t, const char *name) {
    if (!strstr(name, ".experts.")) return;
    limn_err err = {0};
    limn_tensor y;
    int64_t a = t->shape.dim[1], b = t->shape.dim[2];
    limn_shape s = LIMN_SHAPE(t->shape.dim[0], b, a);
    GOLDEN_OK(limn_tensor_new(&y, t->dtype, &s, &err));
    for (int64_t e = 0; e < s.dim[0]; e++)
        for (int64_t i = 0; i < a; i++)
            for (int64_t j = 0; j < b; j++)
                ((uint16_t *)y.data)[(e * b + j) * a + i] =
                    ((const uint16_t *)t->data)[(e * a + i) * b + j];
    limn_tensor_free(t);
    *t = y;
}

static void test_both_layouts(void **state) {
    (void)state;
    static limn_tensor owned[256];
    model m;
    limn_weights *io = golden_open("qwen3vl/moe.io.safetensors");
    model_open(&m, "qwen3vl/moe.safetensors", "qwen3vl/moe.json");
    memset(owned, 0, sizeof owned);
    text_change(&m, turn_experts, owned, 256);
    for (int i = 0; i < 3; i++) stages(&m, &golden_backends[i], io);
    model_close(&m);
    for (int i = 0; i < 256; i++) limn_tensor_free(&owned[i]);
    limn_weights_unref(&io);
}

/* Experts that nobody chose lie on pages that must not be touched. */
static void test_others_are_not_read(void **state) {
    (void)state;
    enum { EXPERTS = 4, N = 64, K = 64, LEN = 20 };
    limn_err err = {0};
    static const limn_dtype types[] = {LIMN_F32, LIMN_F32, LIMN_BF16, LIMN_Q8_0};
    for (int v = 0; v < 4; v++) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = 0, room;
        limn_shape one = LIMN_SHAPE(N, K);
        assert_true(limn_tensor_bytes(&bytes, types[v], &one));
        room = (EXPERTS * bytes + page - 1) / page * page;
        char *data =
            mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(data != MAP_FAILED);
        limn_weight w = {.name = "w", .version = 1};
        w.t = (limn_tensor){.dtype = types[v],
                            .shape = LIMN_SHAPE(EXPERTS, N, K),
                            .data = data + room - EXPERTS * bytes};
        limn_backend *b = golden_backend_new(&golden_backends[2]);
        limn_graph *g = NULL;
        limn_program *p = NULL;
        GOLDEN_OK(limn_graph_new(&g, &err));
        limn_node *x = limn_g_input(g, "x", LIMN_F32, LIMN_SHAPE(1, LEN, K));
        limn_node *logits = limn_g_input(g, "logits", LIMN_F32, LIMN_SHAPE(1, LEN, EXPERTS));
        limn_node *r = limn_g_route(g, logits, NULL, 1);
        limn_g_output(g, limn_g_mix(g, limn_g_experts(g, x, r, &w, v == 1), r), "y");
        GOLDEN_OK(limn_program_new(&p, b, &g, &err));
        float *l = limn_program_input(p, "logits", NULL);
        for (int i = 0; i < LEN * EXPERTS; i++) l[i] = i % EXPERTS == 3 ? 5 : 0; /* the last */
        memset(limn_program_input(p, "x", NULL), 0, sizeof(float) * LEN * K);
        size_t others = (size_t)((char *)w.t.data + 3 * bytes - data) / page * page;
        assert_true(others >= page);
        assert_int_equal(mprotect(data, others, PROT_NONE), 0);
        GOLDEN_OK(limn_program_run(p, NULL, &err));
        limn_program_free(&p);
        limn_backend_free(&b);
        munmap(data, room + page);
    }
}

/* ---- whole models ---- */

/* What a folder or file says to a picture and a question, 32 tokens. */
static limn_answer *answer_of(const char *path, const char *precision) {
    limn_err err = {0};
    limn_seer *s = NULL;
    limn_image *im = NULL;
    limn_answer *a = NULL;
    limn_params *app = params(LIMN_PARAMS_APP, "cache_dir=none;threads=2"),
                *see = params(LIMN_PARAMS_SEE,
                              "cache_type=f32;max_tokens=32;logprobs=0;temperature=0");
    GOLDEN_OK(limn_params_set(see, "model", path, LIMN_FROM_API, &err));
    GOLDEN_OK(limn_params_set(see, "precision", precision, LIMN_FROM_API, &err));
    GOLDEN_OK(limn_image_new(&im, 96, 64, 3, &err));
    for (int i = 0; i < 96 * 64 * 3; i++) im->data[i] = (uint8_t)(i * 7 + i / 288 * 11);
    limn_message_part parts[] = {{.kind = LIMN_MESSAGE_IMAGE, .image = im},
                                 {.kind = LIMN_MESSAGE_TEXT, .text = "what is the user?"}};
    limn_message msg = {.role = LIMN_ROLE_USER, .parts = parts, .n_parts = 2};
    limn_talk t = {.messages = &msg, .n_messages = 1};
    GOLDEN_OK(limn_seer_new(&s, app, see, &err));
    GOLDEN_OK(limn_see(&a, s, &t, see, NULL, &err));
    limn_seer_free(&s);
    limn_image_free(&im);
    limn_params_free(&app);
    limn_params_free(&see);
    return a;
}

static void same_tokens(const limn_answer *a, const limn_answer *b) {
    assert_int_equal(a->n_tokens, b->n_tokens);
    for (size_t i = 0; i < a->n_tokens; i++)
        assert_int_equal(a->tokens[i].token.id, b->tokens[i].token.id);
}

/* A folder is quantised into a pair of files, which is read back: the same tokens from f32, an
 * answer from the block types. */
static void test_gguf_pair(void **state) {
    (void)state;
    static const char *const types[] = {"f32", "bf16", "q8_0", "q4_0"};
    limn_err err = {0};
    char folder[512], dir[] = "/tmp/limn-moe-XXXXXX", file[64], mmproj[80], other[80];
    const char *golden = getenv("LIMN_GOLDEN_DIR");
    snprintf(folder, sizeof folder, "%s/tiny_moe", golden ? golden : "tests/golden");
    limn_answer *want = answer_of(folder, "exact"), *got;
    assert_true(want->n_tokens > 4);
    assert_non_null(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/moe.gguf", dir);
    snprintf(mmproj, sizeof mmproj, "%s/mmproj-moe.gguf", dir);
    /* one that does not fit comes first in the alphabet */
    snprintf(other, sizeof other, "%s/mmproj-a.gguf", dir);
    assert_int_equal(symlink(file, other), 0);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char *text = NULL;
        limn_quantize_options o = {.type = types[i], .overwrite = true, .threads = 2};
        GOLDEN_OK(limn_quantize(&text, folder, file, &o, NULL, &err));
        limn_text_free(&text);
        got = answer_of(file, "exact");
        if (i < 2) same_tokens(want, got); /* nothing was rounded */
        assert_true(got->n_tokens > 0);
        limn_answer_free(&got);
        got = answer_of(file, "fast");
        assert_true(got->n_tokens > 0);
        limn_answer_free(&got);
    }
    unlink(file);
    unlink(mmproj);
    unlink(other);
    rmdir(dir);
    limn_answer_free(&want);
}

/* ---- a tensor for each expert ---- */

enum { APART_MAX = 512 };

typedef struct apart {
    limn_named_tensor list[APART_MAX];
    char names[APART_MAX][256];
    size_t n;
} apart;

/* rows [first, first + out) of the transposed [in, all] matrix at `from`, bf16 */
static void apart_add(apart *a, const char *base, int expert, const char *part,
                      const uint16_t *from, int64_t in, int64_t all, int64_t first, int64_t out) {
    limn_err err = {0};
    assert_true(a->n < APART_MAX);
    limn_named_tensor *to = &a->list[a->n];
    limn_shape s = LIMN_SHAPE(out, in);
    snprintf(a->names[a->n], sizeof a->names[0], "%s.%d.%s.weight", base, expert, part);
    to->name = a->names[a->n++];
    GOLDEN_OK(limn_tensor_new(&to->tensor, LIMN_BF16, &s, &err));
    for (int64_t i = 0; i < out; i++)
        for (int64_t j = 0; j < in; j++)
            ((uint16_t *)to->tensor.data)[i * in + j] = from[j * all + first + i];
}

/* The tensors of the golden model, those of its experts apart as Qwen3's text models have them. */
static void apart_make(apart *a, const limn_weights *w) {
    a->n = 0;
    for (size_t i = 0; i < limn_weights_count(w); i++) {
        const char *name = limn_weights_name(w, i), *at = strstr(name, ".experts.");
        const limn_tensor *t = limn_weights_at(w, i);
        if (!at) {
            snprintf(a->names[a->n], sizeof a->names[0], "%s", name);
            a->list[a->n] = (limn_named_tensor){a->names[a->n], *t};
            a->n++;
            continue;
        }
        char base[128];
        int64_t in = t->shape.dim[1], all = t->shape.dim[2];
        snprintf(base, sizeof base, "%.*s", (int)(at - name) + (int)strlen(".experts"), name);
        for (int e = 0; e < (int)t->shape.dim[0]; e++) {
            const uint16_t *from = (const uint16_t *)t->data + e * in * all;
            if (strstr(at, "down")) {
                apart_add(a, base, e, "down_proj", from, in, all, 0, all);
                continue;
            }
            apart_add(a, base, e, "gate_proj", from, in, all, 0, all / 2);
            apart_add(a, base, e, "up_proj", from, in, all, all / 2, all / 2);
        }
    }
}

static void apart_free(apart *a) {
    for (size_t i = 0; i < a->n; i++)
        if (strstr(a->names[i], ".experts.")) limn_tensor_free(&a->list[i].tensor);
}

static const char *const beside[] = {"config.json", "generation_config.json",
                                     "preprocessor_config.json", "tokenizer.json",
                                     "tokenizer_config.json"};
enum { BESIDE = 5 };

/* The folder answers as the one with joined experts does, and so does a GGUF file made from it. */
static void test_experts_apart(void **state) {
    (void)state;
    static apart a;
    limn_err err = {0};
    char from[512], dir[] = "/tmp/limn-apart-XXXXXX", path[600], to[600], *text = NULL;
    limn_weights *w = golden_open("qwen3vl/moe.safetensors");
    apart_make(&a, w);
    assert_non_null(mkdtemp(dir));
    golden_path(from, sizeof from, "tiny_moe");
    for (int i = 0; i < BESIDE; i++) {
        char *real;
        snprintf(path, sizeof path, "%s/%s", from, beside[i]);
        snprintf(to, sizeof to, "%s/%s", dir, beside[i]);
        assert_non_null(real = realpath(path, NULL));
        assert_int_equal(symlink(real, to), 0);
        free(real);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    GOLDEN_OK(limn_safetensors_save(path, a.list, a.n, NULL, 0, &err));
    limn_answer *want = answer_of(from, "exact"), *got = answer_of(dir, "exact");
    same_tokens(want, got);
    limn_answer_free(&got);
    got = answer_of(dir, "fast");
    assert_true(got->n_tokens > 0);
    limn_answer_free(&got);
    snprintf(path, sizeof path, "%s/apart.gguf", dir);
    limn_quantize_options o = {.type = "bf16", .threads = 2};
    GOLDEN_OK(limn_quantize(&text, dir, path, &o, NULL, &err));
    limn_text_free(&text);
    got = answer_of(path, "exact");
    same_tokens(want, got);
    limn_answer_free(&got);
    limn_answer_free(&want);
    apart_free(&a);
    limn_weights_unref(&w);
    static const char *const made[] = {"model.safetensors", "apart.gguf", "mmproj-apart.gguf"};
    for (int i = 0; i < BESIDE + 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, i < BESIDE ? beside[i] : made[i - BESIDE]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
}

/* A tensor that is missing or of another shape is named. */
static void test_experts_apart_errors(void **state) {
    (void)state;
    static apart a;
    limn_err err = {0};
    limn_weights *w = golden_open("qwen3vl/moe.safetensors"), *set, *out = NULL;
    apart_make(&a, w);
    for (int wrong = 0; wrong < 3; wrong++) {
        GOLDEN_OK(limn_weights_new(&set, "made", "safetensors", &err));
        for (size_t i = 0; i < a.n; i++) {
            limn_tensor t = a.list[i].tensor;
            bool chosen = strstr(a.names[i], "layers.2.mlp.experts.4.up_proj") != NULL;
            if (chosen && wrong == 0) continue;
            if (chosen && wrong == 1) t.shape.dim[0]--;
            if (chosen && wrong == 2) t.dtype = LIMN_F16;
            GOLDEN_OK(limn_weights_add(set, a.names[i], &t, &err));
        }
        limn_status st = limn_canon_llm(&out, set, &err);
        assert_int_equal(st, wrong == 0 ? LIMN_E_MISSING : LIMN_E_SHAPE);
        assert_null(out);
        assert_non_null(strstr(err.text, "up_proj.weight of expert 4"));
        limn_weights_unref(&set);
    }
    apart_free(&a);
    limn_weights_unref(&w);
}

static void test_configs(void **state) {
    (void)state;
    static const struct {
        const char *type, *experts;
        limn_status want;
    } rows[] = {
        {"qwen3_moe",
         "\"num_experts\": 8, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 6", LIMN_OK},
        {"qwen3_moe",
         "\"num_experts\": 8, \"num_experts_per_tok\": 9, \"moe_intermediate_size\": 6",
         LIMN_E_FORMAT},
        {"qwen3_moe", "\"num_experts\": 8, \"num_experts_per_tok\": 2", LIMN_E_FORMAT},
        {"qwen3_moe", "\"num_experts\": -3", LIMN_E_FORMAT},
        {"qwen3_moe",
         "\"num_experts\": 8, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 6, "
         "\"norm_topk_prob\": false",
         LIMN_E_UNSUPPORTED},
        {"mixtral", "\"num_local_experts\": 8, \"num_experts_per_tok\": 2", LIMN_E_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char json[1024];
        limn_vl_config cfg;
        limn_err err = {0};
        snprintf(json, sizeof json,
                 "{\"model_type\": \"%s\", \"vocab_size\": 9, \"hidden_size\": 64, "
                 "\"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"head_dim\": 16, "
                 "\"intermediate_size\": 4, \"max_position_embeddings\": 8, %s}",
                 rows[i].type, rows[i].experts);
        limn_status st = limn_vl_config_parse(&cfg, json, &err);
        if (st != rows[i].want) fail_msg("row %zu: %s %s", i, limn_status_text(st), err.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stages),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_both_layouts),
        cmocka_unit_test(test_others_are_not_read),
        cmocka_unit_test(test_gguf_pair),
        cmocka_unit_test(test_experts_apart),
        cmocka_unit_test(test_experts_apart_errors),
        cmocka_unit_test(test_configs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
