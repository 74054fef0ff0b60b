/* SPDX-License-Identifier: MIT */
/*
 * Recipes from strangers: JSON and picture text. What is accepted must be written and read back to
 * the same values; everything else must end in a status with a text.
 */
#include <stdlib.h>
#include <string.h>

#include "param/gen.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool ok) {
    if (!ok) __builtin_trap();
}

static limn_params *new_gen(void) {
    limn_params *p;
    demand(limn_params_new(&p, LIMN_PARAMS_GEN, NULL) == LIMN_OK);
    return p;
}

/* The row has the same value in both records; `flags` picks rows. */
static void demand_same(const limn_params *a, const limn_params *b, unsigned flags) {
    for (int i = 0; i < limn_gen_table.count; i++) {
        const limn_param *p = &limn_gen_table.rows[i];
        if ((p->flags & flags) == flags) demand(limn_param_equal(a, b, p));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    bool json = data[0] == '{' || (data[0] & 1);
    const char *text = (const char *)data + (data[0] == '{' ? 0 : 1);
    size_t len = size - (data[0] == '{' ? 0 : 1);
    limn_params *a = new_gen(), *b = new_gen(), *c = new_gen();
    limn_err err = {0};
    char *unknown = NULL, *out = NULL;
    limn_status st = json ? limn_params_parse_json(a, text, len, LIMN_FROM_API, &err)
                          : limn_params_parse_text(a, text, len, LIMN_FROM_FILE, &unknown, &err);
    demand(st == LIMN_OK || (err.text[0] && !strchr(err.text, '\n')));
    if (st == LIMN_OK) {
        demand(limn_params_format_json(&out, a, false, NULL) == LIMN_OK);
        demand(limn_params_parse_json(b, out, strlen(out), LIMN_FROM_API, NULL) == LIMN_OK);
        demand_same(a, b, 0);
        limn_text_free(&out);
        demand(limn_params_format_text(&out, a, NULL) == LIMN_OK);
        demand(limn_params_parse_text(c, out, strlen(out), LIMN_FROM_FILE, NULL, NULL) == LIMN_OK);
        demand_same(a, c, LIMN_P_META);
    }
    limn_text_free(&out);
    limn_text_free(&unknown);
    limn_params_free(&a);
    limn_params_free(&b);
    limn_params_free(&c);
    return 0;
}
