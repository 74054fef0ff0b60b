/* SPDX-License-Identifier: MIT */
/*
 * The wildcard folder of the models folder: NAME.txt holds the lines that __NAME__ stands for in a
 * prompt (prompt.h). Any thread.
 */
#ifndef LIMN_TEXT_WILDCARDS_H
#define LIMN_TEXT_WILDCARDS_H

#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"

/* Paths below the folder ("animals/cats.txt"). */
typedef struct limn_wildcard_files {
    char **path; /* [n] owned */
    size_t n, cap;
    bool failed; /* no memory: the list is not complete */
} limn_wildcard_files;

/* Adds all .txt files below root/below ("" or a path without '/' at its end), at most 20,000, eight
 * folders deep, in no order. Links are not followed; a folder that is not there has none. */
void limn_wildcard_files_scan(limn_wildcard_files *f, const char *root, const char *below);
void limn_wildcard_files_deinit(limn_wildcard_files *f);

typedef struct limn_wildcard {
    char *name; /* "animals/cats": __animals/cats__ */
    int lines;  /* that can be chosen; -1: the file is too large to count */
    int64_t modified_ms;
} limn_wildcard;
typedef struct limn_wildcards {
    limn_wildcard *items; /* [n] by name */
    size_t n;
} limn_wildcards;

/* Every wildcard of the folder. E_NOMEM. */
limn_status limn_wildcards_list(limn_wildcards *out, const char *root, limn_err *err);
void limn_wildcards_deinit(limn_wildcards *w);

#endif
