/* SPDX-License-Identifier: MIT */
/* Lanes, and what clients change about jobs: places, skipping, deleting and taking it back. */
#include "job/queue_impl.h"
#include "job_fixture.h"

static const char four_steps[] =
    "{\"prompt\": \"a fox\", \"steps\": 4, \"width\": 64, \"height\": 64}";

static limn_status ask(limn_queue *q, const char *prompt, limn_submitted *out, limn_err *err) {
    limn_params *p;
    limn_submit s = {.kind = LIMN_JOB_SEE};
    assert_ok(*err, limn_params_new(&p, LIMN_PARAMS_SEE, err));
    assert_ok(*err, limn_params_set(p, "prompt", prompt, LIMN_FROM_API, err));
    s.params = p;
    limn_status st = limn_queue_submit(q, &s, out, err);
    limn_params_free(&p);
    return st;
}

static void wait_running(limn_queue *q, const char *id) {
    for (int i = 0; i < 4000 && state_of(q, id) == LIMN_JOB_QUEUED; i++) sleep_ms(1);
    assert_int_equal(state_of(q, id), LIMN_JOB_RUNNING);
}

/* ---- lanes ---- */
/* A question does not wait behind a drawing, nor counts as one that waits before it. */
static void test_lanes(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 5);
    limn_err err = {0};
    limn_submitted first, next, see;
    limn_queue_stats stats;
    assert_ok(err, draw(q, "{\"steps\": 100}", NULL, &first, &err));
    wait_running(q, first.id);
    assert_ok(err, draw(q, "{\"steps\": 100}", NULL, &next, &err));
    assert_ok(err, ask(q, "what is here", &see, &err));
    assert_int_equal(see.position, 0);
    limn_job *j = ended(q, see.id);
    assert_int_equal(j->state, LIMN_JOB_SUCCEEDED);
    assert_int_equal(j->lane, LIMN_JOB_LANE_SEE);
    limn_job_free(&j);
    assert_int_equal(state_of(q, first.id), LIMN_JOB_RUNNING);
    assert_int_equal(state_of(q, next.id), LIMN_JOB_QUEUED);
    limn_queue_get_stats(q, &stats);
    assert_int_equal(stats.busy, 1);
    assert_int_equal(stats.lane_busy[LIMN_JOB_LANE_DRAW], 1);
    assert_ok(err, limn_queue_cancel(q, NULL, first.id, NULL, &err));
    assert_ok(err, limn_queue_cancel(q, NULL, next.id, NULL, &err));
    limn_queue_close(&q);
    folder_remove(dir);
}

/* The limit of waiting jobs is of all lanes together. */
static void test_lanes_share_room(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, &(limn_queue_options){.paused = true, .max_queued = 2}, 0);
    limn_err err = {0};
    limn_submitted s;
    assert_ok(err, draw(q, four_steps, NULL, &s, &err));
    assert_ok(err, ask(q, "one", &s, &err));
    assert_int_equal(ask(q, "two", &s, &err), LIMN_E_BUSY);
    assert_int_equal(draw(q, four_steps, NULL, &s, &err), LIMN_E_BUSY);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- places ---- */
typedef struct waiting {
    limn_queue *q;
    limn_submitted s[8];
    int n;
} waiting;

static void add(waiting *w, const char *owner, int priority) {
    limn_err err = {0};
    limn_submit more = {.owner = owner, .priority = priority};
    assert_ok(err, draw(w->q, four_steps, &more, &w->s[w->n++], &err));
}

/* The order in which jobs wait, as digits of their numbers. */
static void check_order(waiting *w, const char *want) {
    limn_err err = {0};
    char order[9] = "--------";
    for (int i = 0; i < w->n; i++) {
        limn_standing at;
        assert_ok(err, limn_queue_standing(w->q, NULL, w->s[i].id, &at, &err));
        if (at.position >= 0 && at.position < 8) order[at.position] = (char)('0' + i);
    }
    order[w->n] = 0;
    assert_string_equal(order, want);
}

static limn_status move(waiting *w, int job, const char *owner, int64_t to, int max) {
    limn_err err = {0};
    limn_queue_move how = {.position = &to, .max_priority = max};
    return limn_queue_move_job(w->q, owner, w->s[job].id, &how, &err);
}

static void test_move(void **state) {
    char *dir = folder_make();
    waiting w = {.q = queue_open(dir, &(limn_queue_options){.paused = true}, 0)};
    limn_err err = {0};
    for (int i = 0; i < 5; i++) add(&w, NULL, 0);
    check_order(&w, "01234");
    assert_ok(err, move(&w, 3, NULL, 0, 100));
    check_order(&w, "30124");
    assert_ok(err, move(&w, 3, NULL, 2, 100));
    check_order(&w, "01324");
    assert_ok(err, move(&w, 0, NULL, 99, 100));
    check_order(&w, "13240");
    int high = 7, low = -200;
    limn_queue_move how = {.priority = &high, .max_priority = 100};
    assert_ok(err, limn_queue_move_job(w.q, NULL, w.s[4].id, &how, &err));
    check_order(&w, "41320");
    assert_ok(err, move(&w, 0, NULL, 0, 100)); /* takes the priority of that place */
    check_order(&w, "04132");
    how.max_priority = 0;
    assert_int_equal(limn_queue_move_job(w.q, NULL, w.s[1].id, &how, &err), LIMN_E_VALUE);
    how.priority = &low;
    assert_int_equal(limn_queue_move_job(w.q, NULL, w.s[1].id, &how, &err), LIMN_E_VALUE);
    limn_job *j = job_of(w.q, w.s[0].id);
    assert_int_equal(j->priority, 7);
    limn_job_free(&j);
    limn_queue_close(&w.q); /* and it is kept */
    w.q = queue_open(dir, &(limn_queue_options){.paused = true}, 0);
    check_order(&w, "04132");
    limn_queue_resume(w.q);
    static const int order[] = {0, 4, 1, 3, 2};
    int64_t last = 0;
    for (int i = 0; i < 5; i++) {
        j = ended(w.q, w.s[order[i]].id);
        assert_true(j->started_ms >= last);
        last = j->finished_ms;
        limn_job_free(&j);
    }
    assert_int_equal(move(&w, 0, NULL, 0, 100), LIMN_E_CONFLICT);
    limn_queue_close(&w.q);
    folder_remove(dir);
}

/* Who moves own jobs changes nothing for others, and gets no priority that is not given. */
static void test_move_owners(void **state) {
    char *dir = folder_make();
    waiting w = {.q = queue_open(dir, &(limn_queue_options){.paused = true}, 0)};
    limn_err err = {0};
    add(&w, "anna", 0);
    add(&w, "ben", 0);
    add(&w, "anna", 0);
    add(&w, "ben", 0);
    add(&w, "anna", 0);
    check_order(&w, "01234");
    assert_ok(err, move(&w, 4, "anna", 0, 0));
    check_order(&w, "41032");
    assert_int_equal(move(&w, 1, "anna", 0, 0), LIMN_E_NOT_FOUND);
    int high = 5;
    limn_queue_move how = {.priority = &high, .max_priority = 100};
    assert_ok(err, limn_queue_move_job(w.q, NULL, w.s[2].id, &how, &err));
    check_order(&w, "24103");
    assert_ok(err, move(&w, 0, "anna", 0, 0)); /* not above the place of priority 5 */
    check_order(&w, "20143");
    limn_queue_close(&w.q);
    folder_remove(dir);
}

/* ---- skipping ---- */
static void test_skip(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 1);
    limn_err err = {0};
    limn_submitted s;
    limn_standing at = {0};
    assert_ok(err, draw(q, "{\"count\": 3, \"steps\": 300, \"seed\": 10}", NULL, &s, &err));
    while (at.step < 5) assert_ok(err, limn_queue_standing(q, NULL, s.id, &at, &err));
    assert_ok(err, limn_queue_skip(q, NULL, s.id, &err));
    while (at.image < 1) assert_ok(err, limn_queue_standing(q, NULL, s.id, &at, &err));
    limn_job *j = ended(q, s.id);
    assert_int_equal(j->state, LIMN_JOB_SUCCEEDED);
    assert_int_equal(j->n_artifacts, 2);
    assert_non_null(strstr(j->artifacts[0].recipe, "\"seed\": 11"));
    limn_job_free(&j);
    assert_int_equal(limn_queue_skip(q, NULL, s.id, &err), LIMN_E_CONFLICT);
    /* nothing is left of a single one */
    at = (limn_standing){0};
    assert_ok(err, draw(q, "{\"steps\": 900, \"prompt\": \"stub:slow\"}", NULL, &s, &err));
    while (at.step < 1) assert_ok(err, limn_queue_standing(q, NULL, s.id, &at, &err));
    assert_ok(err, limn_queue_skip(q, NULL, s.id, &err));
    j = ended(q, s.id);
    assert_int_equal(j->state, LIMN_JOB_CANCELLED);
    limn_job_free(&j);
    /* cancelling wins over skipping */
    at = (limn_standing){0};
    assert_ok(err, draw(q, "{\"steps\": 500, \"count\": 9}", NULL, &s, &err));
    while (at.step < 1) assert_ok(err, limn_queue_standing(q, NULL, s.id, &at, &err));
    assert_ok(err, limn_queue_cancel(q, NULL, s.id, NULL, &err));
    (void)limn_queue_skip(q, NULL, s.id, &err);
    j = ended(q, s.id);
    assert_int_equal(j->state, LIMN_JOB_CANCELLED);
    limn_job_free(&j);
    /* a question has one answer */
    assert_ok(err, ask(q, "stub:slow a b c d e f g h i j k l", &s, &err));
    wait_running(q, s.id);
    assert_ok(err, limn_queue_skip(q, NULL, s.id, &err));
    j = ended(q, s.id);
    assert_int_equal(j->state, LIMN_JOB_CANCELLED);
    limn_job_free(&j);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- pictures of jobs that run ---- */
static void test_early_artifacts(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 2);
    limn_err err = {0};
    limn_submitted s;
    limn_artifact a;
    limn_feed *feed;
    char sha[LIMN_SHA_LEN + 1] = "";
    assert_ok(err,
              draw(q, "{\"count\": 2, \"steps\": 100}", &(limn_submit){.owner = "anna"}, &s, &err));
    assert_ok(err, limn_queue_subscribe(q, &(limn_feed_options){.job = s.id}, &feed, &err));
    while (!sha[0]) {
        const limn_job_event *e = limn_feed_wait(feed, 5000, NULL);
        assert_non_null(e);
        if (e->kind == LIMN_JOB_EVENT_OUTPUT) memcpy(sha, e->artifact->sha, sizeof sha);
        limn_job_event_unref(&e);
    }
    limn_feed_close(&feed);
    assert_int_equal(state_of(q, s.id), LIMN_JOB_RUNNING);
    assert_ok(err, limn_queue_artifact(q, "anna", sha, &a, &err));
    assert_non_null(strstr(a.recipe, "\"steps\": 100"));
    limn_artifact_deinit(&a);
    assert_int_equal(limn_queue_artifact(q, "ben", sha, &a, &err), LIMN_E_NOT_FOUND);
    limn_job *j = job_of(q, s.id);
    assert_int_equal(j->n_artifacts, 1);
    assert_string_equal(j->artifacts[0].sha, sha);
    limn_job_free(&j);
    j = ended(q, s.id);
    assert_int_equal(j->n_artifacts, 2);
    assert_string_equal(j->artifacts[0].sha, sha);
    limn_job_free(&j);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- deleting and taking it back ---- */
static limn_job *draw_seed(limn_queue *q, int seed, const char *key) {
    limn_err err = {0};
    limn_submitted s;
    char json[64];
    snprintf(json, sizeof json, "{\"seed\": %d, \"steps\": 1}", seed);
    assert_ok(err, draw(q, json, &(limn_submit){.key = key}, &s, &err));
    return ended(q, s.id);
}

static bool has_artifact(limn_queue *q, const char *sha) {
    limn_artifact a;
    limn_err err = {0};
    bool found = limn_queue_artifact(q, NULL, sha, &a, &err) == LIMN_OK;
    if (found) limn_artifact_deinit(&a);
    return found;
}

static bool has_file(limn_queue *q, const char *sha) {
    void *data;
    size_t size;
    limn_err err = {0};
    bool found = limn_artifacts_read(limn_queue_artifacts(q), &data, &size, sha, &err) == LIMN_OK;
    if (found) limn_mem_free(data);
    return found;
}

static int count_jobs(limn_queue *q, bool deleted) {
    limn_job_query query = {.deleted = deleted, .with_artifacts = true};
    limn_job_page page;
    limn_err err = {0};
    assert_ok(err, limn_queue_list(q, &query, &page, &err));
    int n = page.count;
    limn_job_page_deinit(&page);
    return n;
}

static void test_delete(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    limn_job *a = draw_seed(q, 1, "key"), *b = draw_seed(q, 2, NULL), *none;
    const char *sha = a->artifacts[0].sha;
    assert_ok(err, limn_queue_delete(q, NULL, a->id, &err));
    assert_int_equal(limn_queue_get(q, NULL, a->id, &none, &err), LIMN_E_NOT_FOUND);
    assert_int_equal(limn_queue_delete(q, NULL, a->id, &err), LIMN_E_NOT_FOUND);
    assert_false(has_artifact(q, sha));
    assert_true(has_file(q, sha));
    assert_int_equal(count_jobs(q, false), 1);
    assert_int_equal(count_jobs(q, true), 1);
    limn_job *again = draw_seed(q, 1, "key"); /* its key is free */
    assert_string_not_equal(again->id, a->id);
    assert_int_equal(limn_queue_restore(q, "ben", a->id, &err), LIMN_E_NOT_FOUND);
    assert_ok(err, limn_queue_restore(q, NULL, a->id, &err));
    assert_int_equal(limn_queue_restore(q, NULL, a->id, &err), LIMN_E_NOT_FOUND);
    assert_int_equal(state_of(q, a->id), LIMN_JOB_SUCCEEDED);
    assert_true(has_artifact(q, sha));
    assert_ok(err, limn_queue_delete(q, NULL, a->id, &err));
    assert_ok(err, limn_queue_remove(q, NULL, a->id, &err));
    assert_true(has_file(q, sha)); /* the second run of the same request has it */
    assert_ok(err, limn_queue_remove(q, NULL, again->id, &err));
    assert_false(has_file(q, sha));
    assert_int_equal(count_jobs(q, true), 0);
    limn_queue_pause(q);
    limn_submitted s;
    assert_ok(err, draw(q, four_steps, NULL, &s, &err));
    assert_int_equal(limn_queue_delete(q, NULL, s.id, &err), LIMN_E_CONFLICT);
    limn_job_free(&a);
    limn_job_free(&b);
    limn_job_free(&again);
    limn_queue_close(&q);
    folder_remove(dir);
}

static void test_delete_artifact(void **state) {
    char *dir = folder_make(), sha[LIMN_SHA_LEN + 1];
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    limn_submitted s;
    assert_ok(err, draw(q, "{\"count\": 2, \"steps\": 1, \"seed\": 5}", NULL, &s, &err));
    limn_job *j = ended(q, s.id), *same = draw_seed(q, 5, NULL);
    memcpy(sha, j->artifacts[0].sha, sizeof sha);
    assert_string_equal(same->artifacts[0].sha, sha);
    limn_job_free(&j);
    assert_int_equal(limn_queue_delete_artifact(q, NULL, s.id, "../x", false, &err),
                     LIMN_E_NOT_FOUND);
    assert_ok(err, limn_queue_delete_artifact(q, NULL, s.id, sha, false, &err));
    assert_int_equal(limn_queue_delete_artifact(q, NULL, s.id, sha, false, &err), LIMN_E_NOT_FOUND);
    j = job_of(q, s.id);
    assert_int_equal(j->n_artifacts, 1);
    assert_string_not_equal(j->artifacts[0].sha, sha);
    limn_job_free(&j);
    assert_true(has_artifact(q, sha)); /* of the other job */
    assert_ok(err, limn_queue_restore_artifact(q, NULL, s.id, sha, &err));
    j = job_of(q, s.id);
    assert_int_equal(j->n_artifacts, 2);
    limn_job_free(&j);
    assert_ok(err, limn_queue_remove(q, NULL, same->id, &err));
    assert_true(has_file(q, sha));
    assert_ok(err, limn_queue_delete_artifact(q, NULL, s.id, sha, false, &err));
    assert_false(has_artifact(q, sha));
    assert_true(has_file(q, sha));
    assert_ok(err, limn_queue_delete_artifact(q, NULL, s.id, sha, true, &err));
    assert_false(has_file(q, sha));
    assert_int_equal(limn_queue_restore_artifact(q, NULL, s.id, sha, &err), LIMN_E_NOT_FOUND);
    limn_job_free(&same);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* What nobody took back goes after its time, with its files. */
static void test_trash_ends(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, &(limn_queue_options){.trash_ms = 300, .trim_every_ms = 20}, 0);
    limn_err err = {0};
    limn_submitted s;
    limn_job *a = draw_seed(q, 1, NULL);
    assert_ok(err, draw(q, "{\"count\": 2, \"steps\": 1, \"seed\": 5}", NULL, &s, &err));
    limn_job *b = ended(q, s.id);
    assert_ok(err, limn_queue_delete(q, NULL, a->id, &err));
    assert_ok(err, limn_queue_delete_artifact(q, NULL, b->id, b->artifacts[1].sha, false, &err));
    assert_true(has_file(q, a->artifacts[0].sha));
    for (int i = 0;
         i < 400 && (has_file(q, a->artifacts[0].sha) || has_file(q, b->artifacts[1].sha)); i++)
        sleep_ms(10);
    assert_false(has_file(q, a->artifacts[0].sha));
    assert_false(has_file(q, b->artifacts[1].sha));
    assert_true(has_file(q, b->artifacts[0].sha));
    assert_int_equal(limn_queue_restore(q, NULL, a->id, &err), LIMN_E_NOT_FOUND);
    assert_int_equal(state_of(q, b->id), LIMN_JOB_SUCCEEDED);
    limn_job_free(&a);
    limn_job_free(&b);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* Without a time there is no way back. */
static void test_no_trash(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, &(limn_queue_options){.trash_ms = -1}, 0);
    limn_err err = {0};
    limn_job *a = draw_seed(q, 1, NULL);
    assert_ok(err, limn_queue_delete(q, NULL, a->id, &err));
    assert_false(has_file(q, a->artifacts[0].sha));
    assert_int_equal(limn_queue_restore(q, NULL, a->id, &err), LIMN_E_NOT_FOUND);
    limn_job_free(&a);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* What a small job needs beside its steps says little about the steps of a large one. */
static void test_estimates(void **state) {
    line *l = limn_mem_calloc(1, sizeof *l);
    assert_non_null(l);
    assert_true(line_estimate(l, LIMN_JOB_DRAW, "a", 100) < 0);
    line_learn(l, LIMN_JOB_DRAW, "a", 100, 50);
    line_learn(l, LIMN_JOB_DRAW, "a", 1, 4);
    double large = line_estimate(l, LIMN_JOB_DRAW, "a", 100);
    assert_true(large > 50 && large < 60);
    assert_true(line_estimate(l, LIMN_JOB_DRAW, "b", 100) < 0);
    /* and what is newer counts for more */
    for (int i = 0; i < 20; i++) line_learn(l, LIMN_JOB_DRAW, "a", 100, 10);
    large = line_estimate(l, LIMN_JOB_DRAW, "a", 100);
    assert_true(large > 9.9 && large < 10.2);
    limn_mem_free(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lanes),      cmocka_unit_test(test_lanes_share_room),
        cmocka_unit_test(test_move),       cmocka_unit_test(test_move_owners),
        cmocka_unit_test(test_skip),       cmocka_unit_test(test_early_artifacts),
        cmocka_unit_test(test_delete),     cmocka_unit_test(test_delete_artifact),
        cmocka_unit_test(test_trash_ends), cmocka_unit_test(test_no_trash),
        cmocka_unit_test(test_estimates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
