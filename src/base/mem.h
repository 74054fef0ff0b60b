/* SPDX-License-Identifier: MIT */
/*
 * Memory: the only way to the heap, arenas, and growable buffers with a ceiling.
 *
 * All blocks of limn_mem_* are 64-byte aligned when made by limn_mem_aligned and ordinary
 * otherwise; both are released by limn_mem_free. limn_mem_fail_after() makes the n-th allocation
 * from now fail, which the torture tests use to prove every error path. Counters are atomic: any
 * thread may call.
 *
 * Arenas and buffers latch failure: after the first failed growth they keep answering NULL / do
 * nothing, so that a builder can be checked once at its end.
 */
#ifndef LIMN_BASE_MEM_H
#define LIMN_BASE_MEM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *limn_mem_alloc(size_t size);                /* NULL on failure or size 0 */
void *limn_mem_calloc(size_t count, size_t size); /* zeroed, overflow-checked */
void *limn_mem_realloc(void *p, size_t size);
void *limn_mem_aligned(size_t size); /* 64-byte aligned; large blocks ask for huge pages */
void limn_mem_free(void *p);
char *limn_mem_strdup(const char *s);
char *limn_mem_strndup(const char *s, size_t n);

/* The allocation made after `n` further successful ones fails, and each after it; n < 0: off. */
void limn_mem_fail_after(int64_t n);

/* Peak resident set size of this process in bytes (VmHWM), 0 when unknown. */
uint64_t limn_mem_peak_rss(void);

/* ---- arena: many small blocks with one lifetime ---- */
typedef struct limn_arena_block limn_arena_block;
typedef struct limn_arena {
    limn_arena_block *head;
    size_t used; /* bytes handed out */
    bool failed; /* latched */
} limn_arena;

void limn_arena_init(limn_arena *a);
void limn_arena_deinit(limn_arena *a); /* frees all blocks; the arena may be used again */
/* 16-byte aligned, zeroed; NULL when out of memory (latched) */
void *limn_arena_alloc(limn_arena *a, size_t size);
char *limn_arena_strdup(limn_arena *a, const char *s);
char *limn_arena_strndup(limn_arena *a, const char *s, size_t n);
char *limn_arena_printf(limn_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- buf: growable bytes, always NUL-terminated, never above `limit` ---- */
typedef struct limn_buf {
    char *data; /* NULL until the first byte */
    size_t len; /* without the NUL */
    size_t cap;
    size_t limit; /* most bytes it may hold */
    bool failed;  /* latched: out of memory or limit reached */
} limn_buf;

void limn_buf_init(limn_buf *b, size_t limit);
void limn_buf_deinit(limn_buf *b);
void limn_buf_clear(limn_buf *b); /* len = 0, keeps memory and the latch */
void limn_buf_add(limn_buf *b, const void *bytes, size_t n);
void limn_buf_adds(limn_buf *b, const char *s);
void limn_buf_addc(limn_buf *b, char c);
void limn_buf_addf(limn_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The text; "" when empty. Valid until the next change. */
const char *limn_buf_text(const limn_buf *b);
/* Takes the bytes out; the caller frees with limn_mem_free. NULL when the latch is set. */
char *limn_buf_take(limn_buf *b);

/* ---- checked arithmetic: false on overflow ---- */
static inline bool limn_mul_size(size_t *out, size_t a, size_t b) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool limn_add_size(size_t *out, size_t a, size_t b) {
    return !__builtin_add_overflow(a, b, out);
}
static inline bool limn_mul_i64(int64_t *out, int64_t a, int64_t b) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool limn_add_i64(int64_t *out, int64_t a, int64_t b) {
    return !__builtin_add_overflow(a, b, out);
}

#endif
