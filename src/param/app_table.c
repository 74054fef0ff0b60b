/* SPDX-License-Identifier: MIT */
/* How the program runs: threads, memory, folders, where results go. See param.h for the columns. */
#include <stddef.h>

#include "param/app.h"

#define F(field) .offset = offsetof(limn_app, field)

static const limn_word preview_words[] = {
    {"off", NULL, "no|none|false"}, {"auto", NULL, "on|yes|true"},   {"kitty", NULL, NULL},
    {"sixel", NULL, NULL},          {"blocks", NULL, "half-blocks"}, {NULL, NULL, NULL},
};

/* A table reads better in rows. */
/* clang-format off */
static const limn_param rows[] = {
    {.name = "threads", .type = LIMN_TYPE_INT, F(threads), .max = 256, .cli_short = 't',
     .group = "engine", .default_note = "one per core",
     .help = "compute threads (0: one per core); the picture does not depend on it"},
    {.name = "cpu_mask", .type = LIMN_TYPE_TEXT, F(cpu_mask), .max = 256, .group = "engine",
     .default_note = "all",
     .help = "instruction sets that may be used, such as c, avx2 or avx512"},
    {.name = "memory", .type = LIMN_TYPE_BYTES, F(memory), .max = 9e15, .group = "engine",
     .unit = "bytes", .default_note = "no limit",
     .help = "most memory to use, for example 6G; limn says before the work how it fits"},
    {.name = "models_dir", .type = LIMN_TYPE_TEXT, F(models_dir), .max = 4096, .group = "engine",
     .flags = LIMN_P_PATH, .default_note = "$LIMN_MODELS",
     .help = "folder in which model, LoRA and style names are looked up"},
    {.name = "cache_dir", .type = LIMN_TYPE_TEXT, F(cache_dir), .max = 4096, .group = "engine",
     .flags = LIMN_P_PATH, .default_note = "$XDG_CACHE_HOME/limn",
     .help = "folder for packed weights and for how long drawings took"},
    {.name = "output", .type = LIMN_TYPE_TEXT, F(output), .max = 4096, .cli_short = 'o',
     .group = "result", .flags = LIMN_P_PATH, .default_note = "limn-%seed.png",
     .help = "file to write; %n is replaced by a number, %seed by the seed"},
    {.name = "overwrite", .type = LIMN_TYPE_BOOL, F(overwrite), .cli_short = 'y',
     .group = "result", .help = "replace files that exist"},
    {.name = "sheet", .type = LIMN_TYPE_BOOL, F(sheet), .group = "result",
     .help = "also write a contact sheet of all pictures"},
    {.name = "labels", .type = LIMN_TYPE_LIST, F(labels), .max = 2000, .cli = "label",
     .group = "result", .default_note = "the prompts",
     .help = "limn sheet: text below the next picture; once per picture"},
    {.name = "quantize_type", .type = LIMN_TYPE_TEXT, F(quantize_type), .max = 32, .cli = "type",
     .group = "result", .default_note = "q4_k_m",
     .help = "limn quantize: how weights are stored; limn quantize --type help lists them"},
    {.name = "dry_run", .type = LIMN_TYPE_BOOL, F(dry_run), .group = "result",
     .help = "draw, redo, quantize: only say what would be done (settings, memory, time, sizes)"},
    {.name = "draw", .type = LIMN_TYPE_TEXT, F(draw), .max = 4096, .group = "result",
     .flags = LIMN_P_PATH,
     .help = "see: a copy of the picture with the boxes and points of the result drawn on it"},
    {.name = "json", .type = LIMN_TYPE_BOOL, F(json), .group = "result",
     .help = "print the result as one JSON object"},
    {.name = "preview", .type = LIMN_TYPE_ENUM, F(preview), .words = preview_words,
     .group = "result", .help = "show the picture in the terminal while it is drawn"},
    {.name = "preview_every", .type = LIMN_TYPE_INT, F(preview_every), .def.i = 5, .min = 1,
     .max = 1000, .group = "result", .unit = "steps", .help = "how often to show it"},
    {.name = "quiet", .type = LIMN_TYPE_BOOL, F(quiet), .group = "result",
     .help = "no progress, only errors"},
    {.name = "verbose", .type = LIMN_TYPE_BOOL, F(verbose), .cli_short = 'v', .group = "result",
     .help = "say what is detected, chosen and skipped"},
};
/* clang-format on */

const limn_param_table limn_app_table = {
    .name = "program",
    .rows = rows,
    .count = (int)(sizeof rows / sizeof rows[0]),
    .size = sizeof(limn_app),
};
