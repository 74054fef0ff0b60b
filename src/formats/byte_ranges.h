/* SPDX-License-Identifier: MIT */
/* Which bytes of a file belong to which tensor: collected while a header is read, checked once for
 * overlaps. Owned by one loader, one thread. */
#ifndef LIMN_FORMATS_BYTE_RANGES_H
#define LIMN_FORMATS_BYTE_RANGES_H

#include "formats/weights.h"

typedef struct limn_byte_range {
    uint64_t begin, end;
    size_t tensor; /* index in the set */
} limn_byte_range;

typedef struct limn_byte_ranges {
    limn_byte_range *list;
    size_t count, cap;
} limn_byte_ranges;

/* false: out of memory */
bool limn_byte_ranges_add(limn_byte_ranges *r, uint64_t begin, uint64_t end, size_t tensor);
/* E_FORMAT naming the two tensors when ranges overlap; else logs how many of `size` bytes belong to
 * none. Sorts the list. */
limn_status limn_byte_ranges_check(limn_byte_ranges *r, const limn_weights *w, uint64_t size,
                                   limn_err *err);
void limn_byte_ranges_deinit(limn_byte_ranges *r);

#endif
