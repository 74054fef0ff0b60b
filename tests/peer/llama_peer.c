/* SPDX-License-Identifier: MIT */
/*
 * llama.cpp as a judge of limn's GGUF files, through its own public headers (llama.h, mtmd.h):
 *
 *     llama_peer quantize IN OUT TYPE [NAMES=TYPE ...]    what llama-quantize does
 *     llama_peer ask MODEL PROMPT N [MMPROJ RGB WIDTH HEIGHT]
 *     llama_peer encode MODEL MMPROJ SIDE RUNS THREADS    the time of the vision tower alone
 *
 * `ask` prints JSON: the ids of the prompt, N greedy tokens, and the log-probabilities of the whole
 * vocabulary for the first of them. KV caches are f32 and flash attention is off. PROMPT has
 * control tokens in it and, for a picture (RGB bytes), mtmd's marker. Built by llama.py, never with
 * limn.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama.h"
#ifdef WITH_MTMD
#include "mtmd.h"
#endif

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR || getenv("LLAMA_PEER_LOG")) fputs(text, stderr);
}

static int die(const char *why) {
    fprintf(stderr, "llama_peer: %s\n", why);
    return 1;
}

/* ---- quantize ---- */

static const struct {
    const char *name;
    enum llama_ftype type;
} types[] = {
    {"f32", LLAMA_FTYPE_ALL_F32},          {"f16", LLAMA_FTYPE_MOSTLY_F16},
    {"bf16", LLAMA_FTYPE_MOSTLY_BF16},     {"q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},
    {"q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},     {"q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},
    {"q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},     {"q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},
    {"q2_k", LLAMA_FTYPE_MOSTLY_Q2_K},     {"q3_k_s", LLAMA_FTYPE_MOSTLY_Q3_K_S},
    {"q3_k_m", LLAMA_FTYPE_MOSTLY_Q3_K_M}, {"q4_k_s", LLAMA_FTYPE_MOSTLY_Q4_K_S},
    {"q4_k_m", LLAMA_FTYPE_MOSTLY_Q4_K_M}, {"q5_k_s", LLAMA_FTYPE_MOSTLY_Q5_K_S},
    {"q5_k_m", LLAMA_FTYPE_MOSTLY_Q5_K_M}, {"q6_k", LLAMA_FTYPE_MOSTLY_Q6_K},
    {"iq4_nl", LLAMA_FTYPE_MOSTLY_IQ4_NL}, {"iq4_xs", LLAMA_FTYPE_MOSTLY_IQ4_XS},
};

enum { OVERRIDES = 64 };

/* "REGEX=TYPE" in ggml's words. */
static int override_read(struct llama_model_tensor_override *o, char *text) {
    char *name = strchr(text, '=');
    if (!name) return 1;
    *name++ = 0;
    o->pattern = text;
    for (int t = 0; t < GGML_TYPE_COUNT; t++) {
        o->type = (enum ggml_type)t;
        if (ggml_type_name(o->type) && strcmp(name, ggml_type_name(o->type)) == 0) return 0;
    }
    return 1;
}

static int quantize(int argc, char **argv) {
    struct llama_model_quantize_params p = llama_model_quantize_default_params();
    struct llama_model_tensor_override list[OVERRIDES + 1] = {{0}};
    p.nthread = 1;
    p.allow_requantize = true;
    for (int i = 5; i < argc; i++)
        if (i - 5 >= OVERRIDES || override_read(&list[i - 5], argv[i])) return die("what types?");
    if (argc > 5) p.tt_overrides = list;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(argv[4], types[i].name) != 0) continue;
        p.ftype = types[i].type;
        return llama_model_quantize(argv[2], argv[3], &p) == 0 ? 0 : die("cannot quantize");
    }
    return die("what type?");
}

/* ---- ask ---- */

typedef struct peer {
    struct llama_model *model;
    struct llama_context *ctx;
    const struct llama_vocab *vocab;
    int n_vocab;
    llama_pos at; /* rotary position of the next token */
} peer;

static int peer_open(peer *p, const char *path) {
    struct llama_model_params m = llama_model_default_params();
    m.n_gpu_layers = 0;
    m.use_extra_bufts = false; /* the plain kernels of each type */
    p->model = llama_model_load_from_file(path, m);
    if (!p->model) return die("cannot open the model");
    struct llama_context_params c = llama_context_default_params();
    c.n_ctx = 2048;
    c.n_batch = c.n_ubatch = 2048;
    c.n_threads = c.n_threads_batch = 1;
    c.type_k = c.type_v = GGML_TYPE_F32;
    c.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    p->ctx = llama_init_from_model(p->model, c);
    if (!p->ctx) return die("cannot make a context");
    p->vocab = llama_model_get_vocab(p->model);
    p->n_vocab = llama_vocab_n_tokens(p->vocab);
    p->at = 0;
    return 0;
}

/* Tokens at the next positions; logits of the last. */
static int feed(peer *p, const llama_token *ids, int n) {
    struct llama_batch b = llama_batch_init(n, 0, 1);
    for (int i = 0; i < n; i++) {
        b.token[i] = ids[i];
        b.pos[i] = p->at + i;
        b.n_seq_id[i] = 1;
        b.seq_id[i][0] = 0;
        b.logits[i] = i == n - 1;
    }
    b.n_tokens = n;
    p->at += n;
    int failed = llama_decode(p->ctx, b);
    llama_batch_free(b);
    return failed ? die("cannot decode") : 0;
}

static void print_ids(const char *name, const llama_token *ids, int n, int more) {
    printf("%s\"%s\": [", more ? "" : "{", name);
    for (int i = 0; i < n; i++) printf("%s%d", i ? ", " : "", ids[i]);
    printf("], ");
}

static void print_logprobs(const float *logits, int n) {
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) top = logits[i] > top ? logits[i] : top;
    for (int i = 0; i < n; i++) sum += exp(logits[i] - top);
    printf("\"logprobs\": [");
    for (int i = 0; i < n; i++) printf("%s%.7g", i ? ", " : "", logits[i] - top - log(sum));
    printf("]}\n");
}

static int write_tokens(peer *p, int n) {
    llama_token *made = calloc((size_t)n, sizeof *made);
    float *first = malloc((size_t)p->n_vocab * sizeof *first);
    int failed = !made || !first ? die("no memory") : 0;
    for (int k = 0; k < n && !failed; k++) {
        const float *logits = llama_get_logits_ith(p->ctx, -1);
        if (k == 0) memcpy(first, logits, (size_t)p->n_vocab * sizeof *first);
        for (int i = 1; i < p->n_vocab; i++)
            if (logits[i] > logits[made[k]]) made[k] = i;
        failed = feed(p, made + k, 1);
    }
    if (!failed) print_ids("tokens", made, n, 1);
    if (!failed) print_logprobs(first, p->n_vocab);
    free(made);
    free(first);
    return failed;
}

static int ask_text(peer *p, const char *prompt) {
    llama_token ids[1024];
    int n = llama_tokenize(p->vocab, prompt, (int32_t)strlen(prompt), ids, 1024, false, true);
    if (n < 1) return die("cannot split the prompt");
    print_ids("prompt", ids, n, 0);
    return feed(p, ids, n);
}

#ifdef WITH_MTMD
/* The rows of a picture, at positions of its own. */
static int feed_picture(peer *p, mtmd_context *m, const mtmd_input_chunk *c) {
    if (mtmd_encode_chunk(m, c) != 0) return die("cannot encode the picture");
    const mtmd_image_tokens *im = mtmd_input_chunk_get_tokens_image(c);
    int n = (int)mtmd_input_chunk_get_n_tokens(c), failed = 0;
    llama_pos *pos = calloc((size_t)n * 4, sizeof *pos);
    int32_t *one = malloc((size_t)n * sizeof *one);
    llama_seq_id zero = 0, **ids = malloc((size_t)n * sizeof *ids);
    int8_t *none = calloc((size_t)n, 1);
    for (int i = 0; i < n; i++) {
        struct mtmd_decoder_pos r = mtmd_image_tokens_get_decoder_pos(im, p->at, (size_t)i);
        pos[i] = (llama_pos)r.t;
        pos[n + i] = (llama_pos)r.y;
        pos[2 * n + i] = (llama_pos)r.x;
        one[i] = 1;
        ids[i] = &zero;
    }
    struct llama_batch b = {.n_tokens = n,
                            .embd = mtmd_get_output_embd(m),
                            .pos = pos,
                            .n_seq_id = one,
                            .seq_id = ids,
                            .logits = none};
    if (llama_decode(p->ctx, b) != 0) failed = die("cannot decode the picture");
    p->at += mtmd_input_chunk_get_n_pos(c);
    free(pos);
    free(one);
    free(ids);
    free(none);
    return failed;
}

static int ask_picture(peer *p, const char *prompt, const char *mmproj, const char *rgb, int w,
                       int h) {
    struct mtmd_context_params params = mtmd_context_params_default();
    params.use_gpu = false;
    params.n_threads = 1;
    params.warmup = false;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    mtmd_log_set(quiet, NULL);
    mtmd_context *m = mtmd_init_from_file(mmproj, p->model, params);
    if (!m) return die("cannot open the vision tower");
    size_t bytes = (size_t)w * (size_t)h * 3;
    unsigned char *px = malloc(bytes);
    FILE *f = fopen(rgb, "rb");
    if (!px || !f || fread(px, 1, bytes, f) != bytes) return die("cannot read the picture");
    fclose(f);
    mtmd_bitmap *bitmap = mtmd_bitmap_init((uint32_t)w, (uint32_t)h, px);
    const mtmd_bitmap *bitmaps[] = {bitmap};
    mtmd_input_chunks *chunks = mtmd_input_chunks_init();
    mtmd_input_text text = {prompt, strlen(prompt), false, true};
    if (mtmd_tokenize(m, chunks, &text, bitmaps, 1) != 0) return die("cannot split the prompt");
    llama_token all[2048];
    int n = 0, failed = 0;
    for (size_t i = 0; i < mtmd_input_chunks_size(chunks) && !failed; i++) {
        const mtmd_input_chunk *c = mtmd_input_chunks_get(chunks, i);
        size_t count = mtmd_input_chunk_get_n_tokens(c);
        if ((size_t)n + count > 2048) return die("a prompt of more than 2048 tokens");
        if (mtmd_input_chunk_get_type(c) == MTMD_INPUT_CHUNK_TYPE_TEXT) {
            const llama_token *ids = mtmd_input_chunk_get_tokens_text(c, &count);
            memcpy(all + n, ids, count * sizeof *ids);
            failed = feed(p, ids, (int)count);
        } else {
            for (size_t k = 0; k < count; k++) all[n + (int)k] = -1;
            failed = feed_picture(p, m, c);
        }
        n += (int)count;
    }
    if (!failed) print_ids("prompt", all, n, 0);
    free(px);
    mtmd_bitmap_free(bitmap);
    mtmd_input_chunks_free(chunks);
    mtmd_free(m);
    return failed;
}

/* Seconds of the tower for a square picture, the way mtmd chooses by itself. */
static int encode(char **argv) {
    peer p;
    int side = atoi(argv[4]), runs = atoi(argv[5]), failed = peer_open(&p, argv[2]);
    if (failed || side < 32) return failed ? failed : die("how large a picture?");
    struct mtmd_context_params params = mtmd_context_params_default();
    params.use_gpu = false;
    params.n_threads = atoi(argv[6]);
    mtmd_log_set(quiet, NULL);
    mtmd_context *m = mtmd_init_from_file(argv[3], p.model, params);
    unsigned char *px = calloc((size_t)side * (size_t)side, 3);
    if (!m || !px) return die("cannot open the vision tower");
    for (int i = 0; i < side * side * 3; i++) px[i] = (unsigned char)(i * 7);
    mtmd_bitmap *bitmap = mtmd_bitmap_init((uint32_t)side, (uint32_t)side, px);
    const mtmd_bitmap *bitmaps[] = {bitmap};
    mtmd_input_chunks *chunks = mtmd_input_chunks_init();
    mtmd_input_text text = {mtmd_default_marker(), strlen(mtmd_default_marker()), false, true};
    if (mtmd_tokenize(m, chunks, &text, bitmaps, 1) != 0) return die("cannot split the prompt");
    for (size_t i = 0; i < mtmd_input_chunks_size(chunks) && !failed; i++) {
        const mtmd_input_chunk *c = mtmd_input_chunks_get(chunks, i);
        if (mtmd_input_chunk_get_type(c) != MTMD_INPUT_CHUNK_TYPE_IMAGE) continue;
        for (int run = 0; run < runs && !failed; run++) {
            int64_t from = ggml_time_us();
            failed = mtmd_encode_chunk(m, c);
            printf("%zu tokens, %.3f s\n", mtmd_input_chunk_get_n_tokens(c),
                   (double)(ggml_time_us() - from) * 1e-6);
        }
    }
    free(px);
    mtmd_bitmap_free(bitmap);
    mtmd_input_chunks_free(chunks);
    mtmd_free(m);
    llama_free(p.ctx);
    llama_model_free(p.model);
    return failed ? die("cannot encode the picture") : 0;
}
#endif

static int ask(int argc, char **argv) {
    peer p;
    int failed = peer_open(&p, argv[2]);
    if (failed) return failed;
    if (argc == 5) failed = ask_text(&p, argv[3]);
#ifdef WITH_MTMD
    else if (argc == 9)
        failed = ask_picture(&p, argv[3], argv[5], argv[6], atoi(argv[7]), atoi(argv[8]));
#endif
    else
        failed = die("this build has no mtmd");
    if (!failed) failed = write_tokens(&p, atoi(argv[4]));
    llama_free(p.ctx);
    llama_model_free(p.model);
    return failed;
}

int main(int argc, char **argv) {
    llama_log_set(quiet, NULL);
    ggml_backend_load_all_from_path(LLAMA_LIBRARIES); /* libggml-cpu-*.so */
    llama_backend_init();
    if (argc == 2 && strcmp(argv[1], "features") == 0) {
#ifdef WITH_MTMD
        puts("mtmd");
#endif
        return 0;
    }
    if (argc >= 5 && strcmp(argv[1], "quantize") == 0) return quantize(argc, argv);
    if (argc >= 5 && strcmp(argv[1], "ask") == 0) return ask(argc, argv);
#ifdef WITH_MTMD
    if (argc == 7 && strcmp(argv[1], "encode") == 0) return encode(argv);
#endif
    return die("usage: quantize IN OUT TYPE | ask MODEL PROMPT N [MMPROJ RGB WIDTH HEIGHT] | "
               "encode MODEL MMPROJ SIDE RUNS THREADS");
}
