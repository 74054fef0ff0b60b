/* SPDX-License-Identifier: MIT */
/*
 * A pull reader for large JSON: walks a text once without building a tree. tokenizer.json holds
 * several hundred thousand strings; everything small is cut out as a range and given to jansson.
 * Strict (RFC 8259), nesting bounded by LIMN_JSON_DEPTH. One thread at a time.
 */
#ifndef LIMN_TEXT_JSONSCAN_H
#define LIMN_TEXT_JSONSCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"

#define LIMN_JSON_DEPTH 128

typedef struct limn_jsonscan {
    const char *s;
    size_t n, at;
    limn_buf key; /* text of the last string that was read */
} limn_jsonscan;

void limn_jsonscan_init(limn_jsonscan *j, const char *s, size_t n);
void limn_jsonscan_deinit(limn_jsonscan *j);

/* Character that begins the next value or punctuation, 0 at the end. Skips white space. */
char limn_jsonscan_peek(limn_jsonscan *j);
/* Reads one punctuation character. E_FORMAT when another stands there. */
limn_status limn_jsonscan_expect(limn_jsonscan *j, char c, limn_err *err);
/* Reads a string into j->key (decoded UTF-8, may hold NUL bytes). */
limn_status limn_jsonscan_string(limn_jsonscan *j, limn_err *err);
/* Reads a whole number that fits in int64. */
limn_status limn_jsonscan_int(limn_jsonscan *j, int64_t *out, limn_err *err);
limn_status limn_jsonscan_number(limn_jsonscan *j, double *out, limn_err *err);
/* Passes over one value; its text is s[*begin .. *end). */
limn_status limn_jsonscan_skip(limn_jsonscan *j, size_t *begin, size_t *end, limn_err *err);
/* Loop over an object or array: call with *first = true before the first member; sets *more. */
limn_status limn_jsonscan_next(limn_jsonscan *j, char open, bool *first, bool *more, limn_err *err);

#endif
