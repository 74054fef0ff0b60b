/* SPDX-License-Identifier: MIT */
/* Overlap check of tensor data; see byte_ranges.h. */
#include "formats/byte_ranges.h"

#include <stdlib.h>

#include "base/log.h"

bool limn_byte_ranges_add(limn_byte_ranges *r, uint64_t begin, uint64_t end, size_t tensor) {
    if (r->count == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 256;
        limn_byte_range *p = limn_mem_realloc(r->list, cap * sizeof *p);
        if (!p) return false;
        r->list = p;
        r->cap = cap;
    }
    r->list[r->count++] = (limn_byte_range){begin, end, tensor};
    return true;
}

static int range_compare(const void *a, const void *b) {
    const limn_byte_range *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

limn_status limn_byte_ranges_check(limn_byte_ranges *r, const limn_weights *w, uint64_t size,
                                   limn_err *err) {
    if (r->count == 0) return LIMN_OK;
    qsort(r->list, r->count, sizeof *r->list, range_compare);
    uint64_t at = 0, unused = 0;
    const limn_byte_range *last = NULL;
    for (size_t i = 0; i < r->count; i++) {
        const limn_byte_range *now = &r->list[i];
        if (now->begin == now->end) continue;
        if (now->begin < at)
            return limn_fail(err, LIMN_E_FORMAT, "%s: tensors '%s' and '%s' overlap",
                             limn_weights_path(w), limn_weights_name(w, last->tensor),
                             limn_weights_name(w, now->tensor));
        unused += now->begin - at;
        at = now->end;
        last = now;
    }
    unused += size - at;
    if (unused > 0)
        limn_log(LIMN_LOG_DEBUG, "load", "%s: %llu bytes belong to no tensor", limn_weights_path(w),
                 (unsigned long long)unused);
    return LIMN_OK;
}

void limn_byte_ranges_deinit(limn_byte_ranges *r) {
    limn_mem_free(r->list);
    *r = (limn_byte_ranges){0};
}
