/* SPDX-License-Identifier: MIT */
/* Shared by the files prompt*.c and nobody else: brackets, numbers, words, random choice. */
#ifndef LIMN_TEXT_PROMPT_IMPL_H
#define LIMN_TEXT_PROMPT_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"
#include "text/prompt.h"

#define LIMN_NO_MATCH UINT32_MAX

/* The partner of every bracket in s[0..n): match[i], LIMN_NO_MATCH for strays and other characters.
 * `kinds` lists the opening brackets that count. A backslash hides the next byte. A closing bracket
 * ends the nearest open one of its kind; those opened in between are strays. Linear. NULL: no
 * memory. The caller frees with limn_mem_free. */
uint32_t *limn_prompt_match(const char *s, size_t n, const char *kinds);

/* Parses all of s[0..n), white space around it allowed: [+-] digits with at most one point. */
bool limn_prompt_number(const char *s, size_t n, double *out);

/* True when the word of `len` bytes at s[i] stands alone: no letter, digit or _ next to it. */
bool limn_prompt_word_at(const char *s, size_t n, size_t i, const char *word, size_t len);

/* Length of "__name__" at s[i], 0: none. The name is s[i + 2 .. i + length - 2). */
size_t limn_prompt_wildcard_at(const char *s, size_t n, size_t i);

/* Length of "<type:...>" at s[i], 0: none. *next_gt caches the place of the next '>'; start with 0.
 */
size_t limn_prompt_net_at(const char *s, size_t n, size_t i, size_t *next_gt);

/* What a matched square bracket at `open` is. */
typedef enum limn_square {
    LIMN_SQUARE_TEXT,     /* [x]: emphasis, decided later */
    LIMN_SQUARE_SCHEDULE, /* [a:b:N] or [b:N]: cut[0..n_cut) are the colons; bars are text */
    LIMN_SQUARE_ALTERNATE /* [a|b]: cut are the bars */
} limn_square;

enum { LIMN_SQUARE_CUTS = 256 };

typedef struct limn_square_form {
    limn_square kind;
    uint32_t cut[LIMN_SQUARE_CUTS];
    size_t n_cut;
} limn_square_form;

void limn_prompt_square(limn_square_form *form, const char *s, const uint32_t *match, size_t open);

/* splitmix64; 0 <= result < n, and 0 <= result < 1 */
uint64_t limn_prompt_random(uint64_t *state, uint64_t n);
double limn_prompt_random_unit(uint64_t *state);

/* Wildcards and choices; appends the result. prompt_expand.c */
limn_status limn_prompt_expand(limn_buf *out, const char *s, size_t n,
                               const limn_prompt_options *opt, limn_err *err);

/* Copies text without its networks to `out` and lists them. prompt_nets.c */
limn_status limn_prompt_take_nets(limn_buf *out, limn_prompt_net **nets, size_t *count,
                                  limn_arena *arena, const char *s, size_t n, limn_err *err);

#endif
