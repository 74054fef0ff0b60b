/* SPDX-License-Identifier: MIT */
/* Heap, arenas and buffers; see mem.h. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Test hook, written only by limn_mem_fail_after: allocations left before they fail; < 0 = off. */
static atomic_llong fail_left = -1;

static bool must_fail(void) {
    long long left = atomic_load_explicit(&fail_left, memory_order_relaxed);
    if (left < 0) return false;
    if (left == 0) return true;
    atomic_fetch_sub(&fail_left, 1);
    return false;
}

void limn_mem_fail_after(int64_t n) {
    atomic_store(&fail_left, n);
}

void *limn_mem_alloc(size_t size) {
    if (size == 0 || must_fail()) return NULL;
    return malloc(size);
}

void *limn_mem_calloc(size_t count, size_t size) {
    if (count == 0 || size == 0 || must_fail()) return NULL;
    return calloc(count, size);
}

void *limn_mem_realloc(void *p, size_t size) {
    if (size == 0 || must_fail()) return NULL;
    return realloc(p, size);
}

void *limn_mem_aligned(size_t size) {
    if (size == 0 || size > SIZE_MAX - 4096 || must_fail()) return NULL;
    const size_t huge = (size_t)2 << 20;
    size_t align = size >= huge ? huge : 64; /* weights are read from end to end at each token */
    void *p = NULL;
    if (posix_memalign(&p, align, (size + 63) & ~(size_t)63) != 0) return NULL;
    if (align == huge) madvise(p, size, MADV_HUGEPAGE);
    return p;
}

void limn_mem_free(void *p) {
    free(p);
}

char *limn_mem_strndup(const char *s, size_t n) {
    if (n == SIZE_MAX) return NULL;
    char *p = limn_mem_alloc(n + 1);
    if (!p) return NULL;
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

char *limn_mem_strdup(const char *s) {
    return limn_mem_strndup(s, strlen(s));
}

uint64_t limn_mem_peak_rss(void) {
    FILE *f = fopen("/proc/self/status", "r");
    if (!f) return 0;
    char line[256];
    unsigned long long kb = 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %llu kB", &kb) == 1) break;
    fclose(f);
    return kb * 1024;
}

/* ---- arena ---- */
struct limn_arena_block {
    limn_arena_block *next;
    size_t cap, used;
    size_t pad; /* keeps data[] 16-byte aligned */
    unsigned char data[];
};

enum { ARENA_BLOCK = 64 << 10 };

void limn_arena_init(limn_arena *a) {
    *a = (limn_arena){0};
}

void limn_arena_deinit(limn_arena *a) {
    limn_arena_block *b = a->head;
    while (b) {
        limn_arena_block *next = b->next;
        limn_mem_free(b);
        b = next;
    }
    *a = (limn_arena){0};
}

static limn_arena_block *arena_grow(limn_arena *a, size_t size) {
    size_t cap = size > ARENA_BLOCK ? size : ARENA_BLOCK;
    limn_arena_block *b = limn_mem_alloc(sizeof *b + cap);
    if (!b) {
        a->failed = true;
        return NULL;
    }
    b->cap = cap;
    b->used = 0;
    b->next = a->head;
    a->head = b;
    return b;
}

void *limn_arena_alloc(limn_arena *a, size_t size) {
    if (a->failed || size > SIZE_MAX / 2) {
        a->failed = true;
        return NULL;
    }
    size = (size + 15) & ~(size_t)15;
    if (size == 0) size = 16;
    limn_arena_block *b = a->head;
    if (!b || b->cap - b->used < size) b = arena_grow(a, size);
    if (!b) return NULL;
    void *p = b->data + b->used;
    b->used += size;
    a->used += size;
    memset(p, 0, size);
    return p;
}

char *limn_arena_strndup(limn_arena *a, const char *s, size_t n) {
    char *p = n < SIZE_MAX ? limn_arena_alloc(a, n + 1) : NULL;
    if (!p) return NULL;
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

char *limn_arena_strdup(limn_arena *a, const char *s) {
    return limn_arena_strndup(a, s, strlen(s));
}

char *limn_arena_printf(limn_arena *a, const char *fmt, ...) {
    va_list ap, ap2;
    va_start(ap, fmt);
    va_copy(ap2, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : limn_arena_alloc(a, (size_t)n + 1);
    if (p) vsnprintf(p, (size_t)n + 1, fmt, ap2);
    va_end(ap2);
    return p;
}

/* ---- buf ---- */
void limn_buf_init(limn_buf *b, size_t limit) {
    *b = (limn_buf){.limit = limit};
}

void limn_buf_deinit(limn_buf *b) {
    limn_mem_free(b->data);
    *b = (limn_buf){0};
}

void limn_buf_clear(limn_buf *b) {
    b->len = 0;
    if (b->data) b->data[0] = 0;
}

static bool buf_reserve(limn_buf *b, size_t extra) {
    if (b->failed) return false;
    size_t need;
    if (!limn_add_size(&need, b->len, extra) || need > b->limit || need == SIZE_MAX) {
        b->failed = true;
        return false;
    }
    if (need + 1 <= b->cap) return true;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need + 1) cap = cap > SIZE_MAX / 2 ? need + 1 : cap * 2;
    char *p = limn_mem_realloc(b->data, cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->data = p;
    b->cap = cap;
    return true;
}

void limn_buf_add(limn_buf *b, const void *bytes, size_t n) {
    if (!buf_reserve(b, n)) return;
    if (n) memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = 0;
}

void limn_buf_adds(limn_buf *b, const char *s) {
    limn_buf_add(b, s, strlen(s));
}
void limn_buf_addc(limn_buf *b, char c) {
    limn_buf_add(b, &c, 1);
}

void limn_buf_addf(limn_buf *b, const char *fmt, ...) {
    va_list ap, ap2;
    va_start(ap, fmt);
    va_copy(ap2, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap2);
        b->len += (size_t)n;
    }
    va_end(ap2);
}

const char *limn_buf_text(const limn_buf *b) {
    return b->data ? b->data : "";
}

char *limn_buf_take(limn_buf *b) {
    char *p = NULL;
    if (!b->failed)
        p = b->data ? b->data : limn_mem_strdup("");
    else
        limn_mem_free(b->data);
    *b = (limn_buf){.limit = b->limit};
    return p;
}
