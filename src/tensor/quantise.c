/* SPDX-License-Identifier: MIT */
/*
 * Searching good scales; see quantise.h. Sums run in eight lanes that are added in a fixed order,
 * so that every instruction set gives the same bytes.
 */
#include <math.h>

#include "tensor/quant_block.h"
#include "tensor/quantise.h"

enum { SUPER = 256, GROUPS_MAX = 16 };

typedef float v8 __attribute__((vector_size(32)));
typedef int32_t i8x __attribute__((vector_size(32)));

static inline v8 load8(const float *p) {
    v8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline v8 all8(float f) {
    return (v8){f, f, f, f, f, f, f, f};
}

static inline v8 pick8(i8x mask, v8 yes, v8 no) {
    return (v8)(((i8x)yes & mask) | ((i8x)no & ~mask));
}

static inline v8 clamp8(v8 v, float lo, float hi) {
    v = pick8(v < all8(lo), all8(lo), v);
    return pick8(v > all8(hi), all8(hi), v);
}

/* To the nearest whole number, halves to even; |v| < 2^22. */
static inline v8 round8(v8 v) {
    const v8 magic = all8(12582912.0f);
    return (v + magic) - magic;
}

static inline float sum8(v8 v) {
    return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
}

/* ---- levels: what a code stands for before its scale ---- */

/* Whole numbers lo..hi, or the levels of the non-linear types. */
typedef struct level_set {
    float lo, hi;
    bool linear;
} level_set;

static const float iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

/* Rounding y to a level. */
static inline v8 nearest8(v8 y, const level_set *l) {
    if (l->linear) return round8(clamp8(y, l->lo, l->hi));
    v8 v = all8(iq4_levels[0]);
    for (int k = 0; k < 15; k++) {
        float middle = (iq4_levels[k] + iq4_levels[k + 1]) / 2;
        v += pick8(y > all8(middle), all8(iq4_levels[k + 1] - iq4_levels[k]), all8(0));
    }
    return v;
}

static int iq4_code(float level) {
    int k = 0;
    while (k < 15 && iq4_levels[k] < level) k++;
    return k;
}

static void round_group(float *q, const float *x, int n, float inverse, const level_set *l) {
    for (int i = 0; i < n; i += 8) {
        v8 v = nearest8(load8(x + i) * all8(inverse), l);
        memcpy(q + i, &v, sizeof v);
    }
}

/* ---- one scale: x ~ d q ---- */

typedef struct scale_sums {
    float xq, qq; /* sums of w x q and w q q */
} scale_sums;

static scale_sums sums_of(const float *x, const float *w, int n, float inverse,
                          const level_set *l) {
    v8 xq = all8(0), qq = all8(0);
    for (int i = 0; i < n; i += 8) {
        v8 v = load8(x + i), q = nearest8(v * all8(inverse), l), wq = load8(w + i) * q;
        xq += wq * v;
        qq += wq * q;
    }
    return (scale_sums){sum8(xq), sum8(qq)};
}

static float inverse_of(float d) {
    float inverse = d != 0 ? 1 / d : 0;
    return isfinite(inverse) ? inverse : 0;
}

/* The scale for which rounding to the levels loses least. A candidate brings the largest element to
 * (0.7 .. 1.25) times one end of the levels; the gain of its rounding is (w x q)^2 / (w q q). */
static float fit_scale(const float *x, const float *w, int n, const level_set *l) {
    float peak = 0, best = 0, d = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(peak)) peak = x[i];
    if (fabsf(peak) < 1e-30f) return 0;
    for (int end = 0; end < 2; end++) {
        float edge = end ? l->hi : l->lo;
        if (edge == 0) continue;
        for (int k = 0; k <= 11; k++) {
            scale_sums s = sums_of(x, w, n, edge * (0.70f + 0.05f * (float)k) / peak, l);
            if (s.qq > 0 && s.xq * s.xq > best * s.qq) {
                best = s.xq * s.xq / s.qq;
                d = s.xq / s.qq;
            }
        }
    }
    for (int turn = 0; turn < 3; turn++) { /* codes for this scale, scale for these codes */
        scale_sums s = sums_of(x, w, n, inverse_of(d), l);
        if (!(s.qq > 0) || !(s.xq * s.xq > best * s.qq)) break;
        best = s.xq * s.xq / s.qq;
        d = s.xq / s.qq;
    }
    return d;
}

/* ---- scale and minimum: x ~ d q + m, q in 0..hi ---- */

typedef struct line {
    float d, m;
} line;

typedef struct line_sums {
    float w, x, xx, q, qq, xq; /* each times w */
} line_sums;

static line_sums line_sums_of(const float *x, const float *w, int n, float inverse, float m,
                              float hi) {
    v8 s[6] = {0};
    for (int i = 0; i < n; i += 8) {
        v8 v = load8(x + i), u = load8(w + i);
        v8 q = round8(clamp8((v - all8(m)) * all8(inverse), 0, hi)), uq = u * q, ux = u * v;
        s[0] += u;
        s[1] += ux;
        s[2] += ux * v;
        s[3] += uq;
        s[4] += uq * q;
        s[5] += uq * v;
    }
    return (line_sums){sum8(s[0]), sum8(s[1]), sum8(s[2]), sum8(s[3]), sum8(s[4]), sum8(s[5])};
}

static float line_error(const line_sums *s, line f) {
    return s->xx + f.d * f.d * s->qq + f.m * f.m * s->w - 2 * f.d * s->xq - 2 * f.m * s->x +
           2 * f.d * f.m * s->q;
}

/* Least squares; with `below` the minimum may not lie above 0. */
static line line_solve(const line_sums *s, bool below) {
    float det = s->w * s->qq - s->q * s->q;
    line f = {0, s->w > 0 ? s->x / s->w : 0};
    if (det > 0)
        f = (line){(s->w * s->xq - s->x * s->q) / det, (s->qq * s->x - s->q * s->xq) / det};
    if (below && f.m > 0) f = (line){s->qq > 0 ? s->xq / s->qq : 0, 0};
    return f;
}

static line fit_line(const float *x, const float *w, int n, float hi, bool below) {
    float lo = x[0], top = x[0], best = INFINITY;
    line f = {0, 0};
    for (int i = 1; i < n; i++) {
        lo = fminf(lo, x[i]);
        top = fmaxf(top, x[i]);
    }
    if (below && lo > 0) lo = 0;
    if (!(top - lo > 1e-30f)) return (line){0, below ? fminf(lo, 0) : lo};
    for (int k = -2; k <= 8; k++) {
        float d = (top - lo) / (hi * (1 + 0.03f * (float)k)), from = lo;
        for (int turn = 0; turn < 3 && d > 0; turn++) {
            line_sums s = line_sums_of(x, w, n, inverse_of(d), from, hi);
            line g = line_solve(&s, below);
            float e = line_error(&s, g);
            if (!(e < best) && turn > 0) break;
            if (e < best && g.d > 0) {
                best = e;
                f = g;
            }
            d = g.d;
            from = g.m;
        }
    }
    return f;
}

/* ---- blocks of 32 with one scale ---- */

static void f16_put(uint8_t *p, float f) {
    uint16_t h = limn_f32_to_f16(fmaxf(-65504, fminf(65504, f)));
    memcpy(p, &h, 2);
}

/* What the file will say. */
static float f16_keep(float f) {
    return limn_f16_to_f32(limn_f32_to_f16(fmaxf(-65504, fminf(65504, f))));
}

static void put_nibbles(uint8_t *qs, const int *code) {
    for (int i = 0; i < 16; i++) qs[i] = (uint8_t)((code[i] & 15) | (code[i + 16] & 15) << 4);
}

static void put_fifth_bits(uint8_t *qh, const int *code) {
    memset(qh, 0, 4);
    for (int i = 0; i < 32; i++) qh[i / 8] |= (uint8_t)((code[i] >> 4 & 1) << (i % 8));
}

/* q4_0 and q5_0 (`half` 8, 16), iq4_nl (0) */
static void write_scale_block(uint8_t *b, const float *x, const float *w, int half) {
    const level_set l =
        half ? (level_set){(float)-half, (float)(half - 1), true} : (level_set){-127, 113, false};
    float d = f16_keep(fit_scale(x, w, 32, &l)), q[32];
    int code[32];
    round_group(q, x, 32, inverse_of(d), &l);
    for (int i = 0; i < 32; i++) code[i] = half ? (int)q[i] + half : iq4_code(q[i]);
    f16_put(b, d);
    if (half == 16) put_fifth_bits(b + 2, code);
    put_nibbles(b + (half == 16 ? 6 : 2), code);
}

/* q4_1 and q5_1 */
static void write_line_block(uint8_t *b, const float *x, const float *w, int bits) {
    float hi = (float)((1 << bits) - 1);
    line f = fit_line(x, w, 32, hi, false);
    float d = f16_keep(f.d), m = f16_keep(f.m), inverse = inverse_of(d);
    int code[32];
    for (int i = 0; i < 32; i += 8) {
        v8 q = round8(clamp8((load8(x + i) - all8(m)) * all8(inverse), 0, hi));
        for (int k = 0; k < 8; k++) code[i + k] = (int)q[k];
    }
    f16_put(b, d);
    f16_put(b + 2, m);
    if (bits == 5) put_fifth_bits(b + 4, code);
    put_nibbles(b + (bits == 5 ? 8 : 4), code);
}

/* ---- blocks of 256: group scales share one super-scale ---- */

typedef struct scale_block {
    int groups, size; /* 16 of 16 or 8 of 32 */
    level_set levels;
    int least, most; /* range of a group's whole-number scale */
} scale_block;

typedef struct scale_fit {
    float d; /* as f16 */
    int scale[GROUPS_MAX];
    float q[SUPER]; /* levels */
} scale_fit;

/* w (x - d scale q)^2 over a group when rounded with this scale, without its constant part. */
static float scale_loss(const float *x, const float *w, int n, float step, const level_set *l) {
    scale_sums s = sums_of(x, w, n, inverse_of(step), l);
    return step * (step * s.qq - 2 * s.xq);
}

static float round_scales(scale_fit *f, const scale_block *k, const float *x, const float *w,
                          const float *ideal) {
    float loss = 0, inverse = inverse_of(f->d);
    for (int g = 0; g < k->groups; g++) {
        const float *gx = x + g * k->size, *gw = w + g * k->size;
        float best = 0,
              at = rintf(fmaxf((float)k->least, fminf((float)k->most, ideal[g] * inverse)));
        f->scale[g] = 0;
        for (int s = (int)at - 1; s <= (int)at + 1; s++) {
            if (s < k->least || s > k->most || s == 0) continue;
            float e = scale_loss(gx, gw, k->size, f->d * (float)s, &k->levels);
            if (e < best) {
                best = e;
                f->scale[g] = s;
            }
        }
        loss += best;
        round_group(f->q + g * k->size, gx, k->size, inverse_of(f->d * (float)f->scale[g]),
                    &k->levels);
    }
    return loss;
}

/* The super-scale that serves the rounded group scales and codes best. */
static float refit_super(const scale_fit *f, const scale_block *k, const float *x, const float *w) {
    v8 xq = all8(0), qq = all8(0);
    for (int i = 0; i < SUPER; i += 8) {
        v8 q = load8(f->q + i) * all8((float)f->scale[i / k->size]), wq = load8(w + i) * q;
        xq += wq * load8(x + i);
        qq += wq * q;
    }
    float bottom = sum8(qq);
    return bottom > 0 ? sum8(xq) / bottom : 0;
}

static void fit_scale_block(scale_fit *f, const scale_block *k, const float *x, const float *w) {
    float ideal[GROUPS_MAX], peak = 0, loss = INFINITY;
    scale_fit trial = {0};
    *f = trial;
    for (int g = 0; g < k->groups; g++) {
        ideal[g] = fit_scale(x + g * k->size, w + g * k->size, k->size, &k->levels);
        if (fabsf(ideal[g]) > fabsf(peak)) peak = ideal[g];
    }
    trial.d = f16_keep(peak / (float)k->least);
    for (int turn = 0; turn < 3; turn++) {
        float e = round_scales(&trial, k, x, w, ideal);
        if (!(e < loss)) break;
        loss = e;
        *f = trial;
        trial.d = f16_keep(refit_super(f, k, x, w));
        if (trial.d == f->d) break;
    }
}

static void write_q3_k(uint8_t *b, const float *x, const float *w) {
    const scale_block k = {16, 16, {-4, 3, true}, -32, 31};
    scale_fit f;
    fit_scale_block(&f, &k, x, w);
    memset(b, 0, 108);
    for (int i = 0; i < SUPER; i++) {
        int q = (int)f.q[i] + 4;
        b[i % 32] |= (uint8_t)((q >> 2) << (i / 32));
        b[32 + i / 128 * 32 + i % 32] |= (uint8_t)((q & 3) << (2 * (i / 32 % 4)));
    }
    for (int g = 0; g < 16; g++) {
        int s = f.scale[g] + 32;
        b[96 + g % 8] |= (uint8_t)((s & 15) << (g < 8 ? 0 : 4));
        b[104 + g % 4] |= (uint8_t)((s >> 4) << (2 * (g / 4)));
    }
    f16_put(b + 108, f.d);
}

static void write_q6_k(uint8_t *b, const float *x, const float *w) {
    const scale_block k = {16, 16, {-32, 31, true}, -128, 127};
    scale_fit f;
    fit_scale_block(&f, &k, x, w);
    memset(b, 0, 192);
    for (int i = 0; i < SUPER; i++) {
        int half = i / 128, row = i / 32 % 4, j = i % 32, q = (int)f.q[i] + 32;
        b[half * 64 + (row & 1) * 32 + j] |= (uint8_t)((q & 15) << (4 * (row >> 1)));
        b[128 + half * 32 + j] |= (uint8_t)((q >> 4) << (2 * row));
    }
    for (int g = 0; g < 16; g++) b[192 + g] = (uint8_t)(int8_t)f.scale[g];
    f16_put(b + 208, f.d);
}

static void write_iq4_xs(uint8_t *b, const float *x, const float *w) {
    const scale_block k = {8, 32, {-127, 113, false}, -32, 31};
    scale_fit f;
    unsigned high = 0;
    fit_scale_block(&f, &k, x, w);
    memset(b, 0, 136);
    f16_put(b, f.d);
    for (int g = 0; g < 8; g++) {
        int code[32], s = f.scale[g] + 32;
        for (int i = 0; i < 32; i++) code[i] = iq4_code(f.q[g * 32 + i]);
        put_nibbles(b + 8 + g * 16, code);
        b[4 + g / 2] |= (uint8_t)((s & 15) << (4 * (g & 1)));
        high |= (unsigned)(s >> 4) << (2 * g);
    }
    b[2] = (uint8_t)high;
    b[3] = (uint8_t)(high >> 8);
}

/* ---- blocks of 256 with group scales and minima ---- */

typedef struct line_block {
    int groups, size;
    float hi;
    int most; /* of a group's whole-number scale and minimum */
} line_block;

typedef struct line_fit {
    float d, dmin; /* as f16; x ~ d scale q - dmin min */
    int scale[GROUPS_MAX], min[GROUPS_MAX];
} line_fit;

static float round_lines(line_fit *f, const line_block *k, const float *x, const float *w,
                         const line *ideal) {
    float loss = 0, id = inverse_of(f->d), im = inverse_of(f->dmin);
    for (int g = 0; g < k->groups; g++) {
        const float *gx = x + g * k->size, *gw = w + g * k->size;
        int s0 = (int)rintf(fminf((float)k->most, ideal[g].d * id));
        int m0 = (int)rintf(fminf((float)k->most, -ideal[g].m * im));
        float best = INFINITY;
        for (int s = s0 - 1; s <= s0 + 1; s++)
            for (int m = m0 - 1; m <= m0 + 1; m++) {
                if (s < 0 || s > k->most || m < 0 || m > k->most) continue;
                line at = {f->d * (float)s, -f->dmin * (float)m};
                line_sums t = line_sums_of(gx, gw, k->size, inverse_of(at.d), at.m, k->hi);
                float e = line_error(&t, at);
                if (e < best) {
                    best = e;
                    f->scale[g] = s;
                    f->min[g] = m;
                }
            }
        loss += best;
    }
    return loss;
}

/* Both super-scales again, by least squares over the whole block with its codes held. */
static void refit_lines(line_fit *f, const line_block *k, const float *x, const float *w) {
    double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
    for (int g = 0; g < k->groups; g++) {
        float s = (float)f->scale[g], m = (float)f->min[g];
        line_sums t = line_sums_of(x + g * k->size, w + g * k->size, k->size, inverse_of(f->d * s),
                                   -f->dmin * m, k->hi);
        aa += (double)s * s * t.qq;
        ab -= (double)s * m * t.q;
        bb += (double)m * m * t.w;
        xa += (double)s * t.xq;
        xb -= (double)m * t.x;
    }
    double det = aa * bb - ab * ab;
    if (det > 1e-12 * aa * bb) {
        f->d = f16_keep((float)((bb * xa - ab * xb) / det));
        f->dmin = f16_keep((float)((aa * xb - ab * xa) / det));
    } else if (aa > 0) {
        f->d = f16_keep((float)(xa / aa));
    }
    if (f->d < 0) f->d = 0;
    if (f->dmin < 0) f->dmin = 0;
}

/* code [256] */
static void fit_line_block(line_fit *f, int *code, const line_block *k, const float *x,
                           const float *w) {
    line ideal[GROUPS_MAX];
    float most_d = 0, most_m = 0, loss = INFINITY;
    line_fit trial = {0};
    *f = trial;
    for (int g = 0; g < k->groups; g++) {
        ideal[g] = fit_line(x + g * k->size, w + g * k->size, k->size, k->hi, true);
        most_d = fmaxf(most_d, ideal[g].d);
        most_m = fmaxf(most_m, -ideal[g].m);
    }
    trial.d = f16_keep(most_d / (float)k->most);
    trial.dmin = f16_keep(most_m / (float)k->most);
    for (int turn = 0; turn < 3; turn++) {
        float e = round_lines(&trial, k, x, w, ideal);
        if (!(e < loss)) break;
        loss = e;
        *f = trial;
        refit_lines(&trial, k, x, w);
        if (trial.d == f->d && trial.dmin == f->dmin) break;
    }
    for (int i = 0; i < SUPER; i += 8) {
        int g = i / k->size;
        float d = f->d * (float)f->scale[g], m = f->dmin * (float)f->min[g];
        v8 q = round8(clamp8((load8(x + i) + all8(m)) * all8(inverse_of(d)), 0, k->hi));
        for (int j = 0; j < 8; j++) code[i + j] = (int)q[j];
    }
}

static void write_q2_k(uint8_t *b, const float *x, const float *w) {
    const line_block k = {16, 16, 3, 15};
    line_fit f;
    int code[SUPER];
    fit_line_block(&f, code, &k, x, w);
    memset(b, 0, 84);
    for (int g = 0; g < 16; g++) b[g] = (uint8_t)(f.scale[g] | f.min[g] << 4);
    for (int i = 0; i < SUPER; i++)
        b[16 + i / 128 * 32 + i % 32] |= (uint8_t)(code[i] << (2 * (i / 32 % 4)));
    f16_put(b + 80, f.d);
    f16_put(b + 82, f.dmin);
}

/* The 12 bytes of 6-bit scales and minima; layout at scale_min_at in quant_block.c. */
static void put_scale_mins(uint8_t *s, const line_fit *f) {
    for (int g = 0; g < 4; g++) {
        s[g] = (uint8_t)(f->scale[g] | (f->scale[g + 4] >> 4) << 6);
        s[g + 4] = (uint8_t)(f->min[g] | (f->min[g + 4] >> 4) << 6);
        s[g + 8] = (uint8_t)((f->scale[g + 4] & 15) | (f->min[g + 4] & 15) << 4);
    }
}

/* q4_K and q5_K */
static void write_k_line(uint8_t *b, const float *x, const float *w, int bits) {
    const line_block k = {8, 32, (float)((1 << bits) - 1), 63};
    line_fit f;
    int code[SUPER];
    fit_line_block(&f, code, &k, x, w);
    memset(b, 0, bits == 4 ? 144 : 176);
    f16_put(b, f.d);
    f16_put(b + 2, f.dmin);
    put_scale_mins(b + 4, &f);
    uint8_t *qh = b + 16, *qs = b + (bits == 4 ? 16 : 48);
    for (int i = 0; i < SUPER; i++) {
        int g = i / 32;
        qs[g / 2 * 32 + i % 32] |= (uint8_t)((code[i] & 15) << (4 * (g & 1)));
        if (bits == 5) qh[i % 32] |= (uint8_t)((code[i] >> 4) << g);
    }
}

/* ---- rows ---- */

/* Twice the width where the machine has it; sums have eight lanes either way. clang does not take
 * both attributes, and the thread sanitizer is not there yet when the clone is chosen. */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
__attribute__((target_clones("avx2", "default"), flatten))
#endif
static void
write_block(uint8_t *b, const float *x, const float *w, limn_dtype t) {
    switch (t) {
    case LIMN_Q4_0: write_scale_block(b, x, w, 8); break;
    case LIMN_Q5_0: write_scale_block(b, x, w, 16); break;
    case LIMN_IQ4_NL: write_scale_block(b, x, w, 0); break;
    case LIMN_Q4_1: write_line_block(b, x, w, 4); break;
    case LIMN_Q5_1: write_line_block(b, x, w, 5); break;
    case LIMN_Q2_K: write_q2_k(b, x, w); break;
    case LIMN_Q3_K: write_q3_k(b, x, w); break;
    case LIMN_Q4_K: write_k_line(b, x, w, 4); break;
    case LIMN_Q5_K: write_k_line(b, x, w, 5); break;
    case LIMN_Q6_K: write_q6_k(b, x, w); break;
    case LIMN_IQ4_XS: write_iq4_xs(b, x, w); break;
    default: break;
    }
}

static void weigh(float *w, const float *x, const float *importance, int n) {
    v8 squares = all8(0);
    for (int i = 0; i < n; i += 8) squares += load8(x + i) * load8(x + i);
    float mean = sum8(squares) / (float)n;
    for (int i = 0; i < n; i++) {
        w[i] = mean > 0 ? sqrtf(1 + x[i] * x[i] / mean) : 1; /* only ratios count */
        if (importance) w[i] *= importance[i];
    }
}

bool limn_quantise_row(void *dst, const float *src, limn_dtype t, int64_t n,
                       const float *importance) {
    const limn_dtype_info *info = limn_dtype_get(t);
    if (n < 0 || n % info->block != 0) return false;
    if (!info->quantised || t == LIMN_Q8_0) /* eight bits: the extremes are the best scale */
        return limn_dtype_from_f32(dst, src, t, n);
    uint8_t *b = dst;
    float w[SUPER];
    for (int64_t i = 0; i < n; i += info->block, b += info->bytes) {
        weigh(w, src + i, importance ? importance + i : NULL, info->block);
        write_block(b, src + i, w, t);
    }
    return true;
}
