/* SPDX-License-Identifier: MIT */
/* Guessing tokens; see draft.h. */
#include "pipeline/draft.h"

#include "base/mem.h"

enum { SLOTS = 1 << 16, REST = 16, RESTS_MAX = 6 };

limn_status limn_draft_init(limn_draft *d, const limn_ids *before, const limn_ids *after,
                            limn_err *err) {
    *d = (limn_draft){.before = before, .after = after, .right = {1, 1.5}};
    for (int i = 0; i < 2; i++) d->places[i] = limn_mem_calloc(SLOTS, sizeof *d->places[i]);
    if (d->places[0] && d->places[1]) return LIMN_OK;
    limn_draft_deinit(d);
    return limn_fail(err, LIMN_E_NOMEM, "no memory for guesses");
}

void limn_draft_deinit(limn_draft *d) {
    for (int i = 0; i < 2; i++) {
        limn_mem_free(d->places[i]);
        d->places[i] = NULL;
    }
}

static int32_t id_at(const limn_draft *d, size_t i) {
    return i < d->before->len ? d->before->data[i] : d->after->data[i - d->before->len];
}

/* The slot of the tokens that end before `end`: two, or three with by 1. */
static uint32_t *slot_of(const limn_draft *d, size_t end, int by) {
    uint64_t h = 0x9E3779B97F4A7C15u;
    for (size_t i = end - 2 - (size_t)by; i < end; i++)
        h = (h ^ (uint32_t)id_at(d, i)) * 0xD6E8FEB86659FD93u;
    return &d->places[by][(h ^ h >> 32) % SLOTS];
}

/* Whether the tokens that end before `a` are those that end before `b`. */
static bool same_before(const limn_draft *d, size_t a, size_t b, int by) {
    for (size_t k = 1; k <= 2 + (size_t)by; k++)
        if (id_at(d, a - k) != id_at(d, b - k)) return false;
    return true;
}

/* Remembers what is new, up to the text's end but one: the end itself is what is looked for. */
static void remember(limn_draft *d, size_t n) {
    for (; d->known + 1 < n; d->known++)
        for (int by = 0; by < 2; by++)
            if (d->known + 1 >= 2 + (size_t)by)
                *slot_of(d, d->known + 1, by) = (uint32_t)d->known + 1;
}

static bool pays(const limn_draft *d, int by, const limn_draft_cost *cost) {
    double one = cost->one.seconds, several = cost->several.seconds;
    return one <= 0 || several <= 0 || (1 + d->right[by]) * one > several;
}

size_t limn_draft_guess(limn_draft *d, int32_t *ids, size_t most, const limn_draft_cost *cost,
                        bool always) {
    size_t n = d->before->len + d->after->len, found = 0;
    if (n < 3 || n >= UINT32_MAX) return 0;
    remember(d, n);
    for (d->by = 1; d->by >= 0; d->by--) {
        found = *slot_of(d, n, d->by);
        if (found && same_before(d, found, n, d->by)) break;
        found = 0;
    }
    if (!found) return 0;
    if (!always && d->rest > 0) {
        d->rest--;
        return 0;
    }
    if (!always && !pays(d, d->by, cost)) { /* after a while one guess tells whether it does now */
        d->rest = REST << (d->rests < RESTS_MAX ? d->rests++ : RESTS_MAX);
        d->right[d->by] = cost->several.seconds / cost->one.seconds - 0.95;
        return 0;
    }
    if (most > n - found) most = n - found;
    for (size_t i = 0; i < most; i++) ids[i] = id_at(d, found + i);
    return most;
}

void limn_draft_learn(limn_draft *d, size_t n, size_t right) {
    d->guessed += (int64_t)n;
    d->hits += (int64_t)right;
    d->right[d->by] += 0.2 * ((double)right - d->right[d->by]);
    if (right > 0) d->rests = 0;
}

void limn_draft_time_add(limn_draft_time *t, double seconds) {
    if (t->count++ == 0) return;
    t->seconds = t->seconds > 0 ? t->seconds + 0.2 * (seconds - t->seconds) : seconds;
}
