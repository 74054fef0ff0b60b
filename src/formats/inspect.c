/* SPDX-License-Identifier: MIT */
/* The report of `limn info`, as text and as JSON; see detect.h. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "formats/detect.h"

static const char *const prediction_words[] = {
    [LIMN_TRAINED_EPS] = "eps",   [LIMN_TRAINED_V] = "v",     [LIMN_TRAINED_SAMPLE] = "sample",
    [LIMN_TRAINED_FLOW] = "flow", [LIMN_TRAINED_EDM] = "edm",
};

limn_status limn_inspect(limn_inspection *out, const char *path, limn_err *err) {
    *out = (limn_inspection){0};
    limn_status st = limn_weights_open(&out->weights, path, err);
    if (st == LIMN_OK) st = limn_detect(&out->info, out->weights, err);
    if (st != LIMN_OK) limn_weights_unref(&out->weights);
    return st;
}

void limn_inspection_free(limn_inspection *x) {
    limn_weights_unref(&x->weights);
    *x = (limn_inspection){0};
}

/* "859.5 M", "2.13 G" */
static void amount(limn_buf *b, double n, const char *unit) {
    if (n >= 1e9)
        limn_buf_addf(b, "%.2f G%s", n / 1e9, unit);
    else if (n >= 1e6)
        limn_buf_addf(b, "%.1f M%s", n / 1e6, unit);
    else if (n >= 1e3)
        limn_buf_addf(b, "%.1f k%s", n / 1e3, unit);
    else
        limn_buf_addf(b, "%.0f%s%s", n, unit[0] == ' ' ? "" : " ", unit);
}

static void dtypes_list(limn_buf *b, const limn_found *f) {
    const char *comma = "";
    for (int t = 0; t < LIMN_DTYPE_COUNT; t++) {
        if (f->dtype_params[t] == 0) continue;
        double share = (double)f->dtype_params[t] / (double)(f->params ? f->params : 1);
        if (share >= 0.9995)
            limn_buf_addf(b, "%s%s", comma, limn_dtype_get((limn_dtype)t)->name);
        else
            limn_buf_addf(b, "%s%s %.1f%%", comma, limn_dtype_get((limn_dtype)t)->name,
                          share * 100);
        comma = ", ";
    }
}

static void part_text(limn_buf *b, const limn_found *f) {
    limn_buf_addf(b, "  %-12s%s%s%s%s\n", limn_part_word(f->part), f->title,
                  f->variant[0] ? ", " : "", f->variant,
                  f->supported ? "" : "  (recognised, not supported yet)");
    limn_buf_addf(b, "  %-12s", "");
    amount(b, (double)f->params, " parameters in ");
    limn_buf_addf(b, "%zu tensors, ", f->tensors);
    dtypes_list(b, f);
    limn_buf_adds(b, ", ");
    amount(b, (double)f->bytes, "B");
    if (f->prefix[0]) limn_buf_addf(b, ", under '%s'", f->prefix);
    if (f->why[0]) limn_buf_addf(b, "\n  %-12sbecause %s", "", f->why);
    limn_buf_adds(b, "\n");
}

static uint64_t bytes_of(const limn_model_info *m) {
    uint64_t n = 0;
    for (size_t i = 0; i < m->n_parts; i++) n += m->part[i].bytes;
    return n;
}

void limn_inspect_text(limn_buf *b, const limn_inspection *x) {
    const limn_model_info *m = &x->info;
    limn_buf_addf(b, "%s: %s%s%s\n", limn_weights_path(x->weights), m->title,
                  m->variant[0] ? ", " : "", m->variant);
    limn_buf_addf(b, "  %-12s%s, %zu tensors\n", "format", limn_weights_format(x->weights),
                  limn_weights_count(x->weights));
    for (size_t i = 0; i < m->n_parts; i++) part_text(b, &m->part[i]);
    limn_buf_addf(b, "  %-12s", "memory");
    amount(b, (double)bytes_of(m), "B for the weights as stored (mapped from the file)\n");
    if (m->noise.train_steps)
        limn_buf_addf(b, "  %-12s%s%s%s\n", "prediction", prediction_words[m->noise.prediction],
                      m->noise.zero_snr ? ", zero terminal SNR" : "",
                      m->noise_is_sure ? "" : " (the usual one: the file does not tell)");
    for (size_t i = 0; i < m->n_missing; i++)
        limn_buf_addf(b, "  %-12s%s\n", i ? "" : "missing", m->missing[i]);
    if (m->other_tensors)
        limn_buf_addf(b, "  %-12s%zu tensors that no part needs, for example '%s'\n", "unused",
                      m->other_tensors, m->other_first);
}

static json_t *part_json(const limn_found *f) {
    json_t *types = json_object();
    for (int t = 0; t < LIMN_DTYPE_COUNT; t++)
        if (f->dtype_params[t])
            json_object_set_new(types, limn_dtype_get((limn_dtype)t)->name,
                                json_integer(f->dtype_params[t]));
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:I, s:I, s:I, s:o}", "part",
                     limn_part_word(f->part), "family", f->family, "title", f->title, "variant",
                     f->variant, "supported", (int)f->supported, "prefix", f->prefix, "why", f->why,
                     "tensors", (json_int_t)f->tensors, "parameters", (json_int_t)f->params,
                     "bytes", (json_int_t)f->bytes, "dtypes", types);
}

static json_t *info_json(const limn_inspection *x) {
    const limn_model_info *m = &x->info;
    json_t *parts = json_array(), *missing = json_array();
    for (size_t i = 0; i < m->n_parts; i++) json_array_append_new(parts, part_json(&m->part[i]));
    for (size_t i = 0; i < m->n_missing; i++)
        json_array_append_new(missing, json_string(m->missing[i]));
    json_t *tree = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:o, s:o, s:I}", "path",
        limn_weights_path(x->weights), "format", limn_weights_format(x->weights), "family",
        m->family, "title", m->title, "variant", m->variant, "supported", (int)m->supported,
        "tensors", (json_int_t)limn_weights_count(x->weights), "bytes", (json_int_t)bytes_of(m),
        "parts", parts, "missing", missing, "unused_tensors", (json_int_t)m->other_tensors);
    if (tree && m->noise.train_steps)
        json_object_set_new(tree, "prediction",
                            json_pack("{s:s, s:b, s:b}", "type",
                                      prediction_words[m->noise.prediction], "sure",
                                      (int)m->noise_is_sure, "zero_snr", (int)m->noise.zero_snr));
    return tree;
}

limn_status limn_inspect_json(limn_buf *b, const limn_inspection *x, limn_err *err) {
    json_t *tree = info_json(x);
    char *text = tree ? json_dumps(tree, JSON_INDENT(2) | JSON_ENSURE_ASCII) : NULL;
    json_decref(tree);
    if (!text)
        return limn_fail(err, LIMN_E_FORMAT, "%s: its names are not UTF-8, so no JSON can be made",
                         limn_weights_path(x->weights));
    limn_buf_adds(b, text);
    limn_buf_adds(b, "\n");
    free(text);
    return b->failed ? limn_fail(err, LIMN_E_NOMEM, "no memory for the report") : LIMN_OK;
}
