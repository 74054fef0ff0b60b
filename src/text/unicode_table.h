/* SPDX-License-Identifier: MIT */
/* Characters newer than the regex and Unicode libraries that limn links to: kinds, so that
 * splitting treats them as the reference does, and simple lower-case mappings. Constant data, any
 * thread. */
#ifndef LIMN_TEXT_UNICODE_TABLE_H
#define LIMN_TEXT_UNICODE_TABLE_H

#include <stddef.h>
#include <stdint.h>

typedef enum limn_newer_kind {
    LIMN_NEWER_LU,
    LIMN_NEWER_LL,
    LIMN_NEWER_LM,
    LIMN_NEWER_LO,
    LIMN_NEWER_HAN, /* an ideograph (Lo) */
    LIMN_NEWER_N,
    LIMN_NEWER_M,
    LIMN_NEWER_P,
    LIMN_NEWER_S
} limn_newer_kind;

/* Code points first..last, ascending and not overlapping; all are at least U+0800. */
typedef struct limn_newer_range {
    uint32_t first, last;
    limn_newer_kind kind;
} limn_newer_range;

/* lower(cp) = cp + delta for first <= cp <= last; same UTF-8 length is not promised. */
typedef struct limn_newer_lower {
    uint32_t first, last;
    int32_t delta;
} limn_newer_lower;

extern const limn_newer_range limn_newer_ranges[];
extern const size_t limn_newer_count;
extern const limn_newer_lower limn_newer_lowers[];
extern const size_t limn_newer_lower_count;

#endif
