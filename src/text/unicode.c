/* SPDX-License-Identifier: MIT */
/* UTF-8, normal forms, lower case; see unicode.h. */
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/unicode_table.h"

/* ---- UTF-8 ---- */

/* Lowest and highest legal second byte for a lead byte (Unicode table 3-7). */
static void second_range(unsigned char lead, unsigned char *lo, unsigned char *hi) {
    *lo = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    *hi = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
}

static size_t lead_length(unsigned char c) {
    if (c < 0x80) return 1;
    if (c >= 0xC2 && c <= 0xDF) return 2;
    if (c >= 0xE0 && c <= 0xEF) return 3;
    if (c >= 0xF0 && c <= 0xF4) return 4;
    return 0;
}

/* Bytes of the character at p that are sound, and whether it is whole. */
static size_t sound_prefix(const unsigned char *p, size_t n, size_t want) {
    if (want <= 1) return want;
    unsigned char lo, hi;
    second_range(p[0], &lo, &hi);
    if (n < 2 || p[1] < lo || p[1] > hi) return 1;
    size_t i = 2;
    while (i < want && i < n && (p[i] & 0xC0) == 0x80) i++;
    return i;
}

uint32_t limn_utf8_next(const char *s, size_t n, size_t *pos) {
    const unsigned char *p = (const unsigned char *)s + *pos;
    size_t left = n - *pos;
    size_t want = lead_length(p[0]);
    if (want == 1) {
        *pos += 1;
        return p[0];
    }
    size_t got = want ? sound_prefix(p, left, want) : 1;
    *pos += got;
    if (want == 0 || got < want) return LIMN_REPLACEMENT;
    if (want == 2) return (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    if (want == 3) return (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    return (p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
}

size_t limn_utf8_put(char *out, uint32_t cp) {
    unsigned char *p = (unsigned char *)out;
    if (cp < 0x80) {
        p[0] = (unsigned char)cp;
        return 1;
    }
    if (cp < 0x800) {
        p[0] = (unsigned char)(0xC0 | cp >> 6);
        p[1] = (unsigned char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        p[0] = (unsigned char)(0xE0 | cp >> 12);
        p[1] = (unsigned char)(0x80 | (cp >> 6 & 0x3F));
        p[2] = (unsigned char)(0x80 | (cp & 0x3F));
        return 3;
    }
    p[0] = (unsigned char)(0xF0 | cp >> 18);
    p[1] = (unsigned char)(0x80 | (cp >> 12 & 0x3F));
    p[2] = (unsigned char)(0x80 | (cp >> 6 & 0x3F));
    p[3] = (unsigned char)(0x80 | (cp & 0x3F));
    return 4;
}

void limn_buf_add_utf8(limn_buf *b, uint32_t cp) {
    char tmp[4];
    limn_buf_add(b, tmp, limn_utf8_put(tmp, cp));
}

size_t limn_utf8_sound(const char *s, size_t n) {
    const unsigned char *p = (const unsigned char *)s;
    size_t i = 0;
    while (i < n) {
        size_t want = lead_length(p[i]);
        if (want == 0 || sound_prefix(p + i, n - i, want) < want) return i;
        i += want;
    }
    return n;
}

size_t limn_utf8_pending(const char *s, size_t n) {
    const unsigned char *p = (const unsigned char *)s;
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const unsigned char *q = p + n - back;
        size_t want = lead_length(*q);
        if (want > back && sound_prefix(q, back, want) == back) return back;
        if ((*q & 0xC0) != 0x80) return 0;
    }
    return 0;
}

void limn_utf8_clean(limn_buf *out, const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        size_t good = limn_utf8_sound(s + i, n - i);
        limn_buf_add(out, s + i, good);
        i += good;
        if (i < n) {
            limn_utf8_next(s, n, &i);
            limn_buf_add_utf8(out, LIMN_REPLACEMENT);
        }
    }
}

/* ---- classes ---- */

bool limn_text_is_space(uint32_t cp) {
    return (cp >= 9 && cp <= 13) || cp == 0x20 || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F ||
           cp == 0x205F || cp == 0x3000;
}

/* ---- normal forms ---- */

typedef struct cp_list {
    utf8proc_int32_t *data;
    size_t len, cap;
    bool failed;
} cp_list;

static bool cps_reserve(cp_list *l, size_t extra) {
    size_t need = l->len + extra;
    if (l->failed) return false;
    if (need <= l->cap) return true;
    size_t cap = l->cap * 2 > need ? l->cap * 2 : need, bytes;
    void *p = limn_mul_size(&bytes, cap, sizeof *l->data) ? limn_mem_realloc(l->data, bytes) : NULL;
    if (!p) {
        l->failed = true;
        return false;
    }
    l->data = p;
    l->cap = cap;
    return true;
}

/* Stable merge sort of one run of combining marks by class: utf8proc's own reordering is quadratic,
 * which a hostile text of marks would use against us. tmp holds n. */
static void sort_marks(utf8proc_int32_t *a, utf8proc_int32_t *tmp, size_t n) {
    if (n < 2) return;
    size_t half = n / 2;
    sort_marks(a, tmp, half);
    sort_marks(a + half, tmp, n - half);
    size_t i = 0, j = half, k = 0;
    while (i < half && j < n) {
        bool right = utf8proc_get_property(a[j])->combining_class <
                     utf8proc_get_property(a[i])->combining_class;
        tmp[k++] = right ? a[j++] : a[i++];
    }
    while (i < half) tmp[k++] = a[i++];
    while (j < n) tmp[k++] = a[j++];
    memcpy(a, tmp, n * sizeof *a);
}

static void order_marks(cp_list *l) {
    cp_list tmp = {0};
    size_t i = 0;
    while (i < l->len) {
        size_t j = i;
        while (j < l->len && utf8proc_get_property(l->data[j])->combining_class != 0) j++;
        if (j - i > 1) {
            if (!cps_reserve(&tmp, j - i)) break;
            sort_marks(l->data + i, tmp.data, j - i);
        }
        i = j + 1;
    }
    l->failed |= tmp.failed;
    limn_mem_free(tmp.data);
}

static bool is_plain(const char *s, size_t n, limn_normal_form form) {
    /* Below U+0300 all is NFC (lead bytes C2..CB); below U+0080 all forms are the text itself. */
    unsigned char top = form == LIMN_NFC ? 0xCC : 0x80;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] >= top) return false;
    return true;
}

void limn_text_normalize(limn_buf *out, const char *s, size_t n, limn_normal_form form) {
    if (is_plain(s, n, form)) {
        limn_buf_add(out, s, n);
        return;
    }
    bool compat = form == LIMN_NFKC || form == LIMN_NFKD;
    bool compose = form == LIMN_NFC || form == LIMN_NFKC;
    int flags = UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
    cp_list l = {0};
    cps_reserve(&l, n + 32);
    for (size_t i = 0; i < n && !l.failed;) {
        uint32_t cp = limn_utf8_next(s, n, &i);
        if (!cps_reserve(&l, 32)) break; /* the longest decomposition is 18 characters */
        utf8proc_ssize_t got = utf8proc_decompose_char((utf8proc_int32_t)cp, l.data + l.len, 32,
                                                       (utf8proc_option_t)flags, NULL);
        if (got > 0 && got <= 32) l.len += (size_t)got;
    }
    if (!l.failed) order_marks(&l);
    if (!l.failed && compose) {
        int opts = UTF8PROC_COMPOSE | UTF8PROC_STABLE;
        utf8proc_ssize_t m =
            utf8proc_normalize_utf32(l.data, (utf8proc_ssize_t)l.len, (utf8proc_option_t)opts);
        if (m >= 0) l.len = (size_t)m;
    }
    if (l.failed) out->failed = true;
    for (size_t i = 0; i < l.len && !out->failed; i++) limn_buf_add_utf8(out, (uint32_t)l.data[i]);
    limn_mem_free(l.data);
}

static uint32_t lower_one(uint32_t cp) {
    for (size_t i = 0; i < limn_newer_lower_count; i++) {
        const limn_newer_lower *r = &limn_newer_lowers[i];
        if (cp >= r->first && cp <= r->last) return (uint32_t)((int32_t)cp + r->delta);
    }
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

void limn_text_lower(limn_buf *out, const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x80) {
            limn_buf_addc(out, (char)(c >= 'A' && c <= 'Z' ? c + 32 : c));
            i++;
            continue;
        }
        uint32_t cp = limn_utf8_next(s, n, &i);
        if (cp == 0x130) { /* the one character whose lower case is two characters */
            limn_buf_adds(out, "i\xCC\x87");
            continue;
        }
        limn_buf_add_utf8(out, lower_one(cp));
    }
}

static const limn_newer_range *newer_find(uint32_t cp) {
    size_t lo = 0, hi = limn_newer_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (limn_newer_ranges[mid].last < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == limn_newer_count || limn_newer_ranges[lo].first > cp) return NULL;
    return &limn_newer_ranges[lo];
}

/* An old character of the same kind and the same UTF-8 length (3 or 4 bytes). */
static uint32_t newer_stand_in(uint32_t cp, limn_newer_kind kind) {
    static const uint32_t three[] = {0x1E00, 0x1E01, 0x1D2C, 0x0E01, 0x4E00,
                                     0x0E51, 0x0E31, 0x2027, 0x2190};
    static const uint32_t four[] = {0x10400, 0x10428, 0x16B40, 0x10000, 0x20000,
                                    0x104A0, 0x101FD, 0x10100, 0x1D100};
    return cp < 0x10000 ? three[kind] : four[kind];
}

bool limn_text_class_shadow(limn_buf *out, const char *s, size_t n) {
    size_t done = 0; /* everything before is in out */
    bool changed = false;
    for (size_t i = 0; i < n;) {
        if ((unsigned char)s[i] < 0xE0) {
            i++;
            continue;
        }
        size_t at = i;
        uint32_t cp = limn_utf8_next(s, n, &i);
        if (cp > 0x31EF && cp < 0xA7CB) continue; /* most ideographs: the common case */
        const limn_newer_range *r = cp >= limn_newer_ranges[0].first ? newer_find(cp) : NULL;
        if (!r && cp != 0x180E) continue;
        limn_buf_add(out, s + done, at - done);
        limn_buf_add_utf8(out, r ? newer_stand_in(cp, r->kind) : 0x200B);
        done = i;
        changed = true;
    }
    if (changed) limn_buf_add(out, s + done, n - done);
    return changed;
}
