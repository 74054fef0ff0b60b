/* SPDX-License-Identifier: MIT */
/* Turns: one at a time, half of the time each whatever the pieces are, soon for a newcomer. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdbool.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/turns.h"

static atomic_int inside;
static atomic_bool stop;

static void sleep_ms(double ms) {
    struct timespec t = {0, (long)(ms * 1e6)};
    nanosleep(&t, NULL);
}

/* Works in pieces, `pieces` of them to a turn, with a pause between turns. */
typedef struct party {
    limn_turn turn;
    double piece_ms, pause_ms;
    int pieces;
    double seconds; /* inside a turn */
    atomic_int done;
    bool alone; /* nobody else was inside, ever */
    pthread_t thread;
} party;

static void *work(void *user) {
    party *p = user;
    p->alone = true;
    while (!atomic_load(&stop)) {
        limn_turn_begin(&p->turn);
        for (int i = 0; i < p->pieces && !atomic_load(&stop); i++) {
            double began = limn_clock_now();
            if (atomic_fetch_add(&inside, 1) != 0) p->alone = false;
            sleep_ms(p->piece_ms);
            if (atomic_fetch_sub(&inside, 1) != 1) p->alone = false;
            p->seconds += limn_clock_now() - began;
            atomic_fetch_add(&p->done, 1);
            limn_turn_offer(&p->turn);
        }
        limn_turn_end(&p->turn);
        if (p->pause_ms > 0) sleep_ms(p->pause_ms);
    }
    return NULL;
}

static void start(party *p, limn_turns *turns) {
    limn_turn_join(&p->turn, turns);
    assert_int_equal(pthread_create(&p->thread, NULL, work, p), 0);
}

static void finish(party *p, int n) {
    atomic_store(&stop, true);
    for (int i = 0; i < n; i++) {
        pthread_join(p[i].thread, NULL);
        limn_turn_join(&p[i].turn, NULL);
        assert_true(p[i].alone);
    }
    atomic_store(&stop, false);
}

static limn_turns *turns_make(void) {
    limn_turns *turns;
    limn_err err = {0};
    assert_int_equal(limn_turns_new(&turns, &err), LIMN_OK);
    return turns;
}

/* A drawing of long operations beside a decoder of short ones that comes back for every token. */
static void test_fair(void **state) {
    limn_turns *turns = turns_make();
    party p[2] = {{.piece_ms = 20, .pieces = 100}, {.piece_ms = 1, .pieces = 8, .pause_ms = 0.2}};
    start(&p[0], turns);
    start(&p[1], turns);
    sleep_ms(900);
    sleep_ms(900);
    finish(p, 2);
    double share = p[1].seconds / (p[0].seconds + p[1].seconds);
    if (share < 0.3 || share > 0.7) fail_msg("the short ones had %.0f%% of the time", share * 100);
    limn_turns_free(&turns);
}

static void test_three(void **state) {
    limn_turns *turns = turns_make();
    party p[3] = {
        {.piece_ms = 5, .pieces = 50}, {.piece_ms = 1, .pieces = 20}, {.piece_ms = 8, .pieces = 3}};
    for (int i = 0; i < 3; i++) start(&p[i], turns);
    sleep_ms(900);
    finish(p, 3);
    double all = p[0].seconds + p[1].seconds + p[2].seconds;
    for (int i = 0; i < 3; i++)
        if (p[i].seconds / all < 0.15) fail_msg("party %d had %.0f%%", i, p[i].seconds / all * 100);
    limn_turns_free(&turns);
}

/* A newcomer has the turn after the piece that is in work. */
static void test_newcomer(void **state) {
    limn_turns *turns = turns_make();
    party p[1] = {{.piece_ms = 30, .pieces = 1000}};
    limn_turn mine = {0};
    limn_turn_join(&mine, turns);
    start(&p[0], turns);
    while (atomic_load(&p[0].done) < 10) sleep_ms(1);
    for (int i = 0; i < 3; i++) {
        int before = atomic_load(&p[0].done);
        limn_turn_begin(&mine);
        assert_true(atomic_load(&p[0].done) - before <= 1);
        assert_int_equal(atomic_load(&inside), 0);
        limn_turn_end(&mine);
        sleep_ms(100);
    }
    finish(p, 1);
    limn_turn_join(&mine, NULL);
    limn_turns_free(&turns);
}

/* Who was away for long does not shut others out with the time that it did not use. */
static void test_no_hoard(void **state) {
    limn_turns *turns = turns_make();
    limn_turn mine = {0};
    limn_turn_join(&mine, turns);
    party p[1] = {{.piece_ms = 2, .pieces = 1000}};
    start(&p[0], turns);
    sleep_ms(900);
    limn_turn_begin(&mine);
    int before = atomic_load(&p[0].done);
    double began = limn_clock_now();
    while (atomic_load(&p[0].done) == before && limn_clock_now() - began < 5) {
        sleep_ms(1);
        limn_turn_offer(&mine);
    }
    assert_true(limn_clock_now() - began < 1);
    limn_turn_end(&mine);
    finish(p, 1);
    limn_turn_join(&mine, NULL);
    limn_turns_free(&turns);
}

/* Without turns nothing waits. */
static void test_alone(void **state) {
    limn_turn t = {0};
    limn_turn_begin(&t);
    limn_turn_offer(&t);
    limn_turn_end(&t);
    limn_turn_join(&t, NULL);
    assert_null(t.turns);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone), cmocka_unit_test(test_newcomer), cmocka_unit_test(test_fair),
        cmocka_unit_test(test_three), cmocka_unit_test(test_no_hoard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
