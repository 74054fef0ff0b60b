/* SPDX-License-Identifier: MIT */
/*
 * How to look and to answer: one row for every value that a question can carry. See param.h for the
 * columns. Ranges and meanings of the sampling rows are those of transformers and of OpenAI's API.
 */
#include <stddef.h>

#include "param/seeing.h"

#define F(field) .offset = offsetof(limn_seeing, field)
#define RANGE(lo, hi) .min = (lo), .max = (hi)
#define UI(lo, hi, st) .ui_min = (lo), .ui_max = (hi), .ui_step = (st)
#define PATH_MAX_BYTES 4096
#define TEXT_MAX_BYTES (4 << 20)
#define GRAMMAR_MAX_BYTES (1 << 20)
#define SEED_MAX 9007199254740991.0 /* 2^53 - 1: exact in JSON readers of every language */

static const limn_word template_words[] = {
    {"auto", NULL, NULL},
    {"qwen3vl", NULL, "qwen3-vl|qwen3vl_instruct"},
    {"qwen3vl-thinking", NULL, "qwen3-vl-thinking"},
    {"qwen3", NULL, NULL},
    {"chatml", NULL, NULL},
    {NULL, NULL, NULL},
};
static const limn_word format_words[] = {
    {"auto", NULL, NULL},  {"text", NULL, "txt|plain"}, {"markdown", NULL, "md"},
    {"html", NULL, "htm"}, {"json", NULL, NULL},        {"csv", NULL, NULL},
    {NULL, NULL, NULL},
};
static const limn_word cache_words[] = {
    {"auto", NULL, NULL},       {"f32", NULL, "float32"},  {"f16", NULL, "float16"},
    {"bf16", NULL, "bfloat16"}, {"q8_0", NULL, "q8|int8"}, {NULL, NULL, NULL},
};
static const limn_word precision_words[] = {
    {"auto", NULL, "fast"},     {"exact", NULL, "f32|fp32|float32"},
    {"bf16", NULL, "bfloat16"}, {"int8", NULL, "i8"},
    {NULL, NULL, NULL},
};

/* A table reads better in rows. */
/* clang-format off */
static const limn_param rows[] = {
    /* ---- question ---- */
    {.name = "prompt", .type = LIMN_TYPE_TEXT, F(prompt), .max = TEXT_MAX_BYTES, .cli_short = 'p',
     .aliases = "question", .group = "question",
     .help = "what to ask; see also takes it as its last argument"},
    {.name = "system", .type = LIMN_TYPE_TEXT, F(system), .max = TEXT_MAX_BYTES,
     .aliases = "system_prompt", .group = "question",
     .help = "instructions that stand before the conversation"},
    /* ---- task ---- */
    {.name = "task", .type = LIMN_TYPE_TEXT, F(task), .def.s = "ask", .max = 64, .cli_short = 'T',
     .group = "task", .list = "task", .help = "what to do with the pictures; limn tasks lists them"},
    {.name = "format", .type = LIMN_TYPE_ENUM, F(format), .words = format_words, .cli_short = 'f',
     .group = "task", .default_note = "what the task gives first",
     .help = "form of the result; limn tasks says which a task has"},
    {.name = "categories", .type = LIMN_TYPE_LIST, F(categories), .max = 512, .cli = "category",
     .cli_short = 'c', .aliases = "classes|choices", .group = "task",
     .help = "what to look for or to choose from (classify, tag, boxes, points, follow); may be "
             "repeated"},
    {.name = "keys", .type = LIMN_TYPE_LIST, F(keys), .max = 512, .cli = "key", .cli_short = 'k',
     .group = "task", .help = "a value to extract; may be repeated"},
    {.name = "policy", .type = LIMN_TYPE_TEXT, F(policy), .max = GRAMMAR_MAX_BYTES,
     .group = "task", .default_note = "weapon, alcohol, tobacco, gambling, medical",
     .help = "JSON with the categories of moderate (@FILE reads it), see docs/TASKS.md"},
    /* ---- model ---- */
    {.name = "model", .type = LIMN_TYPE_TEXT, F(model), .max = PATH_MAX_BYTES, .cli_short = 'm',
     .group = "model", .default_note = "the bundled model", .flags = LIMN_P_PATH,
     .help = "Qwen3-VL or a text model: a folder, a GGUF file, or a name in the models folder"},
    {.name = "vision_model", .type = LIMN_TYPE_TEXT, F(vision_model), .max = PATH_MAX_BYTES,
     .aliases = "mmproj", .group = "model", .default_note = "mmproj*.gguf beside the model",
     .flags = LIMN_P_PATH, .help = "GGUF file with the vision tower of a GGUF model"},
    {.name = "chat_template", .type = LIMN_TYPE_ENUM, F(chat_template), .words = template_words,
     .group = "model", .default_note = "as the model's files say",
     .help = "how a conversation is written for the model"},
    {.name = "context", .type = LIMN_TYPE_INT, F(context), RANGE(0, 1048576), .aliases = "n_ctx|ctx_size",
     .group = "model", .unit = "tokens", .default_note = "the model's own, at most 32768",
     UI(1024, 262144, 1024), .help = "tokens that a conversation may hold (0: automatic)"},
    {.name = "sequences", .type = LIMN_TYPE_INT, F(sequences), .def.i = 1, RANGE(1, 64),
     .aliases = "parallel", .group = "model", UI(1, 16, 1),
     .help = "conversations that are held at once; each has a context of its own"},
    {.name = "cache_type", .type = LIMN_TYPE_ENUM, F(cache_type), .words = cache_words,
     .group = "model",
     .help = "type of the keys and values that are kept (auto: f32 when the precision is exact, "
             "else f16); q8_0 takes half the memory of f16"},
    {.name = "precision", .type = LIMN_TYPE_ENUM, F(precision), .words = precision_words,
     .group = "model", .help = "exact computes in f32; auto is the fastest within stated errors"},
    /* ---- pictures ---- */
    {.name = "image_min_tokens", .type = LIMN_TYPE_INT, F(image_min_tokens), RANGE(0, 16384),
     .group = "pictures", .unit = "tokens", .default_note = "as the model's files say",
     UI(4, 4096, 4), .help = "smaller pictures are enlarged to this many tokens (1024 helps boxes)"},
    {.name = "image_max_tokens", .type = LIMN_TYPE_INT, F(image_max_tokens), RANGE(0, 16384),
     .group = "pictures", .unit = "tokens", .default_note = "as the model's files say",
     UI(64, 16384, 64), .help = "larger pictures are reduced to this many tokens"},
    {.name = "number_pictures", .type = LIMN_TYPE_BOOL, F(number_pictures),
     .aliases = "add_vision_id", .group = "pictures",
     .help = "write \"Picture 1:\" before each picture, so that the question can name them"},
    {.name = "picture_cache", .type = LIMN_TYPE_BYTES, F(picture_cache), .def.i = 268435456,
     .max = 9e15, .group = "pictures", .unit = "bytes",
     .help = "memory for encoded pictures, so that a picture seen again costs nothing"},
    /* ---- clips and pages ---- */
    {.name = "fps", .type = LIMN_TYPE_REAL, F(fps), .def.r = 2, RANGE(0.01, 60),
     .group = "clips and pages", .unit = "frames per second", UI(0.5, 8, 0.5),
     .help = "frames of a video that are looked at, per second of the clip"},
    {.name = "frames", .type = LIMN_TYPE_INT, F(frames), RANGE(0, 768), .group = "clips and pages",
     .default_note = "by --fps", UI(4, 256, 2),
     .help = "look at this many frames, evenly spread (0: as --fps says)"},
    {.name = "max_frames", .type = LIMN_TYPE_INT, F(max_frames), .def.i = 768, RANGE(1, 768),
     .group = "clips and pages", UI(4, 768, 4), .help = "never more frames than this"},
    {.name = "start", .type = LIMN_TYPE_REAL, F(start), RANGE(0, 1000000),
     .group = "clips and pages", .unit = "seconds", .help = "where in the clip to begin"},
    {.name = "end", .type = LIMN_TYPE_REAL, F(end), RANGE(0, 1000000), .group = "clips and pages",
     .unit = "seconds", .default_note = "the end of the clip", .help = "where in the clip to end"},
    {.name = "pages", .type = LIMN_TYPE_TEXT, F(pages), .max = 32, .group = "clips and pages",
     .default_note = "all", .help = "pages of a document: 3, 2-5 or 4-"},
    {.name = "dpi", .type = LIMN_TYPE_REAL, F(dpi), .def.r = 150, RANGE(18, 1200),
     .group = "clips and pages", UI(72, 300, 6), .help = "how fine pages of a PDF are drawn"},
    /* ---- sampling ---- */
    {.name = "temperature", .type = LIMN_TYPE_REAL, F(temperature), RANGE(0, 5), .group = "sampling",
     .flags = LIMN_P_MODEL_DEFAULT, .default_note = "what the model advises, else 0",
     UI(0, 2, 0.05), .help = "0 always takes the likeliest token, higher is freer"},
    {.name = "top_k", .type = LIMN_TYPE_INT, F(top_k), RANGE(0, 1000000), .group = "sampling",
     .flags = LIMN_P_MODEL_DEFAULT, UI(0, 200, 1), .help = "only the k likeliest tokens (0: all)"},
    {.name = "top_p", .type = LIMN_TYPE_REAL, F(top_p), .def.r = 1, RANGE(0.000001, 1),
     .group = "sampling", .flags = LIMN_P_MODEL_DEFAULT, UI(0.05, 1, 0.05),
     .help = "only the likeliest tokens that together have this probability"},
    {.name = "min_p", .type = LIMN_TYPE_REAL, F(min_p), RANGE(0, 1), .group = "sampling",
     .flags = LIMN_P_MODEL_DEFAULT, UI(0, 1, 0.01),
     .help = "only tokens with this share of the likeliest one's probability"},
    {.name = "repetition_penalty", .type = LIMN_TYPE_REAL, F(repetition_penalty), .def.r = 1,
     RANGE(0.01, 10), .group = "sampling", .flags = LIMN_P_MODEL_DEFAULT,
     UI(1, 2, 0.05), .help = "divides the logits of tokens that were seen (1: off)"},
    {.name = "presence_penalty", .type = LIMN_TYPE_REAL, F(presence_penalty), RANGE(-10, 10),
     .group = "sampling", UI(-2, 2, 0.1),
     .help = "taken from tokens that the answer already has; harms tables and text reading"},
    {.name = "frequency_penalty", .type = LIMN_TYPE_REAL, F(frequency_penalty), RANGE(-10, 10),
     .group = "sampling", UI(-2, 2, 0.1),
     .help = "taken from tokens for each time that the answer has them"},
    {.name = "logit_bias", .type = LIMN_TYPE_LIST, F(logit_bias), .max = 64, .group = "sampling",
     .help = "TOKEN-ID:BIAS from -100 (never) to 100; may be repeated"},
    {.name = "seed", .type = LIMN_TYPE_INT, F(seed), RANGE(0, SEED_MAX), .cli_short = 'r',
     .group = "sampling", .default_note = "random", .flags = LIMN_P_RANDOM,
     .help = "the same seed gives the same answer; without effect at temperature 0"},
    /* ---- answer ---- */
    {.name = "max_tokens", .type = LIMN_TYPE_INT, F(max_tokens), RANGE(0, 1048576),
     .cli_short = 'n', .aliases = "max_completion_tokens|max_new_tokens|n_predict",
     .group = "answer", .unit = "tokens", .default_note = "as many as fit", UI(0, 4096, 64),
     .help = "length of the answer (0: as many as fit)"},
    {.name = "draft_tokens", .type = LIMN_TYPE_INT, F(draft_tokens), .def.i = 3, RANGE(0, 3),
     .aliases = "draft_max", .group = "answer", .unit = "tokens",
     .help = "tokens that are guessed from the text so far and checked together, where that is faster; "
             "the answer stays the same (0: none)"},
    {.name = "loop_limit", .type = LIMN_TYPE_INT, F(loop_limit), .def.i = 512, RANGE(0, 1048576),
     .group = "answer", .unit = "tokens", UI(0, 4096, 64),
     .help = "an answer ends when so many tokens only repeat a piece of at most 128, eight times "
             "or more (0: never)"},
    {.name = "stop", .type = LIMN_TYPE_LIST, F(stop), .max = 256, .group = "answer",
     .help = "a text that ends the answer; may be repeated, at most 16 times"},
    {.name = "logprobs", .type = LIMN_TYPE_INT, F(logprobs), RANGE(0, 20),
     .aliases = "top_logprobs", .group = "answer", .default_note = "none",
     .help = "also give the probability of each token and of this many likeliest ones"},
    {.name = "thinking", .type = LIMN_TYPE_BOOL, F(thinking), .def.i = 1, .group = "answer",
     .help = "let models that can choose think before they answer"},
    {.name = "schema", .type = LIMN_TYPE_TEXT, F(schema), .max = GRAMMAR_MAX_BYTES,
     .aliases = "json_schema", .group = "answer",
     .help = "JSON Schema that the answer keeps to (@FILE reads it)"},
    {.name = "grammar", .type = LIMN_TYPE_TEXT, F(grammar), .max = GRAMMAR_MAX_BYTES,
     .group = "answer", .help = "GBNF grammar that the answer keeps to (@FILE reads it)"},
};
/* clang-format on */

const limn_param_table limn_seeing_table = {
    .name = "seeing",
    .rows = rows,
    .count = (int)(sizeof rows / sizeof rows[0]),
    .size = sizeof(limn_seeing),
};
