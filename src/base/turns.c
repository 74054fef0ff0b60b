/* SPDX-License-Identifier: MIT */
/* Turns by least time; see turns.h. */
#include "base/turns.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"

#define GRAIN 0.005  /* seconds that a party may be ahead before it has to wait */
#define CREDIT 0.25  /* seconds that who did not want the turn may be behind */
#define LINGER 0.002 /* how long an ended turn is kept for a party that has credit */

struct limn_turns {
    pthread_mutex_t lock;
    limn_turn *owner;
    limn_turn *kept_for; /* without owner: until `kept_until` */
    double kept_until;
    limn_turn *waiting; /* list */
    atomic_int n_waiting;
    double latest; /* largest `used` that was seen */
};

limn_status limn_turns_new(limn_turns **out, limn_err *err) {
    limn_turns *t = *out = limn_mem_calloc(1, sizeof *t);
    if (!t || pthread_mutex_init(&t->lock, NULL) != 0) {
        limn_mem_free(t);
        *out = NULL;
        return limn_fail(err, LIMN_E_NOMEM, "no memory to share the cores");
    }
    return LIMN_OK;
}

void limn_turns_free(limn_turns **turns) {
    if (!turns || !*turns) return;
    pthread_mutex_destroy(&(*turns)->lock);
    limn_mem_free(*turns);
    *turns = NULL;
}

void limn_turn_join(limn_turn *t, limn_turns *turns) {
    if (t->turns) pthread_cond_destroy(&t->wake);
    *t = (limn_turn){.turns = NULL};
    if (!turns) return;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (pthread_cond_init(&t->wake, &attr) == 0) t->turns = turns;
    pthread_condattr_destroy(&attr);
}

/* ---- `lock` held ---- */
static limn_turn *neediest(const limn_turns *s) {
    limn_turn *least = s->waiting;
    for (limn_turn *t = s->waiting; t; t = t->next)
        if (t->used < least->used) least = t;
    return least;
}

static void take(limn_turns *s, limn_turn *t) {
    s->owner = t;
    s->kept_for = NULL;
    t->began = limn_clock_now();
}

static void pay(limn_turns *s, limn_turn *t, double now) {
    t->used += now - t->began;
    t->began = now;
    if (t->used > s->latest) s->latest = t->used;
}

static void leave_line(limn_turns *s, limn_turn *t) {
    for (limn_turn **at = &s->waiting; *at; at = &(*at)->next)
        if (*at == t) {
            *at = t->next;
            atomic_fetch_sub(&s->n_waiting, 1);
            return;
        }
}

static void hand_over(limn_turns *s, limn_turn *to) {
    leave_line(s, to);
    take(s, to);
    pthread_cond_signal(&to->wake);
}

static bool is_kept(const limn_turns *s, double now) {
    return s->kept_for && now < s->kept_until;
}

static void wait_until(limn_turns *s, limn_turn *t, double seconds) {
    struct timespec until = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    pthread_cond_timedwait(&t->wake, &s->lock, &until);
}

static void wait_turn(limn_turns *s, limn_turn *t) {
    t->next = s->waiting;
    s->waiting = t;
    atomic_fetch_add(&s->n_waiting, 1);
    while (s->owner != t) {
        if (s->owner)
            pthread_cond_wait(&t->wake, &s->lock);
        else if (is_kept(s, limn_clock_now()))
            wait_until(s, t, s->kept_until);
        else
            hand_over(s, t);
    }
}

/* ---- parties ---- */
void limn_turn_begin(limn_turn *t) {
    limn_turns *s = t->turns;
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    if (t->used < s->latest - CREDIT) t->used = s->latest - CREDIT;
    if (!s->owner && (s->kept_for == t || (!s->waiting && !is_kept(s, limn_clock_now()))))
        take(s, t);
    else
        wait_turn(s, t);
    pthread_mutex_unlock(&s->lock);
}

void limn_turn_offer(limn_turn *t) {
    limn_turns *s = t->turns;
    if (!s || atomic_load_explicit(&s->n_waiting, memory_order_relaxed) == 0) return;
    pthread_mutex_lock(&s->lock);
    limn_turn *other = neediest(s);
    pay(s, t, limn_clock_now());
    if (other && t->used >= other->used + GRAIN) {
        hand_over(s, other);
        wait_turn(s, t);
    }
    pthread_mutex_unlock(&s->lock);
}

void limn_turn_end(limn_turn *t) {
    limn_turns *s = t->turns;
    if (!s) return;
    double now = limn_clock_now();
    pthread_mutex_lock(&s->lock);
    pay(s, t, now);
    s->owner = NULL;
    limn_turn *other = neediest(s);
    if (other && t->used + GRAIN < other->used) {
        s->kept_for = t;
        s->kept_until = now + LINGER;
        pthread_cond_signal(&other->wake); /* it watches the time now */
    } else if (other) {
        hand_over(s, other);
    }
    pthread_mutex_unlock(&s->lock);
}
