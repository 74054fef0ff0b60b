/* SPDX-License-Identifier: MIT */
/*
 * Numbers between two bounds as networks over decimal digits. A range of digit strings of one
 * length is a chain with three lanes: still equal to the lower bound, to the upper bound, to both,
 * or free.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/grammar_impl.h"

enum { DECIMALS = 6 };
static const int64_t scale = 1000000; /* 10^DECIMALS */

static limn_frag digit_range(limn_grammar *g, char lo, char hi) {
    limn_cp_range r = {(uint32_t)lo, (uint32_t)hi};
    return limn_g_chars(g, &r, 1);
}

static bool all_are(const char *s, size_t n, char c) {
    for (size_t i = 0; i < n; i++)
        if (s[i] != c) return false;
    return true;
}

static void join(limn_grammar *g, limn_frag *f, bool *any, limn_frag x) {
    *f = *any ? limn_g_alt(g, *f, x) : x;
    *any = true;
}

static limn_frag same_length(limn_grammar *g, const char *lo, const char *hi, size_t n, bool stops);

/* What may follow digit `d`; `stops`: the string may end where only zeros are left of the lower
 * bound (decimals). */
static limn_frag after_digit(limn_grammar *g, char d1, char d2, const char *lo, const char *hi,
                             size_t n, bool stops) {
    limn_frag head = digit_range(g, d1, d2);
    if (n == 0) return head;
    limn_frag tail = same_length(g, lo, hi, n, stops);
    if (stops && all_are(lo, n, '0')) tail = limn_g_alt(g, limn_g_empty(g), tail);
    return limn_g_seq(g, head, tail);
}

/* Digit strings of n digits from lo to hi; with `stops` shorter ones that mean the same number. */
static limn_frag same_length(limn_grammar *g, const char *lo, const char *hi, size_t n,
                             bool stops) {
    static const char zeros[] = "0000000000000000000", nines[] = "9999999999999999999";
    limn_frag f = {0};
    bool any = false;
    if (all_are(lo, n, '0') && all_are(hi, n, '9')) {
        limn_frag d = digit_range(g, '0', '9');
        return limn_g_repeat(g, d, stops ? 1 : (uint32_t)n, (uint32_t)n);
    }
    if (lo[0] == hi[0]) return after_digit(g, lo[0], lo[0], lo + 1, hi + 1, n - 1, stops);
    join(g, &f, &any, after_digit(g, lo[0], lo[0], lo + 1, nines, n - 1, stops));
    if (lo[0] + 1 < hi[0])
        join(g, &f, &any,
             after_digit(g, (char)(lo[0] + 1), (char)(hi[0] - 1), zeros, nines, n - 1, stops));
    join(g, &f, &any, after_digit(g, hi[0], hi[0], zeros, hi + 1, n - 1, stops));
    return f;
}

/* 0 <= lo <= hi */
static limn_frag whole_range(limn_grammar *g, int64_t lo, int64_t hi) {
    limn_frag f = {0};
    bool any = false;
    int64_t low = 0, high = 9; /* numbers of one length */
    while (low <= hi) {
        int64_t a = lo > low ? lo : low, b = hi < high ? hi : high;
        if (a <= b) {
            char s[24], t[24];
            int n = snprintf(s, sizeof s, "%lld", (long long)a);
            snprintf(t, sizeof t, "%lld", (long long)b);
            join(g, &f, &any, same_length(g, s, t, (size_t)n, false));
        }
        low = high + 1;
        high = high * 10 + 9;
    }
    return f;
}

/* ".25" for decimals lo..hi of `scale`; lo 0: the point may be left out. */
static limn_frag decimals(limn_grammar *g, int64_t lo, int64_t hi) {
    char s[24], t[24];
    snprintf(s, sizeof s, "%0*lld", DECIMALS, (long long)lo);
    snprintf(t, sizeof t, "%0*lld", DECIMALS, (long long)hi);
    limn_frag dot = limn_g_text(g, ".");
    limn_frag f = limn_g_seq(g, dot, same_length(g, s, t, DECIMALS, true));
    return lo == 0 ? limn_g_alt(g, limn_g_empty(g), f) : f;
}

/* lo and hi count millionths, 0 <= lo <= hi. */
static limn_frag fixed_range(limn_grammar *g, int64_t lo, int64_t hi) {
    int64_t a = lo / scale, b = hi / scale, fa = lo % scale, fb = hi % scale;
    limn_frag f = {0};
    bool any = false;
    if (a == b) {
        limn_frag whole = whole_range(g, a, a);
        return limn_g_seq(g, whole, decimals(g, fa, fb));
    }
    limn_frag whole = whole_range(g, a, a);
    join(g, &f, &any, limn_g_seq(g, whole, decimals(g, fa, scale - 1)));
    if (a + 1 < b) {
        whole = whole_range(g, a + 1, b - 1);
        join(g, &f, &any, limn_g_seq(g, whole, decimals(g, 0, scale - 1)));
    }
    whole = whole_range(g, b, b);
    join(g, &f, &any, limn_g_seq(g, whole, decimals(g, 0, fb)));
    return f;
}

static limn_frag positive(limn_grammar *g, int64_t lo, int64_t hi, bool fraction) {
    return fraction ? fixed_range(g, lo, hi) : whole_range(g, lo, hi);
}

limn_frag limn_g_number_range(limn_grammar *g, double lo, double hi, bool fraction) {
    double unit = fraction ? (double)scale : 1.0;
    int64_t a = (int64_t)ceil(lo * unit), b = (int64_t)floor(hi * unit);
    limn_frag f = {0};
    bool any = false;
    if (a < 0) {
        limn_frag minus = limn_g_text(g, "-");
        int64_t nearest = b < 0 ? -b : fraction ? 0 : 1;
        if (nearest <= -a)
            join(g, &f, &any, limn_g_seq(g, minus, positive(g, nearest, -a, fraction)));
    }
    if (b >= 0) join(g, &f, &any, positive(g, a > 0 ? a : 0, b, fraction));
    return any ? f : limn_g_chars(g, NULL, 0);
}
