/* SPDX-License-Identifier: MIT */
/*
 * A forward-only scanner for JSON headers of tensor files: no tree, no recursion, memory only for
 * the strings that the caller keeps. Errors are latched with the byte position; the caller checks
 * once. One thread at a time per scanner.
 */
#ifndef LIMN_FORMATS_JSON_SCAN_H
#define LIMN_FORMATS_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"

typedef struct limn_json_scan {
    const char *begin, *at, *end;
    const char *wrong; /* NULL while all is well; else what was expected at `at` */
} limn_json_scan;

void limn_json_scan_init(limn_json_scan *s, const char *text, size_t size);
/* Skips blanks; the next byte, or 0 at the end or after an error. */
char limn_json_scan_peek(limn_json_scan *s);
/* The next byte must be `c`; false (latched) otherwise. */
bool limn_json_scan_take(limn_json_scan *s, char c);
/* Skips `c` when it is next. */
bool limn_json_scan_skip(limn_json_scan *s, char c);
/* A string, unescaped to UTF-8, appended to `out` after clearing it. "\u0000" is refused. */
bool limn_json_scan_string(limn_json_scan *s, limn_buf *out);
/* A non-negative integer up to INT64_MAX, without fraction or exponent. */
bool limn_json_scan_count(limn_json_scan *s, int64_t *out);
/* Latches an error. Returns false. */
bool limn_json_scan_fail(limn_json_scan *s, const char *expected);

#endif
