/* SPDX-License-Identifier: MIT */
/* Who waits, in the order in which workers take them: positions and estimates; see queue_impl.h. */
#include <string.h>

#include "job/queue_impl.h"

#define LEARN 0.3 /* weight of the newest job in a rate */

static void short_copy(char *out, size_t size, const char *text) {
    size_t n = strlen(text);
    if (n >= size) n = size - 1;
    memcpy(out, text, n);
    out[n] = 0;
}

static bool goes_before(const line_item *a, const line_item *b) {
    if (a->priority != b->priority) return a->priority > b->priority;
    return a->rank != b->rank ? a->rank < b->rank : a->seq < b->seq;
}

bool line_add(line *l, const limn_job *job) {
    line_item it = {.seq = job->seq,
                    .rank = job->rank,
                    .kind = job->kind,
                    .priority = job->priority,
                    .work = job->work,
                    .seconds = line_estimate(l, job->kind, job->model, job->work)};
    if (l->count == l->cap) {
        int cap = l->cap ? l->cap * 2 : 64;
        line_item *grown = limn_mem_realloc(l->items, (size_t)cap * sizeof *grown);
        if (!grown) {
            l->partial = true;
            return false;
        }
        l->items = grown;
        l->cap = cap;
    }
    short_copy(it.id, sizeof it.id, job->id);
    short_copy(it.owner, sizeof it.owner, job->owner);
    short_copy(it.model, sizeof it.model, job->model);
    int at = l->count;
    while (at > 0 && goes_before(&it, &l->items[at - 1])) at--;
    memmove(&l->items[at + 1], &l->items[at], (size_t)(l->count - at) * sizeof it);
    l->items[at] = it;
    l->count++;
    return true;
}

int line_find(const line *l, const char *id) {
    for (int i = 0; i < l->count; i++)
        if (strcmp(l->items[i].id, id) == 0) return i;
    return -1;
}

void line_remove(line *l, const char *id) {
    int at = line_find(l, id);
    if (at < 0) return;
    memmove(&l->items[at], &l->items[at + 1], (size_t)(l->count - at - 1) * sizeof *l->items);
    l->count--;
}

void line_sort(line *l) {
    for (int i = 1; i < l->count; i++) {
        line_item it = l->items[i];
        int at = i;
        for (; at > 0 && goes_before(&it, &l->items[at - 1]); at--) l->items[at] = l->items[at - 1];
        l->items[at] = it;
    }
}

int line_count_owner(const line *l, const char *owner) {
    int n = 0;
    for (int i = 0; i < l->count; i++) n += strcmp(l->items[i].owner, owner) == 0;
    return n;
}

static rate *find_rate(const line *l, limn_job_kind kind, const char *model) {
    char name[64];
    short_copy(name, sizeof name, model);
    for (int i = 0; i < l->n_rates; i++)
        if (l->rates[i].kind == kind && strcmp(l->rates[i].model, name) == 0)
            return (rate *)(uintptr_t)&l->rates[i];
    return NULL;
}

void line_learn(line *l, limn_job_kind kind, const char *model, double work, double seconds) {
    if (work <= 0 || seconds < 0) return;
    rate *r = find_rate(l, kind, model);
    if (r) {
        r->seconds += seconds - LEARN * r->seconds;
        r->work += work - LEARN * r->work;
    } else {
        if (l->n_rates < RATES) l->n_rates++;
        r = &l->rates[l->next_rate];
        l->next_rate = (l->next_rate + 1) % RATES;
        *r = (rate){.kind = kind, .seconds = seconds, .work = work};
        short_copy(r->model, sizeof r->model, model);
    }
    for (int i = 0; i < l->count; i++)
        l->items[i].seconds =
            line_estimate(l, l->items[i].kind, l->items[i].model, l->items[i].work);
}

double line_estimate(const line *l, limn_job_kind kind, const char *model, double work) {
    const rate *r = find_rate(l, kind, model);
    return r && work > 0 ? r->seconds / r->work * work : -1;
}

double line_seconds(const line *l, int n) {
    double sum = 0;
    int known = 0;
    for (int i = 0; i < n && i < l->count; i++)
        if (l->items[i].seconds >= 0) {
            sum += l->items[i].seconds;
            known++;
        }
    if (n == 0) return 0;
    return known > 0 ? sum * n / known : -1;
}
