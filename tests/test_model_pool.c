/* SPDX-License-Identifier: MIT */
/* Two lanes over one memory budget: who waits, who is closed, what ends a wait. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/cancel.h"
#include "job/model_pool.h"
#include "limn.h"

#define MB ((int64_t)1 << 20)

static void sleep_ms(int ms) {
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* A budget of 1000 MB. Engines open their files when they draw, so these models need none. */
static limn_model_pool *pool_make(void) {
    limn_err err = {0};
    limn_params *app;
    limn_model_pool *p;
    assert_int_equal(limn_params_new(&app, LIMN_PARAMS_APP, &err), LIMN_OK);
    assert_int_equal(limn_params_set(app, "memory", "1000M", LIMN_FROM_API, &err), LIMN_OK);
    assert_int_equal(limn_params_set(app, "cache_dir", "none", LIMN_FROM_API, &err), LIMN_OK);
    assert_int_equal(limn_model_pool_new(&p, app, &err), LIMN_OK);
    limn_params_free(&app);
    return p;
}

static limn_shelf_item model(const char *name, int64_t megabytes) {
    return (limn_shelf_item){
        .kind = LIMN_SHELF_DRAW, .name = (char *)(uintptr_t)name, .bytes = megabytes * MB};
}

/* One lane that asks for a model, on a thread of its own. */
typedef struct asking {
    limn_model_pool *pool;
    limn_shelf_item item;
    limn_model_user who;
    limn_engine *engine;
    limn_status st;
    atomic_int waited, done;
    pthread_t thread;
} asking;

static void waits(void *user) {
    atomic_fetch_add(&((asking *)user)->waited, 1);
}

static void *ask_main(void *user) {
    asking *a = user;
    limn_err err = {0};
    a->st = limn_model_pool_draw(a->pool, &a->engine, &a->item, &a->who, &err);
    atomic_store(&a->done, 1);
    return NULL;
}

static void ask(asking *a, limn_model_pool *p, limn_job_lane lane, limn_shelf_item item,
                limn_cancel *cancel) {
    *a = (asking){.pool = p, .item = item};
    a->who = (limn_model_user){.lane = lane, .cancel = cancel, .waits = waits, .user = a};
    assert_int_equal(pthread_create(&a->thread, NULL, ask_main, a), 0);
}

static void wait_for(atomic_int *what) {
    for (int i = 0; i < 5000 && !atomic_load(what); i++) sleep_ms(1);
    assert_int_equal(atomic_load(what), 1);
}

static limn_status answer(asking *a) {
    pthread_join(a->thread, NULL);
    return a->st;
}

static bool is_open(limn_model_pool *p, const char *name) {
    return limn_model_pool_memory_of(p, LIMN_SHELF_DRAW, name) >= 0;
}

static void test_both_fit(void **state) {
    limn_model_pool *p = pool_make();
    asking a, b;
    int64_t budget, used;
    int loaded;
    ask(&a, p, LIMN_JOB_LANE_DRAW, model("a", 200), NULL);
    assert_int_equal(answer(&a), LIMN_OK);
    ask(&b, p, LIMN_JOB_LANE_SEE, model("b", 200), NULL);
    assert_int_equal(answer(&b), LIMN_OK);
    assert_int_equal(b.waited, 0);
    limn_model_pool_memory(p, &budget, &used, &loaded);
    assert_int_equal(budget, 1000 * MB);
    assert_int_equal(used, 800 * MB); /* twice the files while they are in use */
    assert_int_equal(loaded, 2);
    limn_model_pool_settle(p, LIMN_JOB_LANE_DRAW);
    limn_model_pool_settle(p, LIMN_JOB_LANE_SEE);
    limn_model_pool_memory(p, &budget, &used, &loaded);
    assert_int_equal(used, 400 * MB);
    limn_model_pool_free(&p);
}

static void test_waits_for_memory(void **state) {
    limn_model_pool *p = pool_make();
    asking a, b, c;
    ask(&a, p, LIMN_JOB_LANE_DRAW, model("a", 300), NULL);
    assert_int_equal(answer(&a), LIMN_OK);
    ask(&b, p, LIMN_JOB_LANE_SEE, model("b", 300), NULL);
    wait_for(&b.waited);
    sleep_ms(150);
    assert_int_equal(atomic_load(&b.done), 0);
    assert_true(is_open(p, "a"));
    limn_model_pool_settle(p, LIMN_JOB_LANE_DRAW); /* 300 stay, 600 are asked for: both fit now */
    assert_int_equal(answer(&b), LIMN_OK);
    assert_int_equal(b.waited, 1);
    assert_true(is_open(p, "a"));
    limn_model_pool_settle(p, LIMN_JOB_LANE_SEE);
    ask(&c, p, LIMN_JOB_LANE_SEE, model("c", 350), NULL); /* 300 + 300 + 700: the oldest goes */
    assert_int_equal(answer(&c), LIMN_OK);
    assert_int_equal(c.waited, 0);
    assert_false(is_open(p, "a"));
    assert_true(is_open(p, "b"));
    limn_model_pool_free(&p);
}

static void test_cancel_ends_waiting(void **state) {
    limn_model_pool *p = pool_make();
    limn_cancel *cancel;
    limn_err err = {0};
    asking a, b;
    assert_int_equal(limn_cancel_new(&cancel, &err), LIMN_OK);
    ask(&a, p, LIMN_JOB_LANE_DRAW, model("a", 400), NULL);
    assert_int_equal(answer(&a), LIMN_OK);
    ask(&b, p, LIMN_JOB_LANE_SEE, model("b", 400), cancel);
    wait_for(&b.waited);
    limn_cancel_set(cancel);
    assert_int_equal(answer(&b), LIMN_E_CANCELLED);
    assert_false(is_open(p, "b"));
    limn_cancel_free(&cancel);
    limn_model_pool_free(&p);
}

/* What is larger than the budget is tried alone, and not beside what another lane holds. */
static void test_too_large(void **state) {
    limn_model_pool *p = pool_make();
    asking a, b;
    ask(&a, p, LIMN_JOB_LANE_DRAW, model("a", 10), NULL);
    assert_int_equal(answer(&a), LIMN_OK);
    ask(&b, p, LIMN_JOB_LANE_SEE, model("b", 4000), NULL);
    wait_for(&b.waited);
    limn_model_pool_settle(p, LIMN_JOB_LANE_DRAW);
    assert_int_equal(answer(&b), LIMN_OK);
    assert_false(is_open(p, "a"));
    limn_model_pool_free(&p);
}

/* One thread at a time has a model in hand. */
static void test_same_model(void **state) {
    limn_model_pool *p = pool_make();
    asking a, b, again;
    ask(&a, p, LIMN_JOB_LANE_DRAW, model("a", 10), NULL);
    assert_int_equal(answer(&a), LIMN_OK);
    ask(&again, p, LIMN_JOB_LANE_DRAW, model("a", 10), NULL); /* the next cell of a grid */
    assert_int_equal(answer(&again), LIMN_OK);
    assert_ptr_equal(again.engine, a.engine);
    ask(&b, p, LIMN_JOB_LANE_SEE, model("a", 10), NULL);
    wait_for(&b.waited);
    limn_model_pool_settle(p, LIMN_JOB_LANE_DRAW);
    assert_int_equal(answer(&b), LIMN_OK);
    assert_ptr_equal(b.engine, a.engine);
    limn_model_pool_settle(p, LIMN_JOB_LANE_SEE);
    limn_err err = {0};
    assert_int_equal(limn_model_pool_close_one(p, LIMN_SHELF_DRAW, "a", &err), LIMN_OK);
    assert_int_equal(limn_model_pool_close_one(p, LIMN_SHELF_DRAW, "a", &err), LIMN_E_NOT_FOUND);
    limn_model_pool_free(&p);
}

/* More models than places: the one that was used least recently goes. */
static void test_places(void **state) {
    limn_model_pool *p = pool_make();
    static const char *const names[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
    for (int i = 0; i < 10; i++) {
        asking a;
        ask(&a, p, LIMN_JOB_LANE_DRAW, model(names[i], 1), NULL);
        assert_int_equal(answer(&a), LIMN_OK);
        limn_model_pool_settle(p, LIMN_JOB_LANE_DRAW);
    }
    assert_false(is_open(p, "0"));
    assert_false(is_open(p, "1"));
    assert_true(is_open(p, "2"));
    limn_model_pool_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_fit),
        cmocka_unit_test(test_waits_for_memory),
        cmocka_unit_test(test_cancel_ends_waiting),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_same_model),
        cmocka_unit_test(test_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
