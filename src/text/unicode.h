/* SPDX-License-Identifier: MIT */
/*
 * Unicode as tokenizers need it: UTF-8 in and out, normal forms, lower case.
 *
 * The character data are utf8proc's; `limn_text_class_shadow` repairs where the regex library's
 * idea of letters, numbers and white space differs from the reference's. Pure functions, any
 * thread. Output goes to a limn_buf, whose latch tells of failure.
 */
#ifndef LIMN_TEXT_UNICODE_H
#define LIMN_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

#define LIMN_REPLACEMENT 0xFFFDu

/* Reads the character at s[*pos], *pos < n, and moves *pos past it. Damaged UTF-8 gives U+FFFD for
 * each maximal subpart, as the Unicode standard advises and Rust and Python do. */
uint32_t limn_utf8_next(const char *s, size_t n, size_t *pos);
/* Writes cp (a scalar value) to out[4]; returns the number of bytes. */
size_t limn_utf8_put(char *out, uint32_t cp);
void limn_buf_add_utf8(limn_buf *b, uint32_t cp);
/* Length of the sound UTF-8 at the front of s[0..n): n when all of it is. */
size_t limn_utf8_sound(const char *s, size_t n);
/* Number of bytes at the end of s[0..n) that may become a character once more bytes follow: 0..3.
 */
size_t limn_utf8_pending(const char *s, size_t n);
/* Appends s with U+FFFD in place of damage. */
void limn_utf8_clean(limn_buf *out, const char *s, size_t n);

/* White_Space of Unicode. */
bool limn_text_is_space(uint32_t cp);

typedef enum limn_normal_form { LIMN_NFC, LIMN_NFD, LIMN_NFKC, LIMN_NFKD } limn_normal_form;

/* Appends the normal form of sound UTF-8. O(n log n), also for long runs of combining marks. */
void limn_text_normalize(limn_buf *out, const char *s, size_t n, limn_normal_form form);
/* Appends the lower case of each character, without regard to its neighbours. */
void limn_text_lower(limn_buf *out, const char *s, size_t n);

/* Regular expressions see Unicode 14; the reference knows newer characters, and does not count
 * U+180E as space. When s has such characters, appends a copy of the same byte length in which each
 * is replaced by an older character of the same kind and returns true; returns false (and appends
 * nothing) when s can be matched as it is. */
bool limn_text_class_shadow(limn_buf *out, const char *s, size_t n);

#endif
