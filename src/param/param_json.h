/* SPDX-License-Identifier: MIT */
/* JSON pieces that the parameter readers share; other folders use strings and documents only. */
#ifndef LIMN_PARAM_PARAM_JSON_H
#define LIMN_PARAM_PARAM_JSON_H

#include <jansson.h>

#include "param/param.h"

enum { LIMN_JSON_MAX = 64 << 20 };

/* "text" with quotes and escapes; UTF-8 stays as it is. */
void limn_json_add_string(limn_buf *out, const char *text);
/* A value of any row as JSON. */
void limn_json_add_value(limn_buf *out, const limn_params *r, const limn_param *p);
/* Sets a row from a JSON value; `where` is how errors call it. */
limn_status limn_json_set_value(limn_params *r, const limn_param *p, const json_t *value,
                                const char *where, limn_source from, limn_err *err);
/* Parses a whole document; the caller gives it back with json_decref. */
limn_status limn_json_load(json_t **out, const char *text, size_t len, limn_err *err);

/* Recipes of other programs, see param_meta_foreign.c. *known tells whether `root` is one. */
limn_status limn_meta_parse_foreign(limn_params *r, const json_t *root, limn_source from,
                                    bool *known, limn_err *err);

/* Exchanges the contents of two records of one kind: a reader works on a copy and commits last. */
void limn_params_swap(limn_params *a, limn_params *b);

#endif
