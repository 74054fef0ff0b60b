/* SPDX-License-Identifier: MIT */
/*
 * Named styles: texts that are spliced around a prompt. Files are A1111's CSV (name, prompt,
 * negative_prompt) or SD.Next's JSON (an object or a list of objects with name, prompt, negative,
 * extra, wildcards, preview). Immutable once loaded; any thread may read.
 */
#ifndef LIMN_TEXT_STYLES_H
#define LIMN_TEXT_STYLES_H

#include <stddef.h>

#include "base/mem.h"
#include "base/status.h"

typedef struct limn_style {
    const char *name, *prompt, *negative, *extra, *wildcards; /* never NULL */
} limn_style;

typedef struct limn_styles {
    const limn_style *items; /* in file order; a later style of the same name wins */
    size_t n;
} limn_styles;

/* A .csv or .json file, or a folder of them (sorted by path, not followed out of the folder).
 * Errors: E_NOT_FOUND, E_IO, E_FORMAT, E_LIMIT (files above 16 MiB, more than 65,536 styles). */
limn_status limn_styles_load(limn_styles **out, const char *path, limn_err *err);
void limn_styles_free(limn_styles **s);
const limn_style *limn_styles_find(const limn_styles *s, const char *name); /* NULL: absent */

/* Splices the named styles, in order, into both texts: "{prompt}" in a style is replaced by the
 * text, otherwise the style is appended after ", ". Both results go to caller's buffers. A style's
 * `wildcards` ("what=a,b,c; ...") replaces each word by one of its values, chosen by `seed`.
 * E_NOT_FOUND names an unknown style. */
limn_status limn_styles_apply(const limn_styles *s, limn_buf *prompt, limn_buf *negative,
                              const char *const *names, size_t n_names, const char *text,
                              const char *negative_text, uint64_t seed, limn_err *err);

#endif
