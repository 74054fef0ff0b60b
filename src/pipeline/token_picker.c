/* SPDX-License-Identifier: MIT */
/* Picking tokens; see token_picker.h. */
#include "pipeline/token_picker.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

typedef struct candidate {
    float value; /* logit after biases and penalties */
    int32_t id;
} candidate;

struct limn_token_picker {
    limn_pick_options opt; /* bias points to `bias` */
    limn_logit_bias *bias;
    int32_t vocab, usable;
    bool *in_prompt; /* [vocab] */
    int32_t *count;  /* [vocab] times generated */
    candidate *heap; /* [vocab] */
    uint64_t taken;  /* tokens picked so far */
};

const limn_pick_options limn_pick_greedy = {.top_p = 1, .repetition = 1};

static limn_status options_check(const limn_pick_options *o, int32_t vocab, limn_err *err) {
    struct {
        const char *name;
        double value;
        bool ok;
    } rows[] = {
        {"temperature", o->temperature, o->temperature >= 0 && o->temperature <= 100},
        {"top_k", o->top_k, o->top_k >= 0},
        {"top_p", o->top_p, o->top_p > 0 && o->top_p <= 1},
        {"min_p", o->min_p, o->min_p >= 0 && o->min_p <= 1},
        {"repetition penalty", o->repetition, o->repetition > 0 && o->repetition <= 100},
        {"presence penalty", o->presence, fabsf(o->presence) <= 100},
        {"frequency penalty", o->frequency, fabsf(o->frequency) <= 100},
        {"top logprobs", o->top_logprobs,
         o->top_logprobs >= 0 && o->top_logprobs <= LIMN_TOP_LOGPROBS_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (!rows[i].ok)
            return limn_fail(err, LIMN_E_VALUE, "%s %g is out of range", rows[i].name,
                             rows[i].value);
    for (size_t i = 0; i < o->n_bias; i++)
        if (o->bias[i].id < 0 || o->bias[i].id >= vocab || isnan(o->bias[i].add) ||
            o->bias[i].add == INFINITY)
            return limn_fail(err, LIMN_E_VALUE, "logit bias of token %d: %g", o->bias[i].id,
                             (double)o->bias[i].add);
    return LIMN_OK;
}

limn_status limn_token_picker_new(limn_token_picker **out, int32_t vocab, int32_t usable,
                                  const limn_pick_options *opt, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_token_picker *p = NULL;
    *out = NULL;
    LIMN_CHECK(err, vocab > 0 && usable >= 0 && usable <= vocab, LIMN_E_VALUE,
               "%d usable tokens of %d", usable, vocab);
    LIMN_TRY(options_check(opt, vocab, err));
    p = limn_mem_calloc(1, sizeof *p);
    LIMN_CHECK(err, p, LIMN_E_NOMEM, "no memory for picking tokens");
    p->opt = *opt;
    p->vocab = vocab;
    p->usable = usable ? usable : vocab;
    p->bias = limn_mem_calloc(opt->n_bias + 1, sizeof *p->bias);
    p->in_prompt = limn_mem_calloc((size_t)vocab, sizeof *p->in_prompt);
    p->count = limn_mem_calloc((size_t)vocab, sizeof *p->count);
    p->heap = limn_mem_calloc((size_t)vocab, sizeof *p->heap);
    LIMN_CHECK(err, p->bias && p->in_prompt && p->count && p->heap, LIMN_E_NOMEM,
               "no memory for picking from %d tokens", vocab);
    if (opt->n_bias) memcpy(p->bias, opt->bias, opt->n_bias * sizeof *p->bias);
    p->opt.bias = p->bias;
    *out = p;
    p = NULL;
out:
    limn_token_picker_free(&p);
    return st;
}

void limn_token_picker_free(limn_token_picker **picker) {
    limn_token_picker *p = picker ? *picker : NULL;
    if (!p) return;
    limn_mem_free(p->bias);
    limn_mem_free(p->in_prompt);
    limn_mem_free(p->count);
    limn_mem_free(p->heap);
    limn_mem_free(p);
    *picker = NULL;
}

void limn_token_picker_prompt(limn_token_picker *p, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= 0 && ids[i] < p->vocab) p->in_prompt[ids[i]] = true;
}

/* ---- heap: likeliest first, the lower id of equals ---- */
static bool before(const candidate *a, const candidate *b) {
    return a->value > b->value || (a->value == b->value && a->id < b->id);
}

static void sift(candidate *h, int32_t n, int32_t i) {
    candidate x = h[i];
    for (int32_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && before(&h[c + 1], &h[c])) c++;
        if (!before(&h[c], &x)) break;
        h[i] = h[c];
    }
    h[i] = x;
}

static void heap_make(candidate *h, int32_t n) {
    for (int32_t i = n / 2 - 1; i >= 0; i--) sift(h, n, i);
}

/* The first of the heap goes behind its end, so that h[n - k ..] holds the k likeliest, last
 * first. */
static void heap_pop(candidate *h, int32_t n) {
    candidate first = h[0];
    h[0] = h[n - 1];
    h[n - 1] = first;
    sift(h, n - 1, 0);
}

/* ---- the model's own distribution ---- */
static limn_status logprobs(limn_token_picker *p, limn_pick *out, double *log_sum,
                            const float *logits, limn_err *err) {
    float top = -INFINITY;
    double sum = 0;
    bool numbers = true;
    for (int32_t i = 0; i < p->usable; i++) {
        if (isnan(logits[i])) numbers = false;
        if (logits[i] > top) top = logits[i];
        p->heap[i] = (candidate){logits[i], i};
    }
    if (!numbers || !isfinite(top))
        return limn_fail(err, LIMN_E_INTERNAL, "the network gave logits that are no numbers");
    for (int32_t i = 0; i < p->usable; i++) sum += exp((double)logits[i] - top);
    *log_sum = top + log(sum);
    out->n_top = p->opt.top_logprobs < p->usable ? p->opt.top_logprobs : p->usable;
    if (out->n_top == 0) return LIMN_OK;
    heap_make(p->heap, p->usable);
    for (int k = 0; k < out->n_top; k++) {
        const candidate *c = &p->heap[0];
        out->top[k] = (limn_token_prob){c->id, (float)(c->value - *log_sum)};
        heap_pop(p->heap, p->usable - k);
    }
    return LIMN_OK;
}

/* ---- options ---- */
static int32_t candidates_make(limn_token_picker *p, const float *logits, const uint32_t *allowed) {
    const limn_pick_options *o = &p->opt;
    int32_t n = 0;
    for (int32_t i = 0; i < p->usable; i++) {
        float v = logits[i];
        if (allowed && !(allowed[i / 32] >> (i % 32) & 1)) v = -INFINITY;
        if (p->in_prompt[i] || p->count[i]) v = v > 0 ? v / o->repetition : v * o->repetition;
        if (p->count[i]) v -= o->presence + o->frequency * (float)p->count[i];
        p->heap[i] = (candidate){v, i};
    }
    for (size_t i = 0; i < o->n_bias; i++)
        if (o->bias[i].id < p->usable) p->heap[o->bias[i].id].value += o->bias[i].add;
    for (int32_t i = 0; i < p->usable; i++)
        if (p->heap[i].value > -INFINITY) p->heap[n++] = p->heap[i];
    return n;
}

/* Uniform in [0, 1) from seed and number: SplitMix64 (Steele, Lea, Flood 2014). */
static double uniform(uint64_t seed, uint64_t number) {
    uint64_t z = seed + (number + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

/* Leaves the kept candidates at heap[n - kept .. n), likeliest last; returns their number. */
static int32_t keep(const limn_token_picker *p, int32_t n) {
    const limn_pick_options *o = &p->opt;
    candidate *h = p->heap;
    int32_t most = o->top_k > 0 && o->top_k < n ? o->top_k : n, kept = 0;
    if (most == n && o->top_p >= 1 && o->min_p <= 0) return n;
    heap_make(h, n);
    double top = h[0].value, t = o->temperature, sum = 0, seen = 0;
    if (most < n) { /* top-p is a share of what top-k leaves */
        for (; kept < most; kept++) heap_pop(h, n - kept);
        for (int32_t i = n - kept; i < n; i++) sum += exp((h[i].value - top) / t);
    } else {
        for (int32_t i = 0; i < n; i++) sum += exp((h[i].value - top) / t);
    }
    int32_t ready = kept;
    for (kept = 0; kept < most; kept++) {
        double q = exp(((kept < ready ? h[n - 1 - kept].value : h[0].value) - top) / t);
        if (kept > 0 && (seen >= o->top_p * sum || q < o->min_p)) break;
        if (kept >= ready) heap_pop(h, n - kept);
        seen += q;
    }
    return kept;
}

static int32_t draw(limn_token_picker *p, int32_t n) {
    const candidate *h = p->heap;
    if (p->opt.temperature <= 0) {
        const candidate *best = &h[0];
        for (int32_t i = 1; i < n; i++)
            if (before(&h[i], best)) best = &h[i];
        return best->id;
    }
    int32_t kept = keep(p, n);
    double top = -INFINITY, sum = 0, at = 0;
    for (int32_t i = n - kept; i < n; i++) top = fmax(top, h[i].value);
    for (int32_t i = n - kept; i < n; i++) sum += exp((h[i].value - top) / p->opt.temperature);
    double u = uniform(p->opt.seed, p->taken) * sum;
    for (int32_t i = n - 1; i > n - kept; i--) {
        at += exp((h[i].value - top) / p->opt.temperature);
        if (u < at) return h[i].id;
    }
    return h[n - kept].id;
}

limn_status limn_token_picker_take(limn_token_picker *p, limn_pick *out, const float *logits,
                                   const uint32_t *allowed, limn_err *err) {
    double log_sum = 0;
    *out = (limn_pick){0};
    limn_status st = logprobs(p, out, &log_sum, logits, err);
    if (st != LIMN_OK) return st;
    int32_t n = candidates_make(p, logits, allowed);
    if (n == 0) return limn_fail(err, LIMN_E_VALUE, "every token is forbidden");
    out->id = draw(p, n);
    out->logprob = (float)(logits[out->id] - log_sum);
    p->count[out->id]++;
    p->taken++;
    return LIMN_OK;
}
