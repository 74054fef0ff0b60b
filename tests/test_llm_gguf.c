/* SPDX-License-Identifier: MIT */
/*
 * Qwen3-VL as llama.cpp stores it, a language model and an "mmproj" file: written with the
 * fixture's tensors under those names and keys, read back, every stage as the checkpoint's. And a
 * file that llama.cpp itself wrote (tests/peer/llama.py): split in three, with a tensor of every
 * type, next to what llama.cpp answers from it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <unistd.h>

#include "formats/gguf.h"
#include "qwen3vl_test.h"
#include "see_test.h"

/* transformers' words -> llama.cpp's, tried in order on every name */
static const char *const gguf_words[][2] = {
    {"model.language_model.embed_tokens", "token_embd"},
    {"model.language_model.norm", "output_norm"},
    {"lm_head", "output"},
    {"model.language_model.layers", "blk"},
    {"post_attention_layernorm", "ffn_norm"},
    {"input_layernorm", "attn_norm"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"model.visual.deepstack_merger_list.0", "v.deepstack.0"},
    {"model.visual.deepstack_merger_list.1", "v.deepstack.2"},
    {"model.visual.deepstack_merger_list.2", "v.deepstack.3"},
    {"model.visual.merger.norm", "v.post_ln"},
    {"model.visual.merger.linear_fc1", "mm.0"},
    {"model.visual.merger.linear_fc2", "mm.2"},
    {"model.visual.blocks", "v.blk"},
    {"model.visual.pos_embed", "v.position_embd"},
    {"model.visual.patch_embed.proj", "v.patch_embd"},
    {"norm1", "ln1"},
    {"norm2", "ln2"},
    {"attn.qkv", "attn_qkv"},
    {"attn.proj", "attn_out"},
    {"mlp.linear_fc1", "ffn_up"},
    {"mlp.linear_fc2", "ffn_down"},
    {"linear_fc", "fc"},
};

static void gguf_rename(char *out, size_t size, const char *name) {
    snprintf(out, size, "%s", name);
    for (size_t i = 0; i < sizeof gguf_words / sizeof gguf_words[0]; i++) {
        char *at = strstr(out, gguf_words[i][0]), tail[128];
        if (!at) continue;
        snprintf(tail, sizeof tail, "%s", at + strlen(gguf_words[i][0]));
        snprintf(at, size - (size_t)(at - out), "%s%s", gguf_words[i][1], tail);
    }
}

/* The temporal slice t of a patch kernel [d, 3, 2, 16, 16] in bf16. */
static limn_tensor patch_slice(const limn_tensor *w, int t) {
    limn_err err = {0};
    limn_tensor s;
    limn_shape shape = LIMN_SHAPE(w->shape.dim[0], 3, 16, 16);
    assert_int_equal(w->dtype, LIMN_BF16);
    GOLDEN_OK(limn_tensor_new(&s, LIMN_BF16, &shape, &err));
    for (int64_t i = 0; i < w->shape.dim[0] * 3; i++)
        memcpy((uint16_t *)s.data + i * 256, (const uint16_t *)w->data + (2 * i + t) * 256, 512);
    return s;
}

/* Saves the language model or the tower of the fixture as GGUF and opens that. */
static limn_weights *gguf_of(const model *m, bool vision, const limn_meta *meta, size_t n_meta) {
    limn_err err = {0};
    limn_weights *w = NULL;
    static char names[128][128];
    limn_named_tensor list[128];
    limn_tensor slices[2] = {{0}};
    size_t n = 0;
    char path[] = "/tmp/limn-test-XXXXXX";
    for (size_t i = 0; i < limn_weights_count(m->file); i++) {
        const char *name = limn_weights_name(m->file, i);
        const limn_tensor *t = limn_weights_at(m->file, i);
        if ((strstr(name, "visual") != NULL) != vision) continue;
        assert_true(n + 2 < 128);
        if (strcmp(name, "model.visual.patch_embed.proj.weight") == 0) {
            for (int k = 0; k < 2; k++) slices[k] = patch_slice(t, k);
            list[n++] = (limn_named_tensor){"v.patch_embd.weight", slices[0]};
            list[n++] = (limn_named_tensor){"v.patch_embd.weight.1", slices[1]};
            continue;
        }
        gguf_rename(names[n], sizeof names[n], name);
        list[n] = (limn_named_tensor){names[n], *t};
        n++;
    }
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    GOLDEN_OK(limn_gguf_save(path, list, n, meta, n_meta, &err));
    GOLDEN_OK(limn_weights_open(&w, path, &err));
    unlink(path);
    for (int k = 0; k < 2; k++) limn_tensor_free(&slices[k]);
    return w;
}

#define META_INT(k, ...)                                                                           \
    {                                                                                              \
        k, LIMN_META_INT, sizeof((int32_t[]){__VA_ARGS__}) > 4,                                    \
            sizeof((int32_t[]){__VA_ARGS__}) / 4, (int32_t[]){__VA_ARGS__}, -4                     \
    }
#define META_FLOAT(k, v)                                                                           \
    { k, LIMN_META_FLOAT, false, 1, (float[]){v}, 4 }
#define META_STR(k, v)                                                                             \
    { k, LIMN_META_STR, false, 1, (limn_str_view[]){{v, sizeof(v) - 1}}, 0 }

/* A pair of files as llama.cpp has them gives the same answers as the checkpoint. */
static void test_gguf_pair(void **state) {
    (void)state;
    model m, f = {0};
    limn_err err = {0};
    const limn_meta text[] = {
        META_STR("general.architecture", "qwen3vl"),
        META_INT("qwen3vl.block_count", 4),
        META_INT("qwen3vl.context_length", 4096),
        META_INT("qwen3vl.embedding_length", 64),
        META_INT("qwen3vl.feed_forward_length", 96),
        META_INT("qwen3vl.attention.head_count", 4),
        META_INT("qwen3vl.attention.head_count_kv", 2),
        META_INT("qwen3vl.attention.key_length", 32),
        META_FLOAT("qwen3vl.attention.layer_norm_rms_epsilon", 1e-6f),
        META_FLOAT("qwen3vl.rope.freq_base", 5e6f),
        META_INT("qwen3vl.rope.dimension_sections", 8, 4, 4, 0),
        META_INT("qwen3vl.n_deepstack_layers", 3),
        META_INT("tokenizer.ggml.eos_token_id", 511),
    };
    const limn_meta vision[] = {
        META_STR("general.architecture", "clip"),
        META_STR("clip.projector_type", "qwen3vl_merger"),
        META_INT("clip.vision.image_size", 96),
        META_INT("clip.vision.patch_size", 16),
        META_INT("clip.vision.embedding_length", 48),
        META_INT("clip.vision.feed_forward_length", 70),
        META_INT("clip.vision.block_count", 4),
        META_INT("clip.vision.attention.head_count", 2),
        META_FLOAT("clip.vision.attention.layer_norm_epsilon", 1e-6f),
        META_INT("clip.vision.projection_dim", 64),
        META_INT("clip.vision.spatial_merge_size", 2),
    };
    limn_weights *io = golden_open("qwen3vl/vl.io.safetensors"), *mmproj;
    model_open(&m, "qwen3vl/vl.safetensors", "qwen3vl/vl.json");
    f.file = gguf_of(&m, false, text, sizeof text / sizeof text[0]);
    mmproj = gguf_of(&m, true, vision, sizeof vision / sizeof vision[0]);
    GOLDEN_OK(limn_vl_config_read(&f.cfg, f.file, &err));
    GOLDEN_OK(limn_vl_config_read_mmproj(&f.cfg, mmproj, &err));
    assert_int_equal(f.cfg.text.stop[0], 511);
    assert_memory_equal(f.cfg.vision.deepstack, m.cfg.vision.deepstack, 3 * sizeof(int));
    f.cfg.image_token = m.cfg.image_token; /* the tiny vocabulary's own */
    f.cfg.video_token = m.cfg.video_token;
    GOLDEN_OK(limn_canon_llm(&f.text, f.file, &err));
    GOLDEN_OK(limn_canon_vision(&f.vision, mmproj, &err));
    assert_null(limn_weights_meta_str(f.vision, "limn.unmapped"));
    GOLDEN_OK(limn_model_weights_new(&f.text_weights, f.text, &err));
    GOLDEN_OK(limn_model_weights_new(&f.vision_weights, f.vision, &err));
    limn_backend *backend = golden_backend_new(&golden_backends[2]);
    for (int c = 0; c < N_CASES; c++) {
        prompt pr = prompt_make(&f, backend, &golden_backends[2], io, cases[c], RIGHT);
        whole_compare(&f, backend, &golden_backends[2], io, cases[c], &pr);
        prompt_free(&pr);
    }
    limn_backend_free(&backend);
    limn_weights_unref(&mmproj);
    model_close(&f);
    model_close(&m);
    limn_weights_unref(&io);
}

/* ---- what llama.cpp wrote ---- */

/* Greedy, one token, with the log-probabilities of the 20 likeliest. */
static limn_answer *ask(limn_seer *s, const char *question, const json_t *want) {
    limn_err err = {0};
    limn_params *see = params(LIMN_PARAMS_SEE, "max_tokens=1;logprobs=20;temperature=0");
    limn_message_part part = {.kind = LIMN_MESSAGE_TEXT, .text = question};
    limn_message m = {.role = LIMN_ROLE_USER, .parts = &part, .n_parts = 1};
    limn_talk t = {.messages = &m, .n_messages = 1};
    limn_look *l = NULL;
    limn_answer *a = NULL;
    OK(limn_look_new(&l, s, &t, see, NULL, &err));
    assert_int_equal(l->prompt.ids.len, json_array_size(want));
    for (size_t i = 0; i < l->prompt.ids.len; i++)
        assert_int_equal(l->prompt.ids.data[i], json_integer_value(json_array_get(want, i)));
    while (!limn_look_is_done(l)) OK(limn_seer_step(s, &err));
    OK(limn_look_take(&a, &l, &err));
    limn_params_free(&see);
    return a;
}

/* The same numbers out of every type: prompts have the same ids, and log-probabilities are as far
 * apart as llama.cpp's rounding of activations to 8 bits explains (0.06 to 0.09, see
 * tests/peer/README.md). */
static void test_file_by_llama_cpp(void **state) {
    (void)state;
    static const limn_dtype types[] = {LIMN_F32,  LIMN_F16,  LIMN_BF16, LIMN_Q8_0,   LIMN_Q4_0,
                                       LIMN_Q4_1, LIMN_Q5_0, LIMN_Q5_1, LIMN_Q2_K,   LIMN_Q3_K,
                                       LIMN_Q4_K, LIMN_Q5_K, LIMN_Q6_K, LIMN_IQ4_NL, LIMN_IQ4_XS};
    bool found[LIMN_DTYPE_COUNT] = {0};
    char path[512];
    json_t *root = json_load_file(golden_path(path, sizeof path, "llama/mixed.json"), 0, NULL),
           *row;
    size_t i;
    limn_seer *s = seer_on("llama/mixed-00001-of-00003.gguf", "context=512");
    for (i = 0; i < limn_weights_count(s->model->text_set); i++)
        found[limn_weights_at(s->model->text_set, i)->dtype] = true;
    for (i = 0; i < sizeof types / sizeof types[0]; i++)
        if (!found[types[i]]) fail_msg("no tensor of %s", limn_dtype_get(types[i])->name);
    assert_int_equal(json_array_size(root), 3);
    json_array_foreach(root, i, row) {
        const json_t *want = json_object_get(row, "logprobs");
        limn_answer *a = ask(s, json_string_value(json_object_get(row, "question")),
                             json_object_get(row, "prompt"));
        double sum = 0;
        for (int k = 0; k < 20; k++) {
            const limn_logprob *p = &a->tokens[0].top[k];
            sum +=
                pow((double)p->logprob - json_number_value(json_array_get(want, (size_t)p->id)), 2);
        }
        if (!(sqrt(sum / 20) < 0.15)) fail_msg("question %zu: %g apart", i, sqrt(sum / 20));
        limn_answer_free(&a);
    }
    limn_seer_free(&s);
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gguf_pair),
                                       cmocka_unit_test(test_file_by_llama_cpp)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
