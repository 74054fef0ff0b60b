/* SPDX-License-Identifier: MIT */
/* Results; see drawing.h and limn.h. */
#include "pipeline/drawing.h"

#include "base/mem.h"
#include "base/status.h"

limn_status limn_drawing_new(limn_drawing **out, int count, limn_err *err) {
    limn_drawing *d = limn_mem_calloc(1, sizeof *d);
    *out = NULL;
    if (d) d->items = limn_mem_calloc((size_t)count, sizeof *d->items);
    if (!d || !d->items) {
        limn_mem_free(d);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for %d results", count);
    }
    d->count = count;
    *out = d;
    return LIMN_OK;
}

void limn_drawing_free(limn_drawing **drawing) {
    limn_drawing *d = drawing ? *drawing : NULL;
    if (!d) return;
    for (int i = 0; i < d->count; i++) {
        limn_image_free(&d->items[i].image);
        limn_params_free(&d->items[i].params);
        limn_text_free(&d->items[i].text);
    }
    limn_mem_free(d->items);
    limn_mem_free(d);
    *drawing = NULL;
}

static const limn_drawn *item_at(const limn_drawing *d, int i) {
    return i >= 0 && i < d->count ? &d->items[i] : NULL;
}

int limn_drawing_count(const limn_drawing *d) {
    return d->count;
}

const limn_image *limn_drawing_image(const limn_drawing *d, int i) {
    return item_at(d, i) ? d->items[i].image : NULL;
}

const limn_params *limn_drawing_params(const limn_drawing *d, int i) {
    return item_at(d, i) ? d->items[i].params : NULL;
}

const char *limn_drawing_text(const limn_drawing *d, int i) {
    return item_at(d, i) ? d->items[i].text : NULL;
}
